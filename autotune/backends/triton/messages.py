"""The orders of a Triton session to its compile workers and GPU workers, and their replies.

One worker answers one order after another. `TensorArgument` and its like describe the arguments of a kernel to compile
workers, which have no GPU; `Gpu` and `CompiledKernel` tell the session a device's limits and a kernel's needs.
"""

import msgspec
from msgspec import Struct

from autotune.core.outcomes import Detail, Failed
from autotune.shell.processes.messages import Broken, JobOrder


class TensorArgument(Struct, frozen=True, kw_only=True, tag="tensor"):
    """Everything that Triton's dispatcher can know of a tensor. offset: its address modulo 256 bytes."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0


class PlainArgument(Struct, frozen=True, tag="plain"):
    """An argument that is its own description."""

    value: bool | int | float | str | None


class OpaqueArgument(Struct, frozen=True, tag="opaque"):
    """An argument that cannot be described: configs that need it are compiled in the GPU worker. kind: its type."""

    kind: str


DescribedArgument = TensorArgument | PlainArgument | OpaqueArgument


class DescribedArguments(Struct, frozen=True):
    """The arguments of one workload, by name."""

    arguments: tuple[tuple[str, DescribedArgument], ...]


class ArgumentName(Struct, frozen=True, tag="named"):
    """The argument of this name, a tensor."""

    name: str


PassedArgument = ArgumentName | PlainArgument


class RecordedLaunch(Struct, frozen=True, kw_only=True):
    """One launch of a compiled kernel, which can be replayed without the kernel's source; see `launches.py`.

    hash: as in CompiledKernel. files: the paths of its binary and its metadata, by their names in Triton's cache.
    signature: Triton's type of each parameter, by name. constants: the places of the parameters that are constants.
    arguments: one for each parameter; a constant is None.
    """

    hash: str
    files: dict[str, str]
    grid: tuple[int, int, int]
    signature: dict[str, str]
    constants: tuple[tuple[int, ...], ...]
    arguments: tuple[PassedArgument, ...]


class Gpu(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A device as its driver describes it; None where the driver does not tell.

    target: "sm_90" or "gfx942", for example. shared_bytes: of shared memory, the most that one block may have.
    registers: of one multiprocessor. threads: the most in one block. l2_bytes: of the second-level cache.
    """

    name: str
    target: str = ""
    shared_bytes: int | None = None
    registers: int | None = None
    threads: int = 1024
    multiprocessors: int = 1
    l2_bytes: int = 0


class CompiledKernel(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The needs of one compiled kernel, known before it runs; None where the binary does not tell.

    hash: Triton's, the name of its folder in Triton's cache. registers, spill_bytes: of one thread. agprs, sgprs: AMD's
    accumulation registers, which `registers` counts, too, from gfx90a on, and scalar registers. threads: of one block.
    blocks: that form one cluster.
    """

    name: str
    hash: str
    shared_bytes: int
    threads: int
    registers: int | None = None
    spill_bytes: int | None = None
    agprs: int | None = None
    sgprs: int | None = None
    blocks: int = 1


class OpenOrder(Struct, frozen=True, tag="open"):
    """Take over the workload of a session, from a file by `kernel.pack_payload`. The reply is ReadyReply, or
    NotOpened."""

    path: str


class CloseOrder(Struct, frozen=True, tag="close"):
    """Drop the workload, and return the memory that was lent. The reply is ReadyReply."""


class CompileOrder(JobOrder, frozen=True, tag="compile"):
    """Compile every kernel that this config (one JSON object) launches. The reply is Compiled, or NotCompiled."""

    config: str


class MeasureOrder(JobOrder, frozen=True, kw_only=True, tag="measure"):
    """Check and time this config; begin no sample after `budget_s` seconds. The reply is MeasureReply, or Refused.

    cutoff_ms: a slower config is cut off after a few runs. near_ms: a slower one gets few runs, as it is no pick.
    default_ms: the time of the default config on each workload, where the limits are relative to it. launches: what to
    launch, for a worker that replays.
    """

    config: str
    cutoff_ms: float | None
    budget_s: float
    default_ms: tuple[float, ...] | None = None
    near_ms: float | None = None
    launches: tuple[RecordedLaunch, ...] = ()


class PrepareOrder(JobOrder, frozen=True, kw_only=True, tag="prepare"):
    """Check this config and keep it as number `slot`, for samples to come. The reply is PrepareReply, or Refused.

    launches: see MeasureOrder.
    """

    config: str
    slot: int
    launches: tuple[RecordedLaunch, ...] = ()


class SampleOrder(Struct, frozen=True, tag="sample"):
    """Take one sample of each workload with the config in `slot`. The reply is SampleReply, or Refused."""

    slot: int


class VerifyOrder(Struct, frozen=True, tag="verify"):
    """Check the config in this slot once more. The reply is PrepareReply, or Refused."""

    slot: int


class ForgetOrder(Struct, frozen=True, tag="forget"):
    """Drop all configs that are kept. The reply is an empty SampleReply."""


TritonOrder = (
    CompileOrder | OpenOrder | CloseOrder | MeasureOrder | PrepareOrder | SampleOrder | VerifyOrder | ForgetOrder
)


class ReadyReply(Struct, frozen=True, tag="ready"):
    """The worker can take orders. gpu: the device of a GPU worker. arguments: of each workload, for compile workers."""

    gpu: Gpu | None = None
    arguments: tuple[DescribedArguments, ...] = ()


class NotOpened(Struct, frozen=True, tag="not_opened"):
    """The workload cannot be used in this process. lasting: nor can another one of the same program."""

    message: str
    lasting: bool


class Compiled(Struct, frozen=True, tag="compiled"):
    """The binaries are in Triton's cache. kernels: each once. launches: in their order; empty where they cannot be
    recorded."""

    seconds: float
    kernels: tuple[CompiledKernel, ...]
    launches: tuple[RecordedLaunch, ...] = ()


class NotCompiled(Struct, frozen=True, tag="not_compiled"):
    """compiler: whether Triton refused the config; if not, the config failed before, for want of real arguments."""

    seconds: float
    message: str
    compiler: bool


class MeasureReply(Struct, frozen=True, kw_only=True, tag="measured"):
    """times_ms: the samples of each workload, in the order in which they were taken. cut: there are only a few, since
    the config is clearly slow. began: on the system's monotonic clock, in seconds. keys: of its kernels in Triton's
    cache, as far as they were looked up. compile_s: seconds that Triton took in this worker.
    """

    times_ms: tuple[tuple[float, ...], ...]
    run_s: float
    cut: bool = False
    details: dict[str, Detail] = {}
    began: float = 0.0
    keys: tuple[str, ...] = ()
    compile_s: float = 0.0


class PrepareReply(Struct, frozen=True, tag="prepared"):
    """The config is checked and warm. keys: see MeasureReply."""

    run_s: float
    keys: tuple[str, ...] = ()


class SampleReply(Struct, frozen=True, tag="sampled"):
    """One sample of each workload, in milliseconds, and the gauges of the device just after it."""

    times_ms: tuple[float, ...]
    run_s: float
    gauges: dict[str, Detail] = {}


class Refused(Struct, frozen=True, kw_only=True, tag="refused"):
    """The config has failed. spoilt: nothing in this process can be trusted any more, and it must end. suspect: an
    earlier config may have caused the failure, so that this one deserves another try in a fresh process. began: see
    MeasureReply.
    """

    failed: Failed
    spoilt: bool = False
    suspect: bool = False
    began: float = 0.0


TritonReply = (
    ReadyReply | NotOpened | Broken | Compiled | NotCompiled | MeasureReply | PrepareReply | SampleReply | Refused
)

_orders: msgspec.msgpack.Decoder[TritonOrder] = msgspec.msgpack.Decoder(TritonOrder)
_replies: msgspec.msgpack.Decoder[TritonReply] = msgspec.msgpack.Decoder(TritonReply)


def decode_order(body: bytes) -> TritonOrder:
    """The order in the body of a frame; raises msgspec.DecodeError for anything else."""
    return _orders.decode(body)


def decode_reply(body: bytes) -> TritonReply:
    """The reply in the body of a frame; raises msgspec.DecodeError for anything else."""
    return _replies.decode(body)
