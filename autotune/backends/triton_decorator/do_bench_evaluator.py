"""An evaluator in this process, with Triton's own way to time: for `do_bench`, hooks, and the interpreter.

There are no timeouts here, and a kernel that crashes the GPU's context ends the search.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from heapq import nsmallest
from math import isfinite
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from msgspec.structs import replace

from autotune.backends.triton import session_cache
from autotune.backends.triton.arguments import ArgumentSet, CheckSpec, PreparedArguments
from autotune.backends.triton.kernel import Launch
from autotune.backends.triton_decorator.launcher import Launcher
from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Detail, Failed, FailureKind, Outcome, Timed, Trial, timed_or_failed
from autotune.core.search.messages import Compare, Compared, Event, Limits, Observed
from autotune.core.space import Space
from autotune.shell.evaluators.bench import find_wrong_call
from autotune.shell.evaluators.protocol import Rounds, WallClock, clock_after
from autotune.shell.formatting import describe_error

DoBench = Callable[..., Any]
"""`do_bench(call, quantiles=(0.5, 0.2, 0.8))` gives milliseconds: the quantiles in this order, or one number."""

QUANTILES = (0.5, 0.2, 0.8)
WALL_MS, WALL_RUNS = 5.0, 20

COMPILING = ("CompilationError", "CompileTimeAssertionFailure", "UnsupportedLanguageConstruct", "PTXASError")


@dataclass(frozen=True, eq=False)
class DoBenchEvaluator:
    """pre_hook, post_hook: as in `triton.autotune`, around every run; they get config and arguments by name.

    restore: called before every run, for what is no argument of the launcher. compiles: whether Triton does, whose
    cache is to keep of it what the configs need that were compared last.
    """

    launcher: Launcher
    named: Mapping[str, Any]
    terms: CheckSpec
    do_bench: DoBench
    synchronize: Callable[[], Any]
    pre_hook: Callable[..., Any] | None = None
    post_hook: Callable[..., Any] | None = None
    restore: Callable[[], None] | None = None
    compiles: bool = True

    @property
    def exact(self) -> bool:
        """False: a kernel never takes the same time twice."""
        return False

    @property
    def recovers(self) -> bool:
        """False: the driver submits again what was not finished."""
        return False

    def describe(self) -> dict[str, Detail]:
        """Kind, and what times."""
        return {"kind": "triton_in_process", "do_bench": getattr(self.do_bench, "__qualname__", "given")}

    def open(self, space: Space, past: Sequence[Event] = ()) -> "DoBenchSession":
        """A session; raises EvaluatorError where the reference cannot be had."""
        try:
            launch = Launch(build=self.launcher)
            stage = PreparedArguments(ArgumentSet(dict(self.named)), launch, self.terms, device="here")
        except (Exception, SystemExit) as error:
            raise EvaluatorError(f"the reference cannot be had: {describe_error(error)}") from error
        return DoBenchSession(self, stage, clock_after(past))


class DoBenchSession:
    """Each `poll` measures one config, or does one comparison, and returns when that is done."""

    def __init__(self, evaluator: DoBenchEvaluator, stage: PreparedArguments, clock: WallClock) -> None:
        self._of = evaluator
        self._stage = stage
        self._clock = clock
        self._queue: deque[Trial | Compare] = deque()
        self._stack = ExitStack()
        self._folder = ""
        self._asked: list[str] = []
        self._keys: dict[Config, set[str]] = {}
        self._finalists: list[Config] = []
        self._time_of: dict[Config, float] = {}

    @property
    def room(self) -> int:
        """One at a time."""
        return max(0, 1 - len(self._queue))

    @property
    def idle(self) -> bool:
        """Whether nothing is queued."""
        return not self._queue

    def now(self) -> float:
        """Seconds since the search began."""
        return self._clock()

    def submit(self, trials: Sequence[Trial], limits: Limits) -> None:
        """Queue trials; no limit can be kept here."""
        self._queue.extend(trials)

    def compare(self, task: Compare) -> None:
        """Queue a comparison."""
        self._queue.append(task)

    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        """Do the next thing in the queue."""
        if not self._queue:
            return ()
        match self._queue.popleft():
            case Compare() as task:
                outcomes = self._compare(task)
                return (Compared(self.now(), outcomes),)
            case Trial() as trial:
                outcome = self._measured(trial.config)
                return (Observed(self.now(), trial.id, outcome),)

    def abandon(self) -> None:
        """Drop the queue; nothing runs between polls."""
        self._queue.clear()

    def __enter__(self) -> Self:
        if self._of.compiles:
            with suppress(OSError):  # where nothing can be written, Triton's cache has it all
                self._folder = self._stack.enter_context(session_cache.scratch())
                self._asked = self._stack.enter_context(session_cache.use(self._folder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.clear()
        fastest = nsmallest(session_cache.FASTEST, self._time_of, self._time_of.__getitem__)
        kept = self._finalists or fastest
        if self._folder:
            keys = [key for config in kept for key in self._keys.get(config, ())]
            session_cache.keep(self._folder, session_cache.lasting_cache(None), keys)
        self._stack.close()

    def _measured(self, config: Config) -> Outcome:
        """The first run, its check, and the times. What compiles does so in the first run."""
        start = perf_counter()
        call = self._call(config)
        self._asked.clear()
        failed = self._attempt(lambda: self._check(call))
        self._note(config)
        compiled = perf_counter()
        if isinstance(failed, Failed):
            return replace(failed, run_s=compiled - start)
        found = self._attempt(lambda: self._samples(call))
        again = found if isinstance(found, Failed) else self._attempt(lambda: self._check_again(call))
        run_s = perf_counter() - compiled
        if isinstance(again, Failed):
            return replace(again, run_s=run_s)
        outcome = timed_or_failed(found, compiled - start, run_s)
        if isinstance(outcome, Timed):
            self._time_of[config] = outcome.time_ms
        return outcome

    def _note(self, config: Config) -> None:
        """Which kernels of Triton's cache a config has asked for."""
        if self._asked:
            self._keys.setdefault(config, set()).update(self._asked)

    def _compare(self, task: Compare) -> tuple[tuple[int, Outcome], ...]:
        """One sample of each in every round, each the median that `do_bench` gives."""
        calls = {trial.id: self._call(trial.config) for trial in task.trials}
        config_of = {trial.id: trial.config for trial in task.trials}
        self._finalists = list(config_of.values())
        failed: dict[int, Failed] = {}
        times: dict[int, list[float]] = {trial: [] for trial in calls}
        rounds, done = Rounds(task, self._clock), 0
        while not rounds.over(done):
            for trial in (task.trials[i].id for i in rounds.order(done)):
                call = calls[trial]
                self._asked.clear()
                found = None if trial in failed else self._attempt(lambda call=call: self._samples(call))  # type: ignore[misc]
                self._note(config_of[trial])
                if isinstance(found, Failed):
                    failed[trial] = found
                elif found:
                    times[trial].append(found[0])
            done += 1
        for trial, call in calls.items():
            again = None if trial in failed else self._attempt(partial(self._check_again, call))
            if isinstance(again, Failed):
                failed[trial] = again
        return tuple((trial, failed.get(trial) or timed_or_failed(times[trial])) for trial in calls)

    def _call(self, config: Config) -> Callable[[], None]:
        of, stage, launch = self._of, self._stage, self._of.launcher(config)
        full = {**stage.named, **of.launcher.constants, **of.launcher.values(config)}

        def call() -> None:
            stage.reset()
            if of.restore is not None:
                of.restore()
            if of.pre_hook is not None:
                of.pre_hook(full)
            try:
                launch(**stage.named)
            except Exception as error:
                if of.post_hook is not None:
                    of.post_hook(full, exception=error)
                raise
            if of.post_hook is not None:
                of.post_hook(full, exception=None)

        return call

    def _check(self, call: Callable[[], None]) -> Failed | None:
        self._stage.clear()
        call()
        self._of.synchronize()
        found = self._stage.verdict(None)
        return None if found is None else Failed("wrong_answer", found[0], details=found[1])

    def _check_again(self, call: Callable[[], None]) -> Failed | None:
        """Check a few runs more: a kernel may be right at first and wrong once it has run."""

        def message() -> str | None:
            failed = self._check(call)
            return None if failed is None else failed.message

        wrong = find_wrong_call(message) if self._stage.compared else None
        return (
            None if wrong is None else Failed("wrong_answer", f"it was right at first, and wrong afterwards: {wrong}")
        )

    def _samples(self, call: Callable[[], None]) -> tuple[float, ...]:
        found = self._of.do_bench(call, quantiles=QUANTILES)
        times = tuple(map(float, found)) if isinstance(found, Sequence) else (float(found),)
        return times if all(map(isfinite, times)) else times[:1]

    def _attempt(self, what: Callable[[], Any]) -> Any:
        """What comes of it, or the failure that its error is; raises EvaluatorError where nothing works any more."""
        try:
            return what()
        except (Exception, SystemExit) as error:
            try:
                self._of.synchronize()
            except Exception as broken:
                raise EvaluatorError(
                    f"the GPU's context did not survive a config ({describe_error(broken)}); start the program again,"
                    ' and use isolation="process", where that costs one config'
                ) from error
            return Failed(_kind(error), describe_error(error))


def _kind(error: BaseException) -> FailureKind:
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError", "OutOfResources"}:
        return "out_of_memory"
    return "compile_error" if names & set(COMPILING) else "run_error"


def wall_clock(call: Callable[[], Any], quantiles: Sequence[float] = QUANTILES) -> list[float]:
    """Triton's `do_bench` where there is no GPU: the quantiles of a few runs by the wall clock, in milliseconds."""
    times: list[float] = []
    while len(times) < 3 or (sum(times) < WALL_MS and len(times) < WALL_RUNS):
        start = perf_counter()
        call()
        times.append(max((perf_counter() - start) * 1e3, 1e-6))
    ordered = sorted(times)
    return [ordered[min(int(q * len(ordered)), len(ordered) - 1)] for q in quantiles]


def benchmarker(device: str, warmup: float | None, rep: float | None, cuda_graph: bool) -> DoBench:
    """What times where the user gives nothing: Triton's own, for the device that tensors are on."""
    if device == "cpu":
        return wall_clock
    import triton.testing

    if cuda_graph:
        return lambda call, quantiles: triton.testing.do_bench_cudagraph(call, rep=rep or 100, quantiles=quantiles)
    if warmup is not None or rep is not None:
        return lambda call, quantiles: triton.testing.do_bench(
            call, warmup=25 if warmup is None else warmup, rep=100 if rep is None else rep, quantiles=quantiles
        )
    from triton.runtime.driver import driver

    found: DoBench = driver.active.get_benchmarker()
    return found
