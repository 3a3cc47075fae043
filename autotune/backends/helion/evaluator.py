"""The evaluator inside of Helion: a pipeline if its settings let compiling and timing overlap, else its batches."""

import os
from collections.abc import Sequence
from typing import Any

from autotune.backends.helion.benchmarks import BenchmarkRecord
from autotune.backends.helion.pipeline import PipelineSession
from autotune.backends.helion.provider import PipelineProvider
from autotune.backends.helion.space import HelionSpace
from autotune.core.outcomes import Detail, Outcome, Trial
from autotune.core.search.messages import Compare, Event, Limits
from autotune.core.space import Space
from autotune.shell.evaluators.protocol import Evaluator, QueueSession, Session

_MOST_AT_ONCE = 16
"""Configs of a batch at most: the strategy learns nothing until a batch is done."""

_BUSY_CORES = 2
"""Cores that compilers leave to the process of the search and to the process that launches kernels."""


class HelionEvaluator(Evaluator):
    """The evaluator of one search object of Helion's.

    seconds: the budget, counted from the beginning of Helion's autotuning; None: no limit. batch: see `autotuner`.
    """

    def __init__(self, search: Any, helion_space: HelionSpace, seconds: float | None, batch: int | None = None) -> None:
        self.bench = BenchmarkRecord(search, helion_space, seconds)
        provider = search.benchmark_provider
        self.pipelined = batch is None and isinstance(provider, PipelineProvider) and provider.can_overlap
        if isinstance(provider, PipelineProvider) and not self.pipelined:
            provider.close_gpu_process()
        self._jobs = _compilers(search.settings) if self.pipelined else getattr(provider, "_jobs", 1)
        self._batch = batch or max(1, min(self._jobs, _MOST_AT_ONCE))

    def describe(self) -> dict[str, Detail]:
        if self.pipelined:
            return {"kind": "helion", "compilers": self._jobs}
        return {"kind": "helion", "batch": self._batch}

    def open(self, space: Space, past: Sequence[Event] = ()) -> Session:
        return PipelineSession(self.bench, self._jobs) if self.pipelined else BatchSession(self.bench, self._batch)


def _compilers(settings: Any) -> int:
    """The number of compilers side by side: Helion's setting, else the cores that this process may use, less two."""
    asked: int | None = settings.autotune_precompile_jobs
    return asked or max(1, len(os.sched_getaffinity(0)) - _BUSY_CORES)


class BatchSession(QueueSession):
    """One batch after the other: each `poll` compiles a batch side by side and times it."""

    def __init__(self, bench: BenchmarkRecord, batch: int) -> None:
        super().__init__(bench.now, batch)
        self._bench = bench

    def _measure(self, trials: Sequence[Trial], limits: Limits) -> Sequence[Outcome]:
        return self._bench.outcomes(trials, limits)

    def _compare(self, task: Compare) -> tuple[tuple[int, Outcome], ...]:
        return self._bench.compare(task)
