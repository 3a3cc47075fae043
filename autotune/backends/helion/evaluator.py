"""Evaluation inside of Helion: a pipeline where its settings let compiling and timing overlap, else its batches."""

import os
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from autotune.backends.helion.benchmarks import Bench
from autotune.backends.helion.pipeline import PipelineSession
from autotune.backends.helion.provider import AheadProvider
from autotune.backends.helion.space import Translation
from autotune.core.outcomes import Detail, Trial
from autotune.core.search.messages import Compare, Compared, Event, Limits, Observed
from autotune.core.space import Space

MOST_AT_ONCE = 16

BUSY_CORES = 2
"""Cores that compilers leave to the process that asks for configs and to the one that launches them."""


class HelionEvaluator:
    """An evaluator for one search of Helion's. seconds: of the whole budget, its start being Helion's."""

    exact, recovers = False, False

    def __init__(self, search: Any, translation: Translation, seconds: float | None, batch: int | None = None) -> None:
        self.bench = Bench(search, translation, seconds)
        provider = search.benchmark_provider
        self.pipelined = batch is None and isinstance(provider, AheadProvider) and provider.apart
        if isinstance(provider, AheadProvider) and not self.pipelined:
            provider.leave_station()
        self._jobs = _compilers(search.settings) if self.pipelined else getattr(provider, "_jobs", 1)
        self._batch = batch or max(1, min(self._jobs, MOST_AT_ONCE))

    def describe(self) -> dict[str, Detail]:
        if self.pipelined:
            return {"kind": "helion", "compilers": self._jobs}
        return {"kind": "helion", "batch": self._batch}

    def open(self, space: Space, past: Sequence[Event] = ()) -> "PipelineSession | BatchSession":
        return PipelineSession(self.bench, self._jobs) if self.pipelined else BatchSession(self.bench, self._batch)


def _compilers(settings: Any) -> int:
    """As many compilers at once as Helion is told to have, else as there are cores that this process may use."""
    asked: int | None = settings.autotune_precompile_jobs
    return asked or max(1, len(os.sched_getaffinity(0)) - BUSY_CORES)


class BatchSession:
    """One batch after the other: each poll compiles a batch side by side and times it."""

    def __init__(self, bench: Bench, batch: int) -> None:
        self._bench, self._batch = bench, batch
        self.abandon()

    def abandon(self) -> None:
        self._queue: deque[Trial] = deque()
        self._limits = Limits()
        self._comparison: Compare | None = None

    @property
    def room(self) -> int:
        return max(self._batch - len(self._queue), 0)

    @property
    def idle(self) -> bool:
        return not self._queue and self._comparison is None

    def now(self) -> float:
        return self._bench.now()

    def submit(self, trials: Sequence[Trial], limits: Limits) -> None:
        self._queue.extend(trials)
        self._limits = limits

    def compare(self, task: Compare) -> None:
        self._comparison = task

    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        """A batch takes as long as it takes, whatever the timeout; Ctrl-C is seen after it."""
        if self._comparison is not None:
            task, self._comparison = self._comparison, None
            outcomes = self._bench.compare(task)
            return (Compared(self.now(), outcomes),)
        trials = [self._queue.popleft() for _ in range(min(self._batch, len(self._queue)))]
        if not trials:
            return ()
        found = self._bench.outcomes(trials, self._limits)
        at = self.now()
        return tuple(Observed(at, trial.id, outcome) for trial, outcome in zip(trials, found, strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Helion releases what it holds by itself."""
