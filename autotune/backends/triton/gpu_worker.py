"""The worker process of one GPU (or of the interpreter): it makes the workloads once, then measures config by config.

`load` runs once, in the fork server; `run` is the main function of each worker. `GpuBenchmark` holds everything that
happens to a config on its device: the first run and its check, warm-up, samples, and the last check.
"""

import gc
import mmap
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NoReturn

from msgspec.structs import replace

from autotune.backends.triton import arguments, compiler, messages, session_cache, timing
from autotune.backends.triton.arguments import ArgumentSet
from autotune.backends.triton.compile_worker import enter_worker
from autotune.backends.triton.device_memory import return_borrowed
from autotune.backends.triton.fake_driver import FakeDriver
from autotune.backends.triton.kernel import Grid, Launch, unpack_payload
from autotune.backends.triton.launches import RecordedKernel
from autotune.backends.triton.prepared_arguments import ArgumentsOverwritten, CheckSpec, PreparedArguments
from autotune.backends.triton.targets import target_of_make
from autotune.backends.triton.timing import CudaDevice, HostDevice, L2Mode, TimingDevice, WorkloadObjective
from autotune.backends.triton.visibility import visibility_variable
from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.core.formatting import describe_error
from autotune.core.outcomes import Detail, Failed, FailureKind
from autotune.shell.evaluators import tensors
from autotune.shell.evaluators.bench import find_wrong_call
from autotune.shell.evaluators.checking import count_bit_differences, list_leaves
from autotune.shell.evaluators.tensors import is_tensor
from autotune.shell.processes.child import OrderLoop
from autotune.shell.processes.messages import Broken, encode
from autotune.shell.user_frames import describe_with_line

_GRAPH_MS, _MOST_RUNS_IN_GRAPH = 1.0, 256
"""A CUDA graph holds launches for so many milliseconds, at most so many: its own launch then costs next to nothing."""


@dataclass(frozen=True, eq=False)
class TimingOptions:
    """How configs are timed; see `TritonEvaluator`. cache: its argument `l2`."""

    schedule: timing.TimingSchedule
    cache: L2Mode = "flush"
    cuda_graph: bool = False
    repeatable: bool = False


class WrongAnswer(Exception):
    """The output is wrong. The arguments are the message and the details."""


@dataclass(eq=False)
class _WarmKernel:
    """One workload of one config, checked and warm.

    launch: a run on the arguments. call: launches timed run number i, of which one launch makes `runs`. each_ms: how
    many milliseconds a run seems to take.
    """

    prepared: PreparedArguments
    launch: Callable[[Any], Any]
    call: timing.LaunchRun
    runs: int
    each_ms: float


class GpuBenchmark:
    """The workloads on one device, made once; raises the errors of `arguments` and `reference`.

    compiled_here: how many kernels Triton has compiled in this process since it was last asked.
    """

    def __init__(
        self,
        device: TimingDevice,
        launch: Launch | RecordedKernel,
        grid: Grid | None,
        sets: Sequence[ArgumentSet],
        spec: CheckSpec,
        objective: WorkloadObjective,
        options: TimingOptions,
        compiled_here: Callable[[], int] = lambda: 0,
    ) -> None:
        self._device = device
        self._launch = launch
        self._grids = [one.grid or grid for one in sets]
        self._spec = spec
        self._objective = objective
        self._options = options
        self._compiled_here = compiled_here
        self.workloads = [PreparedArguments(one, launch, spec, device.kind) for one in sets]
        self._copies = [w.copies(device.gpu.l2_bytes) if self._rotates(w) else [w.named] for w in self.workloads]
        device.synchronize()
        self._kept: dict[int, list[_WarmKernel]] = {}
        self._returned: Any = None

    @property
    def keeps(self) -> bool:
        """Whether configs are kept, prepared to be compared."""
        return bool(self._kept)

    def measure(self, order: messages.MeasureOrder) -> messages.MeasureReply | messages.Refused:
        """Check the config, time it, check it again, and forget it."""
        start = perf_counter()
        try:
            kernels, checked = self._prepare(order)
            times, cut, behind = self._time(kernels, order, start)
            if not (cut or behind):  # a config that is certainly no pick needs no second check
                self._check_again(kernels)
        except (Exception, SystemExit) as error:
            return self._refuse(error, perf_counter() - start)
        finally:
            kernels = []
            self._drop()
        condensed = tuple(timing.condense(one) for one in times)
        details = {**checked, **_describe_spread(times[0]), **self._device.gauges()}
        if late := self._compiled_here():
            details["compiled_here"] = late
        return messages.MeasureReply(times_ms=condensed, run_s=perf_counter() - start, cut=cut, details=details)

    def prepare(self, order: messages.PrepareOrder) -> messages.PrepareReply | messages.Refused:
        """Check the config and keep it warm."""
        start = perf_counter()
        try:
            self._kept[order.slot] = self._prepare(order)[0]
        except (Exception, SystemExit) as error:
            return self._refuse(error, perf_counter() - start)
        return messages.PrepareReply(perf_counter() - start)

    def sample(self, order: messages.SampleOrder) -> messages.SampleReply | messages.Refused:
        """One sample of each workload: the median of a few runs, after one that does not count."""
        start = perf_counter()
        try:
            times = []
            for kernel in self._kept[order.slot]:
                time = self._timer(kernel)
                time(1)
                times.append(median(time(timing.runs_in_round(kernel.each_ms))))
        except (Exception, SystemExit) as error:
            return self._refuse(error, perf_counter() - start)
        return messages.SampleReply(tuple(times), perf_counter() - start, self._device.gauges())

    def verify(self, order: messages.VerifyOrder) -> messages.PrepareReply | messages.Refused:
        """Check a kept config once more: a kernel may be right at first and wrong once it has run."""
        start = perf_counter()
        try:
            self._check_again(self._kept[order.slot])
        except (Exception, SystemExit) as error:
            return self._refuse(error, perf_counter() - start)
        return messages.PrepareReply(perf_counter() - start)

    def forget(self) -> messages.SampleReply:
        """Drop the configs that are kept."""
        self._kept.clear()
        self._drop()
        return messages.SampleReply((), 0.0)

    def _prepare(
        self, order: messages.MeasureOrder | messages.PrepareOrder
    ) -> tuple[list[_WarmKernel], dict[str, Detail]]:
        """Check and warm up the config on each workload."""
        config, kernels = Config.from_json(order.config), []
        self._launch.record(config, order.launches)
        details: dict[str, Detail] = {}
        for workload, grid, copies in zip(self.workloads, self._grids, self._copies, strict=True):
            launch = self._launch.call(config, grid)
            details |= self._check(workload, launch)
            kernels.append(self._warm_up(workload, launch, copies))
        return kernels, details

    def _check(self, workload: PreparedArguments, launch: Callable[[Any], Any]) -> dict[str, Detail]:
        """The first run; raises WrongAnswer."""
        returned = self._run_cleared(workload, launch)
        found = workload.find_fault(returned)
        if found is not None:
            raise WrongAnswer(*found)
        details: dict[str, Detail] = {"checked": workload.compared} if workload.compared else {}
        if self._options.repeatable:
            self._check_repeatable(workload, launch, returned)
        if not workload.outputs:
            for _, tensor in list_leaves(returned):  # the next config may get this memory, and must not find it right
                tensors.poison(tensor)
        return details

    def _check_repeatable(self, workload: PreparedArguments, launch: Callable[[Any], Any], returned: Any) -> None:
        """Run once more; raises WrongAnswer where a bit of the output differs."""
        before = [
            (place, tensors.copy_tensor(t)) for place, t in list_leaves(workload.result_of(returned)) if is_tensor(t)
        ]
        again = self._run_cleared(workload, launch)
        after = [t for _, t in list_leaves(workload.result_of(again)) if is_tensor(t)]
        for (place, first), second in zip(before, after, strict=True):
            if differing := count_bit_differences(first, second):
                raise WrongAnswer(f"two runs differ in {differing} of {first.numel()} elements of {place}", {})

    def _check_again(self, kernels: list[_WarmKernel]) -> None:
        """Check a few more runs; raises WrongAnswer."""
        for kernel in kernels:
            found = find_wrong_call(partial(self._find_fault, kernel)) if kernel.prepared.compared else None
            if found is not None:
                raise WrongAnswer(f"it was right at first, and wrong after it was timed: {found}", {})

    def _find_fault(self, kernel: _WarmKernel) -> str | None:
        """The fault of one more run."""
        found = kernel.prepared.find_fault(self._run_cleared(kernel.prepared, kernel.launch))
        return None if found is None else found[0]

    def _run_cleared(self, workload: PreparedArguments, launch: Callable[[Any], Any]) -> Any:
        """The value that one run on cleared outputs returned, between its hooks."""
        workload.clear()
        if self._spec.pre_hook is not None:
            self._spec.pre_hook(workload.named)
        self._returned = launch(workload.named)
        if self._spec.post_hook is not None:
            self._spec.post_hook(workload.named)
        self._device.synchronize()
        return self._returned

    def _warm_up(
        self, workload: PreparedArguments, launch: Callable[[Any], Any], copies: list[dict[str, Any]]
    ) -> _WarmKernel:
        def call(i: int) -> Any:
            return launch(copies[i % len(copies)])

        kernel = _WarmKernel(workload, launch, call, 1, 0.0)
        if self._options.cuda_graph:
            each = timing.probe(self._timer(kernel))[-1]
            alone = self._is_cold(workload) or workload.resets or self._has_hooks
            runs = 1 if alone else max(1, min(_MOST_RUNS_IN_GRAPH, int(_GRAPH_MS / max(each, 1e-4))))
            kernel.call, kernel.runs = self._device.capture_graph(call, runs)
        kernel.each_ms = timing.warm_up(self._timer(kernel), self._options.schedule)
        return kernel

    def _rotates(self, workload: PreparedArguments) -> bool:
        """Whether runs go through copies of the arguments. Where something must be done to the arguments before every
        run, there is one set of them, and the cache is cleared instead."""
        return self._options.cache == "rotate" and not workload.resets and not self._has_hooks

    def _is_cold(self, workload: PreparedArguments) -> bool:
        """Whether the cache is cleared before every run."""
        return self._options.cache != "warm" and not self._rotates(workload)

    @property
    def _has_hooks(self) -> bool:
        return self._spec.pre_hook is not None or self._spec.post_hook is not None

    def _timer(self, kernel: _WarmKernel) -> timing.TimeRuns:
        workload, spec = kernel.prepared, self._spec
        before: Callable[[int], Any] | None = None
        if workload.resets or self._has_hooks:
            post_hook_is_due = False

            def reset(_: int) -> None:
                nonlocal post_hook_is_due
                if spec.post_hook is not None and post_hook_is_due:
                    spec.post_hook(workload.named)
                post_hook_is_due = True
                workload.reset()
                if spec.pre_hook is not None:
                    spec.pre_hook(workload.named)

            before = reset
        cold = self._is_cold(workload)
        return lambda n: [t / kernel.runs for t in self._device.time(kernel.call, n, before, cold)]

    def _time(
        self, kernels: list[_WarmKernel], order: messages.MeasureOrder, start: float
    ) -> tuple[list[list[float]], bool, bool]:
        """The times on each workload, whether they were cut off, and whether the config is clearly not the best."""
        timers = [self._timer(one) for one in kernels]
        probed = [timing.probe(time) for time in timers]
        fastest = self._objective([min(times) for times in probed], order.default_ms)
        if order.cutoff_ms is not None and fastest > order.cutoff_ms:
            return probed, True, True
        behind = order.near_ms is not None and fastest > order.near_ms
        schedule = self._options.schedule.shortest() if behind else self._options.schedule
        sampled = []
        for i, (timer, times) in enumerate(zip(timers, probed, strict=True)):
            until = start + order.budget_s * (i + 1) / len(timers)
            sampled.append(timing.sample(timer, times, schedule, partial(_is_before, until)))
        return sampled, False, behind

    def _refuse(self, error: BaseException, run_s: float) -> messages.Refused:
        """The failure that an error means, and whether the device has survived it."""
        details: dict[str, Detail] = {}
        spoilt, suspect = isinstance(error, ArgumentsOverwritten), isinstance(error, ArgumentsOverwritten)
        try:
            self._device.synchronize()
            spoilt = spoilt or any(workload.find_changed() for workload in self.workloads)
        except Exception:
            spoilt = True
        match error:
            case WrongAnswer(args=(message, more)):
                kind: FailureKind = "wrong_answer"
                details |= more
            case ArgumentsOverwritten():
                kind, message = "crash", str(error)
            case compiler.CompilerRefused():
                kind, message = "compile_error", compiler.describe_both_ends(error.__cause__ or error)
            case _:
                kind, message = _failure_kind(error), describe_with_line(error)
        suspect = suspect or (kind == "out_of_memory" and "shared memory" not in message)
        failed = Failed(kind, message, run_s=run_s, details=details)
        return messages.Refused(failed=failed, spoilt=spoilt or suspect, suspect=suspect)

    def _drop(self) -> None:
        """Drop the config's binaries, unless configs are kept, and everything that its function held."""
        self._returned = None
        if not self._kept:
            self._launch.forget()


def _is_before(until: float) -> bool:
    return perf_counter() < until


def _failure_kind(error: BaseException) -> FailureKind:
    name = type(error).__name__
    if isinstance(error, MemoryError) or name in ("OutOfMemoryError", "OutOfResources"):
        return "out_of_memory"
    return "compile_error" if isinstance(error, EvaluatorError) else "run_error"


def _describe_spread(times: Sequence[float]) -> dict[str, Detail]:
    """How many runs were timed, and the distance of the tenth and the ninetieth percentile, over the median."""
    ordered = sorted(times)
    low, high = ordered[len(ordered) // 10], ordered[len(ordered) * 9 // 10]
    return {"runs": len(times), "spread": round((high - low) / median(ordered), 4)}


class GpuPayload:
    """The workload of a session, not made yet: the fork server must not touch the GPU. make: makes it in a worker."""

    note = ""

    def __init__(self, make: Callable[[TimingDevice, Callable[[], int]], GpuBenchmark]) -> None:
        self.make = make


def load(payload_fd: int) -> GpuPayload:
    """Load the user's functions in the fork server. A GPU must not be touched here: a context survives no fork.

    The server of the program's service has an empty payload, as it compiles nothing and gets no functions.
    """
    import triton.compiler  # noqa: F401  # before the thread: two threads that import the same wait for one another
    from triton.runtime.driver import driver

    if not os.fstat(payload_fd).st_size:
        import torch

        return GpuPayload(partial(_make_benchmark, {}))
    compiler.start_hashing_triton()
    import torch

    driver.set_active(FakeDriver(target_of_make()))  # for what a kernel's file asks when it is imported
    with open(payload_fd, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob:
        loaded = GpuPayload(partial(_make_benchmark, unpack_payload(blob)))
    driver._active = None
    if torch.cuda.is_initialized():
        raise EvaluatorError(
            "a file that the kernel needs uses the GPU when it is imported; move that into `arguments` or `build`"
        )
    compiler.mark_errors()
    compiler.finish_hashing_triton()
    return loaded


def load_in_program(parts: dict[str, Any], environment: Mapping[str, str]) -> GpuPayload:
    """The same in a fork of the program, which has the user's functions in memory. environment: what differs.

    Raises EvaluatorError where the program has used CUDA, so that its forks cannot.
    """
    import torch

    in_bad_fork = getattr(torch.cuda, "_is_in_bad_fork", None)  # torch's own; without it, the first use of CUDA fails
    if "TRITON_INTERPRET" not in environment and in_bad_fork is not None and in_bad_fork():
        raise EvaluatorError("the program has used the GPU")
    enter_worker(environment)
    if "TRITON_INTERPRET" not in environment:
        compiler.mark_errors()
    return GpuPayload(partial(_make_benchmark, parts))


def run(loaded: GpuPayload, sock: socket.socket, settings: dict[str, Any]) -> NoReturn:
    """The main function of a worker. settings: `device`, "cuda" or "interpreter", and `visible`, which GPU."""
    from triton import knobs

    compilations = _CompilationCounter()
    try:
        device = _open_device(settings)
        benchmark = loaded.make(device, compilations.take)
        knobs.compilation.listener = compilations
    except (Exception, SystemExit) as error:
        with suppress(Exception):  # the user's functions may have done anything to it
            sys.stderr.flush()
        sock.sendall(encode(Broken(describe_error(error))))
        os._exit(1)
    gc.collect()
    gc.freeze()
    worker = GpuWorker(benchmark)
    described = tuple(arguments.describe_arguments(workload.named) for workload in benchmark.workloads)
    loop = OrderLoop(sock, messages.decode_order, scratch=os.environ.get("TMPDIR"))
    loop.serve(worker.obey, messages.ReadyReply(device.gpu, described), worker.joins)


def serve(loaded: GpuPayload, sock: socket.socket, settings: dict[str, Any]) -> NoReturn:
    """The main function of a worker of the program's service. settings: `visible`, which GPU, and `idle_s`, the seconds
    without an order after which the worker ends."""
    try:
        device = _open_device({"device": "cuda", **settings})
    except Exception as error:
        sock.sendall(encode(Broken(describe_error(error))))
        os._exit(1)
    import triton

    triton.set_allocator(_allocate)
    gc.collect()
    gc.freeze()
    worker = _LentWorker(device)
    loop = OrderLoop(sock, messages.decode_order, scratch=os.environ.get("TMPDIR"), idle_s=settings["idle_s"])
    loop.serve(worker.obey, messages.ReadyReply(device.gpu), worker.joins)


def _allocate(size: int, alignment: int, stream: int | None) -> Any:
    """Memory for kernels that need more than their arguments, such as descriptors that they make on the device."""
    import torch

    return torch.empty(size, dtype=torch.int8, device="cuda")


def _open_device(settings: dict[str, Any]) -> TimingDevice:
    if settings["device"] == "interpreter":
        return HostDevice()
    os.environ[visibility_variable()] = settings["visible"]
    return CudaDevice(settings["visible"])


def _make_benchmark(parts: dict[str, Any], device: TimingDevice, compiled_here: Callable[[], int]) -> GpuBenchmark:
    launch = Launch(parts["kernel"], parts["build"], parts["options"])
    sets = parts["sets"]
    if isinstance(sets, bytes):
        sets = unpack_payload(sets)["arguments"]
    return GpuBenchmark(
        device, launch, parts["grid"], sets, parts["spec"], parts["objective"], parts["timing"], compiled_here
    )


class _LentWorker:
    """Serves one session after another, each with the tensors that it lends and the launches that it sends."""

    def __init__(self, device: TimingDevice) -> None:
        self._device = device
        self._serving: GpuWorker | None = None

    def obey(self, order: messages.TritonOrder) -> messages.TritonReply:
        """Carry out one order."""
        match order:
            case messages.OpenOrder():
                self._close()
                return self._open(order.path)
            case messages.CloseOrder():
                self._close()
                return messages.ReadyReply()
        assert self._serving is not None, "a session is open"
        return self._serving.obey(order)

    def joins(self, order: messages.TritonOrder) -> bool:
        """See `GpuWorker`."""
        return self._serving is not None and self._serving.joins(order)

    def _open(self, path: str) -> messages.TritonReply:
        try:
            with open(path, "rb") as file:
                parts = unpack_payload(file.read())
        except Exception as error:  # the memory of this program cannot be borrowed
            return messages.NotOpened(describe_error(error), lasting=True)
        try:
            self._serving = GpuWorker(benchmark_of(parts, self._device))
        except Exception as error:
            self._close()
            return messages.NotOpened(describe_error(error), lasting=False)
        return messages.ReadyReply(self._device.gpu)

    def _close(self) -> None:
        import torch

        self._serving = None
        gc.collect()
        torch.cuda.synchronize()
        return_borrowed()
        torch.cuda.empty_cache()


def benchmark_of(parts: dict[str, Any], device: TimingDevice) -> GpuBenchmark:
    """A benchmark of recorded launches. parts: `arguments` by name, `spec`, `objective` and `timing`."""
    sets = (ArgumentSet(parts["arguments"]),)
    return GpuBenchmark(device, RecordedKernel(), None, sets, parts["spec"], parts["objective"], parts["timing"])


class GpuWorker:
    """Obeys orders with a benchmark, and adds to each reply the keys that the config has in Triton's cache."""

    def __init__(self, benchmark: GpuBenchmark) -> None:
        self._benchmark = benchmark
        self._keys: dict[str, dict[str, None]] = {}

    def obey(self, order: messages.TritonOrder) -> messages.TritonReply:
        """Carry out one order."""
        match order:
            case messages.MeasureOrder():
                began = time.monotonic()
                session_cache.requested_keys.clear()
                measured = replace(self._benchmark.measure(order), began=began)
                keys = self._keys_of(order.config)
                return replace(measured, keys=keys) if isinstance(measured, messages.MeasureReply) else measured
            case messages.PrepareOrder():
                session_cache.requested_keys.clear()
                prepared = self._benchmark.prepare(order)
                keys = self._keys_of(order.config)
                return replace(prepared, keys=keys) if isinstance(prepared, messages.PrepareReply) else prepared
            case messages.SampleOrder():
                return self._benchmark.sample(order)
            case messages.VerifyOrder():
                return self._benchmark.verify(order)
            case messages.ForgetOrder():
                return self._benchmark.forget()
            case messages.CompileOrder() | messages.OpenOrder() | messages.CloseOrder():
                raise AssertionError("a session's own GPU worker gets no such order")

    def joins(self, order: messages.TritonOrder) -> bool:
        """Configs that are compared are kept together; before the first of them the process must be unchanged."""
        return isinstance(order, messages.PrepareOrder) and self._benchmark.keeps

    def _keys_of(self, config: str) -> tuple[str, ...]:
        """The keys that this config has looked up in Triton's cache: one process looks up each kernel once."""
        found = self._keys.setdefault(config, {})
        found.update(dict.fromkeys(session_cache.requested_keys))
        session_cache.requested_keys.clear()
        return tuple(found)


class _CompilationCounter:
    """Listens to Triton, and counts the kernels that it compiles here although its cache should have them."""

    def __init__(self) -> None:
        self._missed = 0

    def __call__(self, *_: Any, cache_hit: bool = False, **__: Any) -> None:
        self._missed += not cache_hit

    def take(self) -> int:
        """How many kernels were compiled since the last call."""
        missed, self._missed = self._missed, 0
        return missed
