"""The configs that one search of Helion's has benchmarked, with their outcomes, and the comparison of some of them.

A comparison runs in this process, a sample of each config in each round, as the verification of a search asks for it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from helion.autotuner.base_search import PopulationMember
from helion.autotuner.benchmark_provider import _unset_fn
from helion.autotuner.benchmarking import _make_l2_cache_clearer

from autotune.backends.helion.space import HelionSpace
from autotune.backends.triton.timing import CudaDevice, HostDevice, TimingDevice, runs_in_round
from autotune.core.config import Config
from autotune.core.outcomes import Failed, FailureKind, Outcome, Trial, timed_or_failed
from autotune.core.search.messages import Compare, Limits
from autotune.core.search.rounds import Rounds, order_of_round
from autotune.shell.evaluators.comparison import Comparison, Contender, Step, take_turns
from autotune.shell.evaluators.protocol import WallClock

WARM_UPS = 3
"""Runs of a call before its samples; their median says how many runs make one sample."""

Sample = Callable[[int, int], float]
"""Milliseconds of call i, over so many runs."""

Order = Callable[[int], Sequence[int]]
"""The order of the calls in a round, by the number of the round."""


def compare_members(
    search: Any, members: Sequence[PopulationMember], rounds: int, seconds: float | None, order: Order
) -> list[Outcome]:
    """The outcome of each member. Each has run before and answered right, in a process of its own if Helion could give
    it one.

    seconds: begin no round that would not be over by then.
    """
    arguments = search._shared_benchmark_args()
    calls = [partial(member.fn, *arguments) for member in members]
    own = search.settings.autotune_benchmark_fn
    if own is not None:
        return side_by_side(lambda i, runs: float(own([calls[i]], repeat=runs)[0]), order, rounds, seconds)
    with open_device(search.kernel.env.device) as device:
        return side_by_side(make_sampler(device, calls), order, rounds, seconds)


@dataclass(eq=False, kw_only=True)
class _Contender(Contender):
    """runs: how many runs make one sample."""

    runs: int = 1


def side_by_side(sample: Sample, order: Order, rounds: int, seconds: float | None = None) -> list[Outcome]:
    """The outcome of each call, with one sample a round. seconds: begin no round that would not be over by then."""
    contenders = [_Contender(place=place, stage="built") for place in range(len(order(0)))]

    def act(contender: _Contender, step: Step) -> float | Failed | None:
        try:
            if step == "prepare":
                contender.runs = runs_in_round(median(sample(contender.place, 1) for _ in range(WARM_UPS)))
            return sample(contender.place, contender.runs) if step == "sample" else None
        except Exception as error:  # any error of a kernel costs this config, not the search
            return Failed("run_error", f"{type(error).__name__}: {error}")

    limit = Rounds(least=rounds, most=rounds, until=seconds)
    return take_turns(Comparison(contenders, limit, order, WallClock()), act)


@contextmanager
def open_device(where: Any) -> Iterator[TimingDevice]:
    """The timer of kernels on a torch device: a GPU by its events, else this process by the wall clock."""
    if where.type != "cuda":
        yield HostDevice()
        return
    with torch.cuda.device(where):
        yield CudaDevice("")


def make_sampler(device: TimingDevice, calls: Sequence[Callable[[], object]]) -> Sample:
    """Samples with an empty L2 cache, which is emptied as Helion does (on AMD as we do), to time as Helion does."""
    clear, ours = _make_l2_cache_clearer(), torch.version.hip is not None
    return lambda i, runs: median(device.time(lambda _: calls[i](), runs, lambda _: clear(), ours))


_FAILURES: dict[str, FailureKind] = {
    "accuracy_error": "wrong_answer",
    "filtered": "skipped",
    "source_rejected": "skipped",
    "peer_compilation_fail": "compile_error",
}
"""The kinds of Helion's statuses; of "error" and "timeout" the kind depends on how far the config came."""

REFUSED = Failed("skipped", "Helion does not accept this config")
UNUSABLE = Failed("skipped", "Helion's backend cannot use this config")
LATE = Failed("skipped", "the budget was over before it was measured")


class BenchmarkRecord:
    """Outcomes by the config that Helion makes of a point: points that mean the same config are measured once.

    seconds: of the budget, counted from Helion's beginning; None: no limit.
    """

    def __init__(self, search: Any, helion_space: HelionSpace, seconds: float | None) -> None:
        self.search, self._space = search, helion_space
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
        """Whether the budget is spent, so that no further config need be compiled."""
        return self._seconds is not None and self.now() >= self._seconds

    def config(self, point: Config) -> Any:
        """The config that Helion makes of a point; None where it refuses."""
        return self._space.project(point)

    def known_outcome(self, config: Any) -> Outcome | None:
        """The outcome of a config that was measured or refused already."""
        return REFUSED if config is None else self._outcomes.get(config)

    def enter(self, trial: Trial, config: Any) -> PopulationMember | None:
        """The member of Helion's search for a new config; None, and an outcome, if its backend cannot use it."""
        member = self.search.make_unbenchmarked(self._space.flat(trial.config))
        if member is None:
            self._outcomes[config] = UNUSABLE
        return member

    def member(self, point: Config) -> PopulationMember | None:
        """The member of Helion's search for a point that was benchmarked; None for other points."""
        return self._members.get(self._space.project(point))

    def outcomes(self, trials: Sequence[Trial], limits: Limits) -> list[Outcome]:
        """The outcomes of these trials; trials that mean the same config are compiled and timed once."""
        configs = [self.config(trial.config) for trial in trials]
        new: dict[Any, PopulationMember] = {}
        for trial, config in zip(trials, configs, strict=True):
            if config not in new and self.known_outcome(config) is None:
                member = self.enter(trial, config)
                if member is not None:
                    new[config] = member
        if new:
            self._benchmark(new, trials[0].generation, limits)
        return [REFUSED if config is None else self._outcomes[config] for config in configs]

    def settle(
        self, config: Any, member: PopulationMember, fn: Any, generation: int, outcome: Outcome | None
    ) -> Outcome:
        """Let Helion count and log a config, and record its outcome; None: Helion has it measured now."""
        with self._silent_bars():
            self._tell_search([member], generation)
        if member.fn is _unset_fn and fn is not None:  # the budget is spent, and Helion has not set it
            member.fn = fn
        found = self._outcome(member) if outcome is None else outcome
        self._members[config], self._outcomes[config] = member, found
        return found

    def _benchmark(self, new: dict[Any, PopulationMember], generation: int, limits: Limits) -> None:
        settings = self.search.settings
        timeout = settings.autotune_compile_timeout
        if settings.autotune_adaptive_timeout and limits.compile_timeout_s is not None:
            settings.autotune_compile_timeout = max(1, int(limits.compile_timeout_s))
        try:
            self._tell_search(list(new.values()), generation)
        finally:
            settings.autotune_compile_timeout = timeout
        self._members.update(new)
        self._outcomes.update({config: self._outcome(member) for config, member in new.items()})

    def _tell_search(self, members: list[PopulationMember], generation: int) -> None:
        self.search.set_generation(max(generation, 0))
        self.search.benchmark_population(members, desc=f"Generation {generation}", raise_if_no_viable_config=False)

    @contextmanager
    def _silent_bars(self) -> Iterator[None]:
        """Switch Helion's progress bars off inside of the context: there would be one for each config."""
        settings = self.search.settings
        shown, settings.autotune_progress_bar = settings.autotune_progress_bar, False
        try:
            yield
        finally:
            settings.autotune_progress_bar = shown

    def _outcome(self, member: PopulationMember) -> Outcome:
        compile_s = member.compile_time or 0.0
        if member.status in ("ok", "deduplicated"):
            return timed_or_failed([member.perf], compile_s)
        if member.status in _FAILURES:
            return Failed(_FAILURES[member.status], f"Helion: {member.status.replace('_', ' ')}", compile_s)
        if self.over():
            return Failed("skipped", LATE.message, compile_s)
        if id(member.config) in getattr(self.search.benchmark_provider, "_accuracy_failure_config_ids", ()):
            return Failed("wrong_answer", "its answer is not the baseline's", compile_s)
        compiled = member.fn is not _unset_fn and member.compile_time is not None
        kind: FailureKind = "run_error" if compiled else "compile_error"
        if member.status == "timeout":
            limit = self.search.settings.autotune_compile_timeout
            kind = "run_timeout" if compiled and compile_s < limit else "compile_timeout"
        return Failed(kind, f"Helion: {member.status}; its log has the details", compile_s)

    def compare(self, task: Compare) -> tuple[tuple[int, Outcome], ...]:
        """The outcomes of a comparison; trials that mean the same config share their samples."""
        members = [self.member(trial.config) for trial in task.trials]
        assert all(member is not None for member in members)  # only timed configs are compared
        distinct = list({id(member): member for member in members}.values())
        numbers = {id(member): number for number, member in enumerate(distinct)}

        def order(number: int) -> list[int]:
            """The order of the distinct members: each at the place of its first trial."""
            return list(dict.fromkeys(numbers[id(members[i])] for i in order_of_round(task, number)))

        until = task.until if self._seconds is None else min(task.until or self._seconds, self._seconds)
        left = None if until is None else max(until - self.now(), 0.0)
        found = compare_members(self.search, distinct, task.rounds, left, order)
        by_member = {id(member): outcome for member, outcome in zip(distinct, found, strict=True)}
        return tuple((trial.id, by_member[id(m)]) for trial, m in zip(task.trials, members, strict=True))
