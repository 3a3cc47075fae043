"""A session in this process: for notebooks and what cannot be pickled. No timeouts, and nothing survives a crash."""

from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Failed, Outcome, Trial, timed_or_failed
from autotune.core.search.messages import Compare, Compared, Limits, Observed
from autotune.shell.evaluators.bench import Bench, Kernel, Tainted
from autotune.shell.evaluators.protocol import Rounds, WallClock
from autotune.shell.evaluators.workload import Workload
from autotune.shell.wording import describe


class InProcessSession:
    """Each `poll` builds and times one trial, or does one comparison, and returns when that is done."""

    def __init__(self, work: Workload, run_timeout_s: float, clock: WallClock) -> None:
        try:
            self._bench = Bench(work)
        except (Exception, SystemExit) as error:
            raise EvaluatorError(f"the workload cannot be set up: {describe(error)}") from error
        self._run_timeout_s = run_timeout_s
        self._clock = clock
        self._queue: deque[tuple[Trial, Limits] | Compare] = deque()

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
        """Queue trials."""
        self._queue.extend((trial, limits) for trial in trials)

    def compare(self, task: Compare) -> None:
        """Queue a comparison."""
        self._queue.append(task)

    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        """Do the next thing in the queue; `timeout_s` cannot be kept here."""
        if not self._queue:
            return ()
        match self._queue.popleft():
            case Compare() as task:
                outcomes = self._compare(task)
                return (Compared(self.now(), outcomes),)
            case (trial, limits):
                outcome = self._measure(trial, limits)
                return (Observed(self.now(), trial.id, outcome),)

    def abandon(self) -> None:
        """Drop the queue; nothing runs between polls."""
        self._queue.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.clear()

    def _measure(self, trial: Trial, limits: Limits) -> Outcome:
        kernel = self._bench.build(trial.config)
        if isinstance(kernel, Failed):
            return kernel
        try:
            return self._bench.run(kernel, limits.cutoff_ms, self._run_timeout_s)
        except Tainted as error:
            raise _tainted(trial, error) from error

    def _compare(self, task: Compare) -> tuple[tuple[int, Outcome], ...]:
        entries = [_Entry(self._bench, trial) for trial in task.trials]
        rounds, done = Rounds(task, self._clock), 0
        while not rounds.over(done):
            for i in rounds.order(done):
                entries[i].sample()
            done += 1
        for entry in entries:
            entry.verify()
        return tuple((entry.trial.id, entry.outcome()) for entry in entries)


class _Entry:
    """One trial of a comparison: built and warm, then sampled round by round until something fails."""

    def __init__(self, bench: Bench, trial: Trial) -> None:
        self.trial = trial
        self._bench = bench
        self._times_ms: list[float] = []
        self._run_s = 0.0
        built = bench.build(trial.config)
        self._kernel: Kernel | None = None if isinstance(built, Failed) else built
        self._failed: Failed | None = built if isinstance(built, Failed) else None
        if self._kernel is not None:
            self._step(self._kernel, bench.prepare)

    def sample(self) -> None:
        """Take this round's sample."""
        if self._kernel is not None and self._failed is None:
            time_ms = self._step(self._kernel, self._bench.sample)
            if time_ms is not None:
                self._times_ms.append(time_ms)

    def verify(self) -> None:
        """Check it once more, after its last sample."""
        if self._kernel is not None and self._failed is None:
            self._step(self._kernel, self._bench.verify)

    def outcome(self) -> Outcome:
        """What came of all rounds."""
        if self._failed is not None:
            return replace(self._failed, run_s=self._run_s)
        assert self._kernel is not None, "an entry without a kernel has failed"
        return timed_or_failed(self._times_ms, self._kernel.compile_s, self._run_s)

    def _step(self, kernel: Kernel, step: Callable[[Kernel], float | Failed | None]) -> float | None:
        start = perf_counter()
        try:
            answer = step(kernel)
        except Tainted as error:
            raise _tainted(self.trial, error) from error
        self._run_s += perf_counter() - start
        if isinstance(answer, Failed):
            self._failed = answer
            return None
        return answer


def _tainted(trial: Trial, error: Tainted) -> EvaluatorError:
    return EvaluatorError(f'{error} while {trial.config} ran; use isolation="process", where that costs one config')
