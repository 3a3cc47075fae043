"""The search as an immutable value: `start` makes it from a plan, `advance` folds events into it."""

from typing import Any, assert_never, get_args

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from autotune.core.arguments import argument_error, check_kind
from autotune.core.errors import JournalError, PlanError
from autotune.core.history import Archive, Log, Points, Records
from autotune.core.keys import Key, fold, root
from autotune.core.memo import memo
from autotune.core.one_thread import one_thread
from autotune.core.outcomes import Failed, Outcome, Timed, Trial
from autotune.core.parameters import Codes
from autotune.core.search.messages import (
    Asked,
    Compare,
    Compared,
    Conclude,
    Dispatched,
    Event,
    Interrupted,
    Measure,
    Observed,
    Reported,
    Resumed,
    Sampled,
    Task,
    Ticked,
    Told,
)
from autotune.core.search.plan import Plan
from autotune.core.statistics import notch
from autotune.core.strategies.protocol import Observation, Seeds

STRATEGY, SIMPLIFY, TOLD, OTHER = "strategy", "simplify", "told", -1
"""Origins of trials: the strategy's own, simplification's, and those of configs that the search had not asked for.
OTHER: the generation recorded for all trials but the strategy's."""


class StrategyStart(Struct, frozen=True):
    """The last start of the strategy: the restarts before it, its first trial and its first generation."""

    restarts: int = 0
    trial: int = 0
    generation: int = 0


class Search(Struct, frozen=True, dict=True):
    """The state of a search. Only `start` and `advance` make it; read it through its properties and `result`.

    clock: the time of the last event in seconds. asks: the number of recorded requests. proposed: accepted proposals
    since `strategy_start`. told: trials that the search had not asked for. generation: the generation of the last
    proposal. comparing: the comparison under way.
    contested: trials observed since the last confirmation that may be as fast as the best. best_ms, best_high_ms: the
    fastest time and the high end of its notch, in milliseconds. qualified, verified: the finished comparisons of the
    contenders and of the finalists, outcomes in the order of the request. simplifying: the finished comparisons of the
    best config with simpler ones. verifying: the finished comparisons of the verification, together in `verified`.
    before: this search just before it was interrupted.
    """

    plan: Plan
    key: Key
    state: Any
    trials: Log[Trial]
    outcomes: Log[tuple[int, Outcome]]
    points: Points
    records: Records
    clock: float = 0.0
    asks: int = 0
    proposed: int = 0
    rejected: int = 0
    observed: int = 0
    generation: int = OTHER
    comparing: Compare | None = None
    contested: int = 0
    best_ms: float | None = None
    best_high_ms: float = 0.0
    concluded: Conclude | None = None
    qualified: Compared | None = None
    simplifying: tuple[Compared, ...] = ()
    verified: Compared | None = None
    strategy_start: StrategyStart = StrategyStart()
    interrupted: bool = False
    before: "Search | None" = None
    told: int = 0
    verifying: tuple[Compared, ...] = ()

    @memo
    def archive(self) -> Archive:
        """All measurements so far, as arrays in trial order."""
        return Archive(self.records, self.points)

    @property
    def outstanding(self) -> int:
        """How many requested trials have no outcome yet."""
        return len(self.trials) - self.observed

    @property
    def pending(self) -> tuple[Trial, ...]:
        """The requested trials without an outcome: the shell submits them again after a crash."""
        if not self.outstanding:
            return ()
        waiting = np.ones(len(self.trials), bool)
        waiting[self.records.array["trial"]] = False
        return tuple(self.trials[i] for i in np.flatnonzero(waiting).tolist())

    @property
    def default_trial(self) -> int | None:
        """The trial of the default config; None where the space has none or it was not requested yet."""
        return 0 if len(self.trials) and self.trials[0].origin == "default" else None

    def point(self, trial: int) -> Codes:
        """The codes [columns] of a trial's config."""
        row: Codes = self.points.rows[trial]
        return row


def start(plan: Plan) -> Search:
    """The search before anything is measured."""
    check_kind(plan, Plan, "plan", "a plan, as make_plan gives it", PlanError)
    key = root(plan.seed)
    state = _initial_state(plan, fold(key, "init"), StrategyStart()) if plan.settings.search else None
    return Search(plan, key, state, Log(), Log(), Points(plan.space.columns), Records())


def start_without_strategy(plan: Plan) -> Search:
    """A search whose strategy is given up before it starts: such a search can only end."""
    return Search(plan, root(plan.seed), None, Log(), Log(), Points(plan.space.columns), Records())


def restart_strategy(search: Search) -> Search:
    """The search with its strategy started again under another key; all measurements stay."""
    n = search.strategy_start.restarts + 1
    begun = StrategyStart(n, len(search.trials), search.generation + 1)
    return replace(
        search, state=_initial_state(search.plan, fold(search.key, "init", n), begun), proposed=0, strategy_start=begun
    )


def _initial_state(plan: Plan, key: Key, begun: StrategyStart) -> Any:
    """The strategy's state at this start, before it has seen an outcome."""
    space = plan.space
    seeds = Seeds(
        default=space.encode([space.default] if space.default else []),
        user=space.encode(plan.seeds),
        best=space.encode(plan.best_available),
        pad=plan.settings.pad,
        restarted=begun.restarts > 0,
        trial=begun.trial,
        generation=begun.generation,
    )
    with one_thread():
        return plan.strategy.init(space, seeds, key)


def advance(search: Search, event: Event) -> Search:
    """The search after `event`. Calls the strategy's `observe`, never its `propose`; fits no model.

    Raises JournalError for an event about a trial that was never requested: no shell may send one.
    """
    check_kind(search, Search, "search", "a search, as start gives it", PlanError)
    if not isinstance(event, get_args(Event)):
        raise argument_error("event", event, "an event such as Observed or Ticked", PlanError)
    search = replace(search, clock=max(search.clock, event.at))
    match event:
        case Asked(task=task):
            return _apply_asked(search, task)
        case Observed(trial=trial, outcome=outcome):
            return _apply_observed(search, trial, outcome)
        case Compared():
            return _apply_compared(search, event)
        case Interrupted():
            return replace(search, interrupted=True, comparing=None, before=search.before or search)
        case Resumed(at=at):
            return replace(search.before, clock=max(search.before.clock, at)) if search.before else search
        case Told(trial=trial, outcome=outcome):
            return _apply_told(search, trial, outcome)
        case Ticked() | Reported() | Dispatched() | Sampled():
            return search
    assert_never(event)


def _apply_asked(search: Search, task: Task) -> Search:
    search = replace(search, asks=search.asks + 1)
    match task:
        case Measure(trials=trials, rejected=rejected, restart=restart):
            return _append_trials(restart_strategy(search) if restart else search, trials, rejected)
        case Compare(trials=trials):
            _check_known(search, *(trial.id for trial in trials))
            return replace(search, comparing=task)
        case Conclude():
            return replace(search, concluded=task, comparing=None)
    assert_never(task)


def _append_trials(search: Search, trials: tuple[Trial, ...], rejected: int) -> Search:
    new = tuple(trial for trial in trials if trial.id >= len(search.trials))
    if [trial.id for trial in new] != list(range(len(search.trials), len(search.trials) + len(new))):
        raise JournalError(f"trial {new[0].id} was asked for out of turn; the next number is {len(search.trials)}")
    own = [trial for trial in new if trial.origin == STRATEGY]
    return replace(
        search,
        trials=search.trials.append(*new),
        points=search.points.append(search.plan.space.encode([trial.config for trial in new])),
        proposed=search.proposed + len(own),
        rejected=search.rejected + rejected,
        generation=max([search.generation, *(trial.generation for trial in own)]),
    )


def _apply_told(search: Search, trial: Trial, outcome: Outcome) -> Search:
    if search.concluded is not None or search.interrupted:
        raise JournalError(
            f"trial {trial.id} was told of after the search had ended; remove that line and all later ones"
        )
    search = _append_trials(search, (trial,), 0)
    return _apply_observed(replace(search, told=search.told + 1), trial.id, outcome)


def _check_known(search: Search, *trials: int) -> None:
    for trial in trials:
        if not 0 <= trial < len(search.trials):
            raise JournalError(f"an outcome names trial {trial}, which was never asked for; it is of another search")


def _times(search: Search, outcome: Outcome) -> tuple[float, float, float]:
    """The median time of an outcome and the ends of its interval; zeros for a failure."""
    if isinstance(outcome, Failed):
        return 0.0, 0.0, 0.0
    time = outcome.time_ms
    return (time, time, time) if search.plan.settings.exact else (time, *notch(outcome.times_ms))


def _record(search: Search, trial: int, outcome: Outcome, times: tuple[float, float, float]) -> Search:
    """The search with one more outcome in its records; the strategy has observed it."""
    asked = search.trials[trial]
    own = asked.origin == STRATEGY
    time, low, high = times
    record = (
        trial, isinstance(outcome, Timed), time, low, high, outcome.compile_s,
        asked.walk if own else OTHER, asked.generation if own else OTHER,
    )  # fmt: skip
    state = search.state
    if search.plan.settings.search:
        state = search.plan.strategy.observe(search.plan.space, state, (Observation(asked, outcome),))
    return replace(
        search,
        state=state,
        observed=search.observed + (not search.records.has(trial)),
        records=search.records.append(record),
        outcomes=search.outcomes.append((trial, outcome)),
    )


def _apply_observed(search: Search, trial: int, outcome: Outcome) -> Search:
    _check_known(search, trial)
    repeated, times = search.records.has(trial), _times(search, outcome)
    search = _record(search, trial, outcome, times)
    if repeated:
        return _update_best(search)
    if isinstance(outcome, Failed):
        return search
    time, low, high = times
    if search.best_ms is None or time < search.best_ms:
        return replace(search, best_ms=time, best_high_ms=high, contested=search.contested + 1)
    return replace(search, contested=search.contested + 1) if low <= search.best_high_ms else search


def _apply_compared(search: Search, event: Compared) -> Search:
    """The search after a comparison: its outcomes revise earlier ones, or are kept apart.

    Outcomes of "qualify" and "simplify" are kept apart. Their times were taken side by side and would rank before, or
    behind, all times taken alone; and a failure for lack of memory need not recur with fewer configs at once. A
    comparison that was given up may still arrive late: it neither ends another comparison nor counts as verification.
    """
    task = search.comparing
    awaited = task is not None and {trial.id for trial in task.trials} == {trial for trial, _ in event.outcomes}
    purpose = task.purpose if awaited and task is not None else "confirm"
    apart = purpose in ("qualify", "simplify")
    for trial, outcome in event.outcomes:
        _check_known(search, trial)
        if not apart or (isinstance(outcome, Failed) and outcome.kind != "out_of_memory"):
            search = _record(search, trial, outcome, _times(search, outcome))
    if awaited and task is not None:
        places = {trial.id: place for place, trial in enumerate(task.trials)}
        event = replace(event, outcomes=tuple(sorted(event.outcomes, key=lambda found: places[found[0]])))
        search = replace(search, comparing=None, contested=0)
    match purpose:
        case "qualify":
            search = replace(search, qualified=event)
        case "simplify":
            search = replace(search, simplifying=(*search.simplifying, event))
        case "verify":
            verifying = (*search.verifying, event)
            search = replace(
                search, verifying=verifying, verified=_merge(verifying) if search.plan.settings.certifies else event
            )
    return _update_best(search)


def _merge(events: tuple[Compared, ...]) -> Compared:
    """The outcomes of several comparisons as those of one: all samples of a trial in turn, or its last failure."""
    found: dict[int, Outcome] = {}
    for event in events:
        for trial, outcome in event.outcomes:
            known = found.get(trial)
            if isinstance(known, Timed) and isinstance(outcome, Timed):
                outcome = replace(
                    outcome, times_ms=known.times_ms + outcome.times_ms, run_s=known.run_s + outcome.run_s,
                    compile_s=known.compile_s + outcome.compile_s, details=known.details | outcome.details,
                )  # fmt: skip
            if not isinstance(known, Failed):
                found[trial] = outcome
    return Compared(events[-1].at, tuple(found.items()))


def _update_best(search: Search) -> Search:
    """The search with its best looked up again: a revision may have made the former best slower."""
    archive = search.archive
    ranking = archive.ranking()
    if not len(ranking):
        return replace(search, best_ms=None, best_high_ms=0.0)
    best = archive.latest[ranking[0]]
    return replace(search, best_ms=float(best["time_ms"]), best_high_ms=float(best["high_ms"]))
