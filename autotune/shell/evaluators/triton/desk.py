"""All that happens to a config on its device: the first run and its check, warm-up, samples. Knows no other process."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Detail, Failed, FailureKind
from autotune.shell.evaluators import tensors
from autotune.shell.evaluators.bench import describe, first_wrong
from autotune.shell.evaluators.outputs import differing_bits, leaves
from autotune.shell.evaluators.tensors import is_tensor
from autotune.shell.evaluators.triton import sampling, wire
from autotune.shell.evaluators.triton.arguments import ArgumentSet
from autotune.shell.evaluators.triton.device import Cache, Device
from autotune.shell.evaluators.triton.launching import Grid, Launch
from autotune.shell.evaluators.triton.objective import Objective
from autotune.shell.evaluators.triton.stage import Overwritten, Stage, Terms
from autotune.shell.evaluators.triton.wording import both_ends

GRAPHED_MS = 1.0
GRAPHED_RUNS = 256


@dataclass(frozen=True, eq=False)
class Habits:
    """How configs are timed."""

    schedule: sampling.Schedule
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

    stage: Stage
    launch: Callable[[Any], Any]
    call: Callable[[int], Any]
    runs: int
    each_ms: float


class Desk:
    """The workloads on one device, made once; raises what `arguments` and `reference` raise."""

    def __init__(
        self, device: Device, launch: Launch, grid: Grid | None, sets: Sequence[ArgumentSet], terms: Terms,
        objective: Objective, habits: Habits, compiled_here: Callable[[], int] = lambda: 0,
    ) -> None:  # fmt: skip
        self._device = device
        self._launch = launch
        self._sets = [(one.grid or grid, one) for one in sets]
        self._terms = terms
        self._objective = objective
        self._habits = habits
        self._compiled_here = compiled_here
        self.stages = [Stage(one, launch, terms, device.kind) for one in sets]
        self._named = [s.copies(device.gpu.l2_bytes) if self._rotates(s) else [s.named] for s in self.stages]
        device.synchronize()
        self._kept: dict[int, list[Ready]] = {}
        self._last: Any = None

    @property
    def keeps(self) -> bool:
        """Whether configs are kept, prepared to be compared."""
        return bool(self._kept)

    def measure(self, order: wire.Measure) -> wire.Measured | wire.Refused:
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
        condensed = tuple(sampling.condensed(one) for one in times)
        details = {**checked, **_spread(times[0]), **self._device.gauges()}
        if late := self._compiled_here():
            details["compiled_here"] = late
        return wire.Measured(condensed, perf_counter() - start, cut, details)

    def prepare(self, order: wire.Prepare) -> wire.Reply:
        """Check the config and keep it warm."""
        start = perf_counter()
        try:
            self._kept[order.slot] = self._checked(Config.from_json(order.config))[0]
        except (Exception, SystemExit) as error:
            return self._refusal(error, perf_counter() - start)
        return wire.Prepared(perf_counter() - start)

    def sample(self, order: wire.Sample) -> wire.Reply:
        """One sample of each workload: the median of a few runs, after one that nobody counts."""
        start = perf_counter()
        try:
            times = []
            for ready in self._kept[order.slot]:
                time = self._timer(ready)
                time(1)
                times.append(median(time(sampling.runs_in_round(ready.each_ms))))
        except (Exception, SystemExit) as error:
            return self._refusal(error, perf_counter() - start)
        return wire.Sampled(tuple(times), perf_counter() - start, self._device.gauges())

    def verify(self, order: wire.Verify) -> wire.Reply:
        """Check what is kept once more: a kernel may be right at first and wrong once it has run."""
        start = perf_counter()
        try:
            self._check_again(self._kept[order.slot])
        except (Exception, SystemExit) as error:
            return self._refusal(error, perf_counter() - start)
        return wire.Prepared(perf_counter() - start)

    def forget(self) -> wire.Reply:
        """Drop what is kept."""
        self._kept.clear()
        self._forget()
        return wire.Sampled((), 0.0)

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
            found = first_wrong(partial(self._wrong, one)) if one.stage.compared else None
            if found is not None:
                raise Wrong(f"it was right at first, and wrong after it was timed: {found}", {})

    def _wrong(self, ready: Ready) -> str | None:
        """What is wrong with one more run."""
        ready.stage.clear()
        self._around(ready.stage.named, ready.launch)
        self._device.synchronize()
        found = ready.stage.verdict(self._last)
        return None if found is None else found[0]

    def _check(self, stage: Stage, launch: Callable[[Any], Any]) -> dict[str, Detail]:
        """The first run; raises Wrong."""
        stage.clear()
        self._around(stage.named, launch)
        returned = self._last
        self._device.synchronize()
        found = stage.verdict(returned)
        if found is not None:
            raise Wrong(*found)
        details: dict[str, Detail] = {"checked": stage.compared} if stage.compared else {}
        if self._habits.repeatable:
            self._repeat(stage, launch, returned)
        if not stage.outputs:
            for _, tensor in leaves(returned):  # the next config may get this memory, and must not find it right
                tensors.poison(tensor)
        return details

    def _repeat(self, stage: Stage, launch: Callable[[Any], Any], returned: Any) -> None:
        before = [(place, tensors.copied(t)) for place, t in leaves(stage.result_of(returned)) if is_tensor(t)]
        stage.clear()
        self._around(stage.named, launch)
        self._device.synchronize()
        after = [t for _, t in leaves(stage.result_of(self._last)) if is_tensor(t)]
        for (place, first), second in zip(before, after, strict=True):
            if differing := differing_bits(first, second):
                raise Wrong(f"two runs differ in {differing} of {first.numel()} elements of {place}", {})

    def _around(self, named: dict[str, Any], launch: Callable[[Any], Any]) -> None:
        if self._terms.pre_hook is not None:
            self._terms.pre_hook(named)
        self._last = launch(named)
        if self._terms.post_hook is not None:
            self._terms.post_hook(named)

    def _warm(self, stage: Stage, launch: Callable[[Any], Any], named: list[dict[str, Any]]) -> Ready:
        def call(i: int) -> Any:
            return launch(named[i % len(named)])

        ready = Ready(stage, launch, call, 1, 0.0)
        if self._habits.cuda_graph:
            each = sampling.probe(self._timer(ready))[-1]
            alone = self._cold(stage) or stage.resets or self._hooked
            runs = 1 if alone else max(1, min(GRAPHED_RUNS, int(GRAPHED_MS / max(each, 1e-4))))
            ready.call, ready.runs = self._device.graphed(call, runs)
        ready.each_ms = sampling.warm_up(self._timer(ready), self._habits.schedule)
        return ready

    def _rotates(self, stage: Stage) -> bool:
        """Whether runs go through copies of the arguments. Where something is done to these before every run, they are
        one set, and the cache is cleared instead."""
        return self._habits.cache == "rotate" and not stage.resets and not self._hooked

    def _cold(self, stage: Stage) -> bool:
        """Whether the cache is cleared before every run."""
        return self._habits.cache != "warm" and not self._rotates(stage)

    @property
    def _hooked(self) -> bool:
        return self._terms.pre_hook is not None or self._terms.post_hook is not None

    def _timer(self, ready: Ready) -> sampling.Time:
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

    def _timed(self, ready: list[Ready], order: wire.Measure, start: float) -> tuple[list[list[float]], bool, bool]:
        """The times on each workload, whether they were cut off, and whether they are clearly not the best."""
        timers = [self._timer(one) for one in ready]
        probed = [sampling.probe(time) for time in timers]
        fastest = self._objective([min(times) for times in probed], order.default_ms)
        if order.cutoff_ms is not None and fastest > order.cutoff_ms:
            return probed, True, True
        behind = order.near_ms is not None and fastest > order.near_ms
        schedule = sampling.briefly(self._habits.schedule) if behind else self._habits.schedule
        sampled = []
        for i, (time, times) in enumerate(zip(timers, probed, strict=True)):
            share = start + order.budget_s * (i + 1) / len(timers)
            in_time = lambda share=share: perf_counter() < share  # noqa: E731
            sampled.append(sampling.sample(time, times, schedule, in_time))
        return sampled, False, behind

    def _refusal(self, error: BaseException, run_s: float) -> wire.Refused:
        """What an error means, and whether the device has survived it."""
        details: dict[str, Detail] = {}
        spoilt, suspect = isinstance(error, Overwritten), isinstance(error, Overwritten)
        try:
            self._device.synchronize()
            spoilt = spoilt or bool([name for stage in self.stages for name in stage.changed()])
        except Exception:
            spoilt = True
        match error:
            case Wrong(args=(message, more)):
                kind: FailureKind = "wrong_answer"
                details |= more
            case Overwritten():
                kind, message = "crash", str(error)
            case CompilerRefused():
                kind, message = "compile_error", both_ends(error.__cause__ or error)
            case _:
                kind, message = _kind(error), describe(error)
        suspect = suspect or (kind == "out_of_memory" and "shared memory" not in message)
        return wire.Refused(Failed(kind, message, run_s=run_s, details=details), spoilt or suspect, suspect)

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
