"""What the parent says to compile workers and to the process of a GPU, and what they answer.

Errors on one line. Triton's begin with the source and say at the end what is the matter with it.
"""

import msgspec
from msgspec import Struct

from autotune.core.outcomes import Detail, Failed
from autotune.shell.formatting import LONGEST_MESSAGE, describe_error
from autotune.shell.processes.messages import Broken, JobOrder


class TensorArgument(Struct, frozen=True, tag="tensor"):
    """What Triton's dispatcher can know of a tensor: `offset` is its address modulo 256 bytes."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0


class PlainArgument(Struct, frozen=True, tag="plain"):
    """An argument that is its own description."""

    value: bool | int | float | str | None


class OpaqueArgument(Struct, frozen=True, tag="opaque"):
    """An argument that cannot be described: what needs it is compiled where it is run."""

    kind: str


DescribedArgument = TensorArgument | PlainArgument | OpaqueArgument


class DescribedArguments(Struct, frozen=True):
    """The arguments of one workload, by name."""

    arguments: tuple[tuple[str, DescribedArgument], ...]


class Gpu(Struct, frozen=True, omit_defaults=True):
    """A device as its driver describes it. None: not known, or without meaning for it.

    target: "sm_90", …; arch: 90, …. shared_bytes: the most that one block may have. registers: of one multiprocessor;
    threads: the most in one block. l2_bytes: of its second-level cache.
    """

    name: str
    target: str = ""
    shared_bytes: int | None = None
    registers: int | None = None
    threads: int = 1024
    multiprocessors: int = 1
    l2_bytes: int = 0


class CompiledKernel(Struct, frozen=True, omit_defaults=True):
    """What is known of one compiled kernel before it runs; None: the binary does not tell.

    registers, spill_bytes: of one thread. threads: of one block. blocks: that form one cluster.
    """

    name: str
    hash: str
    shared_bytes: int
    threads: int
    registers: int | None = None
    spill_bytes: int | None = None
    blocks: int = 1


class CompileOrder(JobOrder, frozen=True, tag="compile"):
    """Compile all that this config (one JSON object) launches. The reply is Compiled, or NotCompiled."""

    config: str


class MeasureOrder(JobOrder, frozen=True, tag="measure"):
    """Check and time this config; begin no sample after `budget_s` seconds. The reply is MeasureReply, or Refused.

    default_ms: what the default config takes on each workload, where the limits are relative to it.
    """

    config: str
    cutoff_ms: float | None
    budget_s: float
    default_ms: tuple[float, ...] | None = None
    near_ms: float | None = None


class PrepareOrder(JobOrder, frozen=True, tag="prepare"):
    """Check this config and keep it as number `slot`, for samples to come. The reply is PrepareReply, or Refused."""

    config: str
    slot: int


class SampleOrder(Struct, frozen=True, tag="sample"):
    """Take one sample of each workload of what is kept as `slot`. The reply is SampleReply, or Refused."""

    slot: int


class VerifyOrder(Struct, frozen=True, tag="verify"):
    """Check the config in this slot once more. The reply is PrepareReply, or Refused."""

    slot: int


class ForgetOrder(Struct, frozen=True, tag="forget"):
    """Drop all that is kept. The reply is SampleReply, with nothing in it."""


TritonOrder = CompileOrder | MeasureOrder | PrepareOrder | SampleOrder | VerifyOrder | ForgetOrder


class ReadyReply(Struct, frozen=True, tag="ready"):
    """The process can take orders. gpu: what it runs on; arguments: of each workload, for who compiles."""

    gpu: Gpu | None = None
    arguments: tuple[DescribedArguments, ...] = ()


class Compiled(Struct, frozen=True, tag="compiled"):
    """The binaries are in Triton's cache. kernels: what each needs, in the order of launching."""

    seconds: float
    kernels: tuple[CompiledKernel, ...]


class NotCompiled(Struct, frozen=True, tag="not_compiled"):
    """compiler: Triton refused the config; else it was not got as far as that without real arguments."""

    seconds: float
    message: str
    compiler: bool


class MeasureReply(Struct, frozen=True, tag="measured"):
    """times_ms: the samples of each workload, in their order; cut: there are few, for it is clearly slow.

    began: by the system's monotonic clock. keys: in Triton's cache, of what it launches, as far as it was looked up.
    """

    times_ms: tuple[tuple[float, ...], ...]
    run_s: float
    cut: bool = False
    details: dict[str, Detail] = {}
    began: float = 0.0
    keys: tuple[str, ...] = ()


class PrepareReply(Struct, frozen=True, tag="prepared"):
    """Checked and warm. keys: as of MeasureReply."""

    run_s: float
    keys: tuple[str, ...] = ()


class SampleReply(Struct, frozen=True, tag="sampled"):
    """One sample of each workload, in milliseconds, and what the device was like just after."""

    times_ms: tuple[float, ...]
    run_s: float
    gauges: dict[str, Detail] = {}


class Refused(Struct, frozen=True, tag="refused"):
    """The config has failed. spoilt: nothing more can be trusted in this process, which must end.

    suspect: an earlier config may have caused it, so that this one deserves another try in a fresh process.
    began: by the system's monotonic clock.
    """

    failed: Failed
    spoilt: bool = False
    suspect: bool = False
    began: float = 0.0


TritonReply = ReadyReply | Broken | Compiled | NotCompiled | MeasureReply | PrepareReply | SampleReply | Refused

_orders: msgspec.msgpack.Decoder[TritonOrder] = msgspec.msgpack.Decoder(TritonOrder)
_replies: msgspec.msgpack.Decoder[TritonReply] = msgspec.msgpack.Decoder(TritonReply)


def decode_order(body: bytes) -> TritonOrder:
    """The order in a frame's body; raises msgspec.DecodeError for anything else."""
    return _orders.decode(body)


def decode_reply(body: bytes) -> TritonReply:
    """The reply in a frame's body; raises msgspec.DecodeError for anything else."""
    return _replies.decode(body)


HEAD = 120


def both_ends(error: BaseException) -> str:
    """The kind of the error and how it begins, and how it ends where that is too long."""
    short = describe_error(error)
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return short if len(text) <= LONGEST_MESSAGE else f"{text[:HEAD]} … {text[HEAD - LONGEST_MESSAGE + 3 :]}"
