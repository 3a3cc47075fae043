"""The evaluator of one call of a decorated kernel.

Configs are compiled side by side in forks of this program, which have the kernel and its arguments in memory, and timed
by one of four kinds of workers.

- "process": the program's GPU process, to which the tensors are lent and the recorded launches sent.
- "first_ready": that process if it is ready when the first config is compiled, else this one in the same way.
- "fork": a fork of this program, where Triton interprets kernels.
- "here": this process launches the kernel itself, for hooks, a user's `do_bench`, and arguments that cannot be lent.
"""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from autotune.backends.triton import compile_worker, compiler, gpu_worker, messages, processes, session_cache
from autotune.backends.triton.arguments import ArgumentSet
from autotune.backends.triton.gpu_sources import FirstReadyGpu, ForkedGpus, GpuSource, LocalGpu, SharedGpu
from autotune.backends.triton.gpu_worker import GpuBenchmark, GpuPayload, GpuWorker, TimingOptions, benchmark_of
from autotune.backends.triton.jobs import SessionRules
from autotune.backends.triton.kernel import Launch, pack_payload
from autotune.backends.triton.launches import RecordedKernel
from autotune.backends.triton.local_gpu import LocalPool, Obey
from autotune.backends.triton.prepared_arguments import CheckSpec, PreparedArguments
from autotune.backends.triton.session import TritonSession
from autotune.backends.triton.targets import target_of_properties
from autotune.backends.triton.timing import CudaDevice, TimingDevice, WorkloadObjective
from autotune.backends.triton_decorator.do_bench import DoBench, DoBenchBenchmark, synchronize
from autotune.backends.triton_decorator.launcher import Launcher
from autotune.core.errors import EvaluatorError
from autotune.core.formatting import describe_error
from autotune.core.outcomes import Detail
from autotune.core.search.messages import Event
from autotune.core.space import Space
from autotune.shell.evaluators.protocol import Evaluator, clock_after
from autotune.shell.processes import os_process
from autotune.shell.processes.fork_server import ANSWER_TIMEOUT_S, ForkServer
from autotune.shell.settings import timeout_setting
from autotune.shell.timeline import Timeline

TimedIn = Literal["process", "first_ready", "fork", "here"]
"""The kind of worker; see the head of this file."""

_AHEAD = 4
"""Configs queued for the compile workers although none is free, as in `TritonEvaluator`."""


class CallGpu(NamedTuple):
    """A GPU of NVIDIA or AMD. target: what to compile for, as "sm_90". visible: its name among the visible ones."""

    target: str
    visible: str


def current_gpu() -> CallGpu:
    """The GPU that kernels of this thread are launched on; raises EvaluatorError for one that nothing compiles for."""
    import torch

    number = torch.cuda.current_device()
    target = target_of_properties(torch.cuda.get_device_properties(number))
    return CallGpu(target, processes.visible_gpus((number,))[0])


@dataclass(frozen=True, eq=False, kw_only=True)
class CallEvaluator(Evaluator):
    """launcher: of the kernel. arguments: of the launcher, by name. spec: how a run is checked.

    device: torch's name for the kind of device. target: what to compile for, as "sm_90"; None: nothing is compiled
    ahead. visible: the GPU, as CUDA_VISIBLE_DEVICES names it. timing: of all kinds but "here". extends: whether
    comparisons go on until they are decided. compiles: whether Triton compiles, so that its cache must be kept free of
    losing configs. do_bench, pre_hook, post_hook, restore: of "here"; see `DoBenchBenchmark`.
    """

    launcher: Launcher
    arguments: Mapping[str, Any]
    spec: CheckSpec
    timed_in: TimedIn
    device: str
    target: str | None = None
    visible: str = ""
    timing: TimingOptions
    extends: bool = True
    compiles: bool = True
    do_bench: DoBench
    pre_hook: Callable[..., Any] | None = None
    post_hook: Callable[..., Any] | None = None
    restore: Callable[[], None] | None = None

    @property
    def rebuilds(self) -> bool:
        """False: binaries are kept in Triton's cache."""
        return False

    def describe(self) -> dict[str, Detail]:
        """Kind, and the function that times, for the journal's header."""
        if self.timed_in != "here":
            return {"kind": "triton_call", "timed_in": self.timed_in}
        return {"kind": "triton_in_process", "do_bench": getattr(self.do_bench, "__qualname__", "given")}

    def open(self, space: Space, past: Sequence[Event] = ()) -> TritonSession:
        """A session; raises EvaluatorError where the reference fails, or no process can be started."""
        workers = processes.default_compile_workers(1)
        layout = processes.ProcessLayout(
            device="cuda" if self.target is not None else self.device,
            target=self.target,
            visible=(self.visible,),
            compile_workers=workers,
        )
        with ExitStack() as stack:
            folder, keys = self._session_folder(stack)
            gpus = self._gpu_source(keys)
            try:
                compiling = self._start_compilers() if self.target is not None else None
            except BaseException:
                gpus.close()
                raise
            started = processes.Processes(
                layout,
                compiling=compiling,
                gpus=gpus,
                servers={} if compiling is None else {"fork server of compilers": compiling},
                keep=partial(_keep_kernels, folder),
                owners=tuple(self.arguments.values()),
                resources=stack.pop_all(),
            )
        return TritonSession(started, self._rules(workers), clock_after(past), Timeline(None), past)

    def _rules(self, workers: int) -> SessionRules:
        return SessionRules(
            compile_timeout_s=timeout_setting("compile_timeout", 60.0),
            run_timeout_s=timeout_setting("benchmark_timeout", 30.0),
            objective=WorkloadObjective(),
            names=("0",),
            ahead=max(1, min(_AHEAD, workers // 2)),
            replays=self.timed_in in ("process", "first_ready"),
            extends=self.extends,
        )

    def _session_folder(self, stack: ExitStack) -> tuple[str, list[str]]:
        """A folder for this session's kernels, and the list of the keys that this thread looks up in Triton's cache."""
        if self.compiles:
            with suppress(OSError):  # where nothing can be written, everything goes to Triton's cache
                folder = stack.enter_context(session_cache.session_folder())
                return folder, stack.enter_context(session_cache.use_folder(folder))
        return "", []

    def _start_compilers(self) -> ForkServer:
        scratch = os_process.scratch_folder()
        assert self.target is not None, "there is a target to compile for"
        load = partial(compile_worker.load_here, self._launch(), self.arguments, self.target, scratch)
        compiler.finish_hashing_triton()
        try:
            return ForkServer.from_program(load, compile_worker.run, scratch, ANSWER_TIMEOUT_S, ends_alone=True)
        except BaseException:
            os.rmdir(scratch)
            raise

    def _launch(self) -> Launch:
        return Launch(build=self.launcher)

    def _gpu_source(self, keys: list[str]) -> GpuSource:
        if self.timed_in == "here":
            return LocalGpu(LocalPool(lambda: self._start_here(keys), partial(synchronize, self.device)))
        if self.timed_in == "process":
            return self._share()
        if self.timed_in == "fork":
            return self._fork()
        local = LocalPool(self._start_replay, partial(synchronize, self.device))
        return FirstReadyGpu(self._share, local)

    def _fork(self) -> ForkedGpus:
        scratch = os_process.scratch_folder()

        def load() -> GpuPayload:
            import torch

            torch.set_num_threads(1)  # the threads of the program have not been forked with it
            os.environ["TMPDIR"] = tempfile.tempdir = scratch
            return GpuPayload(self._make_benchmark)

        try:
            server = ForkServer.from_program(load, gpu_worker.run, scratch)
        except BaseException:
            os.rmdir(scratch)
            raise
        return ForkedGpus(server, "interpreter", (self.visible,), own=True)

    def _make_benchmark(self, device: TimingDevice, compiled_here: Callable[[], int]) -> GpuBenchmark:
        sets = (ArgumentSet(dict(self.arguments)),)
        return GpuBenchmark(device, self._launch(), None, sets, self.spec, WorkloadObjective(), self.timing)

    def _share(self) -> SharedGpu:
        processes.release_cached_memory()
        spec = self.spec if self.spec.reference is None else self._prepare(RecordedKernel()).portable_spec()
        owners: list[Any] = []
        return SharedGpu(self.visible, pack_payload(self._parts(spec), owners), owners)

    def _start_replay(self) -> tuple[Obey, messages.ReadyReply]:
        device = CudaDevice(self.visible)
        return GpuWorker(benchmark_of(self._parts(self.spec), device)).obey, messages.ReadyReply(device.gpu)

    def _start_here(self, keys: list[str]) -> tuple[Obey, messages.ReadyReply]:
        benchmark = DoBenchBenchmark(
            launcher=self.launcher,
            prepared=self._prepare(self._launch()),
            do_bench=self.do_bench,
            device=self.device,
            pre_hook=self.pre_hook,
            post_hook=self.post_hook,
            restore=self.restore,
            requested_keys=keys,
        )
        return benchmark.obey, messages.ReadyReply()

    def _prepare(self, launch: Launch | RecordedKernel) -> PreparedArguments:
        """The arguments in this process; raises EvaluatorError where the reference fails."""
        try:
            return PreparedArguments(ArgumentSet(dict(self.arguments)), launch, self.spec, device="here")
        except (Exception, SystemExit) as error:
            raise EvaluatorError(f"the reference cannot be had: {describe_error(error)}") from error

    def _parts(self, spec: CheckSpec) -> dict[str, Any]:
        return {
            "arguments": dict(self.arguments),
            "spec": spec,
            "objective": WorkloadObjective(),
            "timing": self.timing,
        }


def _keep_kernels(folder: str, keys: Any) -> None:
    if folder:
        session_cache.keep_kernels(folder, session_cache.lasting_cache(None), keys)
