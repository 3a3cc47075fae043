"""Evaluation inside of Helion: a pipeline where its settings let compiling and timing overlap, else its batches."""

import os
from collections.abc import Sequence
from typing import Any

from autotune.backends.helion.benchmarks import BenchmarkRecord
from autotune.backends.helion.pipeline import PipelineSession
from autotune.backends.helion.provider import PipelineProvider
from autotune.backends.helion.space import Translation
from autotune.core.outcomes import Detail, Outcome, Trial
from autotune.core.search.messages import Compare, Event, Limits
from autotune.core.space import Space
from autotune.shell.evaluators.protocol import Evaluator, QueueSession, Session

MOST_AT_ONCE = 16

BUSY_CORES = 2
"""Cores that compilers leave to the process that asks for configs and to the one that launches them."""


class HelionEvaluator(Evaluator):
    """An evaluator for one search of Helion's. seconds: of the whole budget, its start being Helion's."""

    def __init__(self, search: Any, translation: Translation, seconds: float | None, batch: int | None = None) -> None:
        self.bench = BenchmarkRecord(search, translation, seconds)
        provider = search.benchmark_provider
        self.pipelined = batch is None and isinstance(provider, PipelineProvider) and provider.apart
        if isinstance(provider, PipelineProvider) and not self.pipelined:
            provider.leave_station()
        self._jobs = _compilers(search.settings) if self.pipelined else getattr(provider, "_jobs", 1)
        self._batch = batch or max(1, min(self._jobs, MOST_AT_ONCE))

    def describe(self) -> dict[str, Detail]:
        if self.pipelined:
            return {"kind": "helion", "compilers": self._jobs}
        return {"kind": "helion", "batch": self._batch}

    def open(self, space: Space, past: Sequence[Event] = ()) -> Session:
        return PipelineSession(self.bench, self._jobs) if self.pipelined else BatchSession(self.bench, self._batch)


def _compilers(settings: Any) -> int:
    """As many compilers at once as Helion is told to have, else as there are cores that this process may use."""
    asked: int | None = settings.autotune_precompile_jobs
    return asked or max(1, len(os.sched_getaffinity(0)) - BUSY_CORES)


class BatchSession(QueueSession):
    """One batch after the other: each `poll` compiles a batch side by side and times it."""

    def __init__(self, bench: BenchmarkRecord, batch: int) -> None:
        super().__init__(bench.now, batch)
        self._bench = bench

    def _measure(self, trials: Sequence[Trial], limits: Limits) -> Sequence[Outcome]:
        return self._bench.outcomes(trials, limits)

    def _compare(self, task: Compare) -> tuple[tuple[int, Outcome], ...]:
        return self._bench.compare(task)
