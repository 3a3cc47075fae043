"""The process of one GPU (or of the interpreter): makes the workloads once, then measures one config after another.

All that happens to a config on its device: the first run and its check, warm-up, samples. Knows no other process.
"""

import gc
import mmap
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NoReturn

from msgspec.structs import replace

from autotune.backends.triton import arguments, messages, session_cache, timing, warm_up
from autotune.backends.triton.arguments import ArgumentSet, ArgumentsOverwritten, CheckSpec, PreparedArguments
from autotune.backends.triton.fake_driver import FakeDriver
from autotune.backends.triton.kernel import Grid, Launch, unpack
from autotune.backends.triton.messages import both_ends
from autotune.backends.triton.timing import Cache, CudaDevice, Device, HostDevice, Objective
from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Detail, Failed, FailureKind
from autotune.shell.evaluators import tensors
from autotune.shell.evaluators.bench import find_wrong_call
from autotune.shell.evaluators.checking import count_bit_differences, list_leaves
from autotune.shell.evaluators.tensors import is_tensor
from autotune.shell.formatting import describe_error
from autotune.shell.processes import messages as plain
from autotune.shell.processes.child import OrderLoop

GRAPHED_MS = 1.0
GRAPHED_RUNS = 256


@dataclass(frozen=True, eq=False)
class TimingOptions:
    """How configs are timed."""

    schedule: timing.Schedule
    cache: Cache = "flush"
    cuda_graph: bool = False
    repeatable: bool = False


class Wrong(Exception):
    """The output is not what it must be; the second argument holds details."""


class CompilerRefused(Exception):
    """Triton did not compile it; the cause is its own error."""


@dataclass(eq=False)
class Ready:
    """One workload of one config, checked and warm: what a timed run calls, and how long it seems to take."""

    stage: PreparedArguments
    launch: Callable[[Any], Any]
    call: Callable[[int], Any]
    runs: int
    each_ms: float


class GpuBenchmark:
    """The workloads on one device, made once; raises what `arguments` and `reference` raise."""

    def __init__(
        self, device: Device, launch: Launch, grid: Grid | None, sets: Sequence[ArgumentSet], terms: CheckSpec,
        objective: Objective, habits: TimingOptions, compiled_here: Callable[[], int] = lambda: 0,
    ) -> None:  # fmt: skip
        self._device = device
        self._launch = launch
        self._sets = [(one.grid or grid, one) for one in sets]
        self._terms = terms
        self._objective = objective
        self._options = habits
        self._compiled_here = compiled_here
        self.stages = [PreparedArguments(one, launch, terms, device.kind) for one in sets]
        self._named = [s.copies(device.gpu.l2_bytes) if self._rotates(s) else [s.named] for s in self.stages]
        device.synchronize()
        self._kept: dict[int, list[Ready]] = {}
        self._last: Any = None

    @property
    def keeps(self) -> bool:
        """Whether configs are kept, prepared to be compared."""
        return bool(self._kept)

    def measure(self, order: messages.MeasureOrder) -> messages.MeasureReply | messages.Refused:
        """Check the config and time it; it is forgotten then."""
        start = perf_counter()
        try:
            ready, checked = self._checked(Config.from_json(order.config))
            times, cut, behind = self._timed(ready, order, start)
            if not (cut or behind):  # what is certainly no pick needs no second check
                self._check_again(ready)
        except (Exception, SystemExit) as error:
            return self._refusal(error, perf_counter() - start)
        finally:
            ready = []
            self._forget()
        condensed = tuple(timing.condensed(one) for one in times)
        details = {**checked, **_spread(times[0]), **self._device.gauges()}
        if late := self._compiled_here():
            details["compiled_here"] = late
        return messages.MeasureReply(condensed, perf_counter() - start, cut, details)

    def prepare(self, order: messages.PrepareOrder) -> messages.TritonReply:
        """Check the config and keep it warm."""
        start = perf_counter()
        try:
            self._kept[order.slot] = self._checked(Config.from_json(order.config))[0]
        except (Exception, SystemExit) as error:
            return self._refusal(error, perf_counter() - start)
        return messages.PrepareReply(perf_counter() - start)

    def sample(self, order: messages.SampleOrder) -> messages.TritonReply:
        """One sample of each workload: the median of a few runs, after one that nobody counts."""
        start = perf_counter()
        try:
            times = []
            for ready in self._kept[order.slot]:
                time = self._timer(ready)
                time(1)
                times.append(median(time(timing.runs_in_round(ready.each_ms))))
        except (Exception, SystemExit) as error:
            return self._refusal(error, perf_counter() - start)
        return messages.SampleReply(tuple(times), perf_counter() - start, self._device.gauges())

    def verify(self, order: messages.VerifyOrder) -> messages.TritonReply:
        """OutputCheck what is kept once more: a kernel may be right at first and wrong once it has run."""
        start = perf_counter()
        try:
            self._check_again(self._kept[order.slot])
        except (Exception, SystemExit) as error:
            return self._refusal(error, perf_counter() - start)
        return messages.PrepareReply(perf_counter() - start)

    def forget(self) -> messages.TritonReply:
        """Drop what is kept."""
        self._kept.clear()
        self._forget()
        return messages.SampleReply((), 0.0)

    def _checked(self, config: Config) -> tuple[list[Ready], dict[str, Detail]]:
        ready = []
        details: dict[str, Detail] = {}
        for stage, (grid, _), named in zip(self.stages, self._sets, self._named, strict=True):
            launch = self._launch.call(config, grid)
            details |= self._check(stage, launch)
            ready.append(self._warm(stage, launch, named))
        return ready, details

    def _check_again(self, ready: list[Ready]) -> None:
        """Check a few runs more; raises Wrong."""
        for one in ready:
            found = find_wrong_call(partial(self._wrong, one)) if one.stage.compared else None
            if found is not None:
                raise Wrong(f"it was right at first, and wrong after it was timed: {found}", {})

    def _wrong(self, ready: Ready) -> str | None:
        """What is wrong with one more run."""
        ready.stage.clear()
        self._around(ready.stage.named, ready.launch)
        self._device.synchronize()
        found = ready.stage.verdict(self._last)
        return None if found is None else found[0]

    def _check(self, stage: PreparedArguments, launch: Callable[[Any], Any]) -> dict[str, Detail]:
        """The first run; raises Wrong."""
        stage.clear()
        self._around(stage.named, launch)
        returned = self._last
        self._device.synchronize()
        found = stage.verdict(returned)
        if found is not None:
            raise Wrong(*found)
        details: dict[str, Detail] = {"checked": stage.compared} if stage.compared else {}
        if self._options.repeatable:
            self._repeat(stage, launch, returned)
        if not stage.outputs:
            for _, tensor in list_leaves(returned):  # the next config may get this memory, and must not find it right
                tensors.poison(tensor)
        return details

    def _repeat(self, stage: PreparedArguments, launch: Callable[[Any], Any], returned: Any) -> None:
        before = [
            (place, tensors.copy_tensor(t)) for place, t in list_leaves(stage.result_of(returned)) if is_tensor(t)
        ]
        stage.clear()
        self._around(stage.named, launch)
        self._device.synchronize()
        after = [t for _, t in list_leaves(stage.result_of(self._last)) if is_tensor(t)]
        for (place, first), second in zip(before, after, strict=True):
            if differing := count_bit_differences(first, second):
                raise Wrong(f"two runs differ in {differing} of {first.numel()} elements of {place}", {})

    def _around(self, named: dict[str, Any], launch: Callable[[Any], Any]) -> None:
        if self._terms.pre_hook is not None:
            self._terms.pre_hook(named)
        self._last = launch(named)
        if self._terms.post_hook is not None:
            self._terms.post_hook(named)

    def _warm(self, stage: PreparedArguments, launch: Callable[[Any], Any], named: list[dict[str, Any]]) -> Ready:
        def call(i: int) -> Any:
            return launch(named[i % len(named)])

        ready = Ready(stage, launch, call, 1, 0.0)
        if self._options.cuda_graph:
            each = timing.probe(self._timer(ready))[-1]
            alone = self._cold(stage) or stage.resets or self._hooked
            runs = 1 if alone else max(1, min(GRAPHED_RUNS, int(GRAPHED_MS / max(each, 1e-4))))
            ready.call, ready.runs = self._device.graphed(call, runs)
        ready.each_ms = timing.warm_up(self._timer(ready), self._options.schedule)
        return ready

    def _rotates(self, stage: PreparedArguments) -> bool:
        """Whether runs go through copies of the arguments. Where something is done to these before every run, they are
        one set, and the cache is cleared instead."""
        return self._options.cache == "rotate" and not stage.resets and not self._hooked

    def _cold(self, stage: PreparedArguments) -> bool:
        """Whether the cache is cleared before every run."""
        return self._options.cache != "warm" and not self._rotates(stage)

    @property
    def _hooked(self) -> bool:
        return self._terms.pre_hook is not None or self._terms.post_hook is not None

    def _timer(self, ready: Ready) -> timing.Time:
        stage, terms = ready.stage, self._terms
        before: Callable[[int], Any] | None = None
        if stage.resets or self._hooked:
            first = [terms.post_hook is not None]

            def prepared(_: int) -> None:
                if terms.post_hook is not None and not first[0]:
                    terms.post_hook(stage.named)
                first[0] = False
                stage.reset()
                if terms.pre_hook is not None:
                    terms.pre_hook(stage.named)

            before = prepared
        cold = self._cold(stage)
        return lambda n: [t / ready.runs for t in self._device.time(ready.call, n, before, cold)]

    def _timed(
        self, ready: list[Ready], order: messages.MeasureOrder, start: float
    ) -> tuple[list[list[float]], bool, bool]:
        """The times on each workload, whether they were cut off, and whether they are clearly not the best."""
        timers = [self._timer(one) for one in ready]
        probed = [timing.probe(time) for time in timers]
        fastest = self._objective([min(times) for times in probed], order.default_ms)
        if order.cutoff_ms is not None and fastest > order.cutoff_ms:
            return probed, True, True
        behind = order.near_ms is not None and fastest > order.near_ms
        schedule = timing.briefly(self._options.schedule) if behind else self._options.schedule
        sampled = []
        for i, (timer, times) in enumerate(zip(timers, probed, strict=True)):
            share = start + order.budget_s * (i + 1) / len(timers)
            in_time = lambda share=share: perf_counter() < share  # noqa: E731
            sampled.append(timing.sample(timer, times, schedule, in_time))
        return sampled, False, behind

    def _refusal(self, error: BaseException, run_s: float) -> messages.Refused:
        """What an error means, and whether the device has survived it."""
        details: dict[str, Detail] = {}
        spoilt, suspect = isinstance(error, ArgumentsOverwritten), isinstance(error, ArgumentsOverwritten)
        try:
            self._device.synchronize()
            spoilt = spoilt or bool([name for stage in self.stages for name in stage.changed()])
        except Exception:
            spoilt = True
        match error:
            case Wrong(args=(message, more)):
                kind: FailureKind = "wrong_answer"
                details |= more
            case ArgumentsOverwritten():
                kind, message = "crash", str(error)
            case CompilerRefused():
                kind, message = "compile_error", both_ends(error.__cause__ or error)
            case _:
                kind, message = _kind(error), describe_error(error)
        suspect = suspect or (kind == "out_of_memory" and "shared memory" not in message)
        return messages.Refused(Failed(kind, message, run_s=run_s, details=details), spoilt or suspect, suspect)

    def _forget(self) -> None:
        """Let go of the config's binaries and of what its function held."""
        self._last = None
        caches = getattr(self._launch.kernel, "device_caches", None)
        if caches is not None and not self._kept:
            for cache in caches.values():
                cache[0].clear()
        elif self._launch.build is not None:
            gc.collect()


def _kind(error: BaseException) -> FailureKind:
    name = type(error).__name__
    if isinstance(error, MemoryError) or name in ("OutOfMemoryError", "OutOfResources"):
        return "out_of_memory"
    return "compile_error" if isinstance(error, EvaluatorError) else "run_error"


def _spread(times: Sequence[float]) -> dict[str, Detail]:
    """How many runs were timed, and how far apart the tenth and ninetieth percentile are, over the median."""
    ordered = sorted(times)
    low, high = ordered[len(ordered) // 10], ordered[len(ordered) * 9 // 10]
    return {"runs": len(times), "spread": round((high - low) / median(ordered), 4)}


class Loaded:
    """The user's functions, with nothing made of them yet."""

    note = ""

    def __init__(self, parts: dict[str, Any]) -> None:
        self.parts = parts


def load(payload_fd: int) -> Loaded:
    """What the nursery does before it forks. A GPU must not be touched here: its context would not survive a fork."""
    import triton.compiler
    from triton.runtime.driver import driver

    summing = warm_up.begin()
    import torch

    driver.set_active(FakeDriver("sm_90"))  # for what a kernel's file asks when it is imported
    with open(payload_fd, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob:
        loaded = Loaded(unpack(blob))
    driver._active = None
    if torch.cuda.is_initialized():
        raise EvaluatorError(
            "a file that the kernel needs uses the GPU when it is imported; move that into `arguments` or `build`"
        )
    _mark_compiler(triton.compiler)
    summing.join()
    return loaded


def _mark_compiler(compiler: Any) -> None:
    """Tell the compiler's errors from those of the code around it."""
    compile_ = compiler.compile

    def compiled(*args: Any, **kwargs: Any) -> Any:
        try:
            return compile_(*args, **kwargs)
        except Exception as error:
            raise CompilerRefused from error

    compiler.compile = compiled


def run(loaded: Loaded, sock: socket.socket, settings: dict[str, Any]) -> NoReturn:
    """What the process does. settings: `device`, "cuda" or "interpreter", and `visible`, which GPU."""
    from triton import knobs

    compilations = Compilations()
    try:
        device = _device(settings)
        desk = _desk(loaded.parts, device, compilations)
        knobs.compilation.listener = compilations
    except (Exception, SystemExit) as error:
        with suppress(Exception):  # the user's functions may have done anything with it
            sys.stderr.flush()
        sock.sendall(plain.encode(plain.Broken(describe_error(error))))
        os._exit(1)
    gc.collect()
    gc.freeze()
    looked_up: dict[str, dict[str, None]] = {}

    def keys(config: str) -> tuple[str, ...]:
        """What this config has looked up in Triton's cache: in one process, each kernel is looked up once."""
        found = looked_up.setdefault(config, {})
        found.update(dict.fromkeys(session_cache.asked))
        session_cache.asked.clear()
        return tuple(found)

    described = tuple(arguments.described(stage.named) for stage in desk.stages)

    def obey(order: messages.TritonOrder) -> messages.TritonReply:
        match order:
            case messages.MeasureOrder():
                began = time.monotonic()
                session_cache.asked.clear()
                measured = replace(desk.measure(order), began=began)
                launched = keys(order.config)
                return replace(measured, keys=launched) if isinstance(measured, messages.MeasureReply) else measured
            case messages.PrepareOrder():
                session_cache.asked.clear()
                prepared = desk.prepare(order)
                launched = keys(order.config)
                return replace(prepared, keys=launched) if isinstance(prepared, messages.PrepareReply) else prepared
            case messages.SampleOrder():
                return desk.sample(order)
            case messages.VerifyOrder():
                return desk.verify(order)
            case messages.ForgetOrder():
                return desk.forget()
            case messages.CompileOrder():
                raise AssertionError("nothing is compiled ahead in the process of a GPU")

    def joins(order: messages.TritonOrder) -> bool:
        """Configs that are compared are kept together; before the first of them the process must be as it was."""
        return isinstance(order, messages.PrepareOrder) and desk.keeps

    OrderLoop(sock, messages.decode_order, scratch=os.environ.get("TMPDIR")).serve(
        obey, messages.ReadyReply(device.gpu, described), joins
    )


def _desk(parts: dict[str, Any], device: Device, compilations: "Compilations") -> GpuBenchmark:
    launch = Launch(parts["kernel"], parts["build"], parts["options"])
    sets = unpack(parts["sets"])["arguments"]
    return GpuBenchmark(
        device, launch, parts["grid"], sets, parts["terms"], parts["objective"], parts["habits"], compilations.taken
    )


def _device(settings: dict[str, Any]) -> Device:
    if settings["device"] == "interpreter":
        return HostDevice()
    os.environ["CUDA_VISIBLE_DEVICES"] = settings["visible"]
    return CudaDevice(settings["visible"])


class Compilations:
    """What Triton compiles in this process although it should find it in its cache. Listens to Triton."""

    def __init__(self) -> None:
        self._missed = 0

    def __call__(self, *_: Any, cache_hit: bool = False, **__: Any) -> None:
        """One kernel was asked for."""
        self._missed += not cache_hit

    def taken(self) -> int:
        """How many were compiled since this was last asked."""
        missed, self._missed = self._missed, 0
        return missed
