"""Evaluation by Helion's benchmark provider, which compiles, checks the answer and times; comparisons are ours."""

import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from helion.autotuner.base_search import PopulationMember
from helion.autotuner.benchmark_provider import _unset_fn

from autotune.core.config import Config
from autotune.core.outcomes import Detail, Failed, FailureKind, Outcome, Trial, timed_or_failed
from autotune.core.search.messages import Compare, Compared, Event, Limits, Observed
from autotune.core.space import Space
from autotune.integrations.helion.comparison import compare
from autotune.integrations.helion.translation import Translation

MOST_AT_ONCE = 16

FAILURES: dict[str, FailureKind] = {
    "accuracy_error": "wrong_answer",
    "filtered": "skipped",
    "source_rejected": "skipped",
    "peer_compilation_fail": "compile_error",
}
"""Helion's statuses that say enough by themselves; an error or a timeout depends on how far the config came."""


class HelionEvaluator:
    """An evaluator for one search of Helion's. seconds: of the whole budget, its start being Helion's."""

    exact, recovers = False, False

    def __init__(self, search: Any, translation: Translation, seconds: float | None, batch: int | None = None) -> None:
        self.bench = Bench(search, translation, seconds)
        self._batch = batch or max(1, min(getattr(search.benchmark_provider, "_jobs", 1), MOST_AT_ONCE))

    def describe(self) -> dict[str, Detail]:
        return {"kind": "helion", "batch": self._batch}

    def open(self, space: Space, past: Sequence[Event] = ()) -> "HelionSession":
        return HelionSession(self.bench, self._batch)


class Bench:
    """What was benchmarked, by the config that Helion made of a point: points that mean the same are measured once."""

    def __init__(self, search: Any, translation: Translation, seconds: float | None) -> None:
        self._search, self._translation = search, translation
        self._members: dict[Any, PopulationMember] = {}
        self._outcomes: dict[Any, Outcome] = {}
        self._started = search._autotune_budget_start or time.perf_counter()
        self._seconds = seconds
        if seconds is not None:
            search.benchmark_provider.set_budget_exceeded_fn(self.over)

    def now(self) -> float:
        """Seconds since Helion began."""
        return time.perf_counter() - self._started

    def over(self) -> bool:
        """Whether the budget is spent, so that nothing more need be compiled."""
        return self._seconds is not None and self.now() >= self._seconds

    def member(self, point: Config) -> PopulationMember | None:
        """What Helion knows of a point that was benchmarked."""
        return self._members.get(self._translation.project(point))

    def outcomes(self, trials: Sequence[Trial], limits: Limits) -> list[Outcome]:
        """What becomes of these trials; those that Helion makes the same of are compiled and timed once."""
        configs = [self._translation.project(trial.config) for trial in trials]
        new: dict[Any, PopulationMember] = {}
        for trial, config in zip(trials, configs, strict=True):
            if config is not None and config not in self._outcomes and config not in new:
                member = self._search.make_unbenchmarked(self._translation.flat(trial.config))
                if member is None:
                    self._outcomes[config] = Failed("skipped", "Helion's backend cannot use this config")
                else:
                    new[config] = member
        if new:
            self._benchmark(new, trials[0].generation, limits)
        refused = Failed("skipped", "Helion does not accept this config")
        return [refused if config is None else self._outcomes[config] for config in configs]

    def _benchmark(self, new: dict[Any, PopulationMember], generation: int, limits: Limits) -> None:
        search, members = self._search, list(new.values())
        search.set_generation(max(generation, 0))
        settings = search.settings
        timeout = settings.autotune_compile_timeout
        if settings.autotune_adaptive_timeout and limits.compile_timeout_s is not None:
            settings.autotune_compile_timeout = max(1, int(limits.compile_timeout_s))
        try:
            search.benchmark_population(members, desc=f"Generation {generation}", raise_if_no_viable_config=False)
        finally:
            settings.autotune_compile_timeout = timeout
        self._members.update(new)
        self._outcomes.update({config: self._outcome(member) for config, member in new.items()})

    def _outcome(self, member: PopulationMember) -> Outcome:
        compile_s = member.compile_time or 0.0
        if member.status in ("ok", "deduplicated"):
            return timed_or_failed([member.perf], compile_s)
        if member.status in FAILURES:
            return Failed(FAILURES[member.status], f"Helion: {member.status.replace('_', ' ')}", compile_s)
        if self.over():
            return Failed("skipped", "the budget was over before it was measured", compile_s)
        if id(member.config) in getattr(self._search.benchmark_provider, "_accuracy_failure_config_ids", ()):
            return Failed("wrong_answer", "its answer is not the baseline's", compile_s)
        compiled = member.fn is not _unset_fn and member.compile_time is not None
        kind: FailureKind = "run_error" if compiled else "compile_error"
        if member.status == "timeout":
            limit = self._search.settings.autotune_compile_timeout
            kind = "run_timeout" if compiled and compile_s < limit else "compile_timeout"
        return Failed(kind, f"Helion: {member.status}; its log has the details", compile_s)

    def compare(self, task: Compare) -> tuple[tuple[int, Outcome], ...]:
        """The trials again, interleaved; those that Helion makes the same of share their samples."""
        members = [self.member(trial.config) for trial in task.trials]
        assert all(member is not None for member in members)  # only what was timed is compared
        distinct = list({id(member): member for member in members}.values())
        until = task.until if self._seconds is None else min(task.until or self._seconds, self._seconds)
        left = None if until is None else max(until - self.now(), 0.0)
        found = compare(self._search, distinct, task.rounds, left)
        by_member = {id(member): outcome for member, outcome in zip(distinct, found, strict=True)}
        return tuple((trial.id, by_member[id(m)]) for trial, m in zip(task.trials, members, strict=True))


class HelionSession:
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
