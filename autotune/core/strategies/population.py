"""Strategies with a population: how they begin, and their memory of generations.

The life of such a strategy: `begin` draws an initial population. `propose_initial` has the better part of it measured,
and more while too little has worked. From then on the strategy breeds generations from its members (walks, or a
population of points), which `current_members` derives from the outcomes that `record_outcomes` has collected.
"""

import math
from enum import StrEnum
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from autotune.core.history import Points, Records
from autotune.core.keys import Key, fold
from autotune.core.models.ordering import promising_first, typical_first
from autotune.core.outcomes import Timed
from autotune.core.parameters import Codes
from autotune.core.points import first_of_each
from autotune.core.space import Space
from autotune.core.strategies.protocol import Ask, AwaitOutcome, Done, Observation, Proposals, Seeds

INITIAL_SHARE = 0.5
"""The share of an initial population that is measured by default. The predicted-worse half rarely holds a good start,
so it is measured only while too little has worked: measuring all 100 configs instead of 50 improved the best by 2 % on
the development recordings (docs/strategies.md)."""

PARTS = (0.1, 0.2, 0.4, 0.5, 1.0)
"""An initial population is measured in parts that end at these shares of it; the outcomes of a part order the next."""

RESTART_SHARE, RESTART_LEAST = 0.15, 8
"""After a restart, walks begin among this share of their initial population, or this number of points: bad regions
are known by then, and the evaluations saved go into further walks."""

MOST_BEST_AVAILABLE = 20
"""The most configs of earlier runs, the best ones, that join an initial population, as in Helion."""

POPULATION_SETTING = "initial_population_strategy"
"""The setting of every strategy that begins with a population or a design."""

OWN_ORIGIN, NO_GENERATION = "strategy", -1
"""The origin of a strategy's own trials; the walk and the generation of all others (the default, simplification)."""

Table = NDArray[np.void]
"""Trials in the order of their numbers, one row each with the fields of `history.FIELDS`: the latest outcome."""

M = TypeVar("M", bound=tuple[Any, ...])


# Initial populations


class InitialPopulationStrategy(StrEnum):
    """The first points of a search. Each member is equal to its text, and strategies take either.

    FROM_RANDOM: the default, the user's seeds, then random configs. FROM_DEFAULT: the default alone.
    FROM_BEST_AVAILABLE: the default, the user's seeds and up to 20 of the best configs of earlier runs.
    """

    FROM_RANDOM = "from_random"
    FROM_DEFAULT = "from_default"
    FROM_BEST_AVAILABLE = "from_best_available"


@runtime_checkable
class BeginsWithPopulation(Protocol):
    """The optional setting of a strategy whose first points can be chosen; None leaves them to the effort."""

    initial_population_strategy: InitialPopulationStrategy | None


def seed_points(kind: InitialPopulationStrategy | None, seeds: Seeds) -> Codes:
    """The points [m, columns], each once, with which a search of this kind begins and that are not drawn.

    from_random: the default and the user's seeds. from_default: the default. from_best_available, and None: the
    default, the user's seeds and up to 20 of the best configs of earlier runs.
    """
    match kind:
        case InitialPopulationStrategy.FROM_DEFAULT:
            points = seeds.default
        case InitialPopulationStrategy.FROM_RANDOM:
            points = np.concatenate([seeds.default, seeds.user])
        case _:
            points = np.concatenate([seeds.default, seeds.user, seeds.best[:MOST_BEST_AVAILABLE]])
    return points[first_of_each(points)]


def draws_none(kind: InitialPopulationStrategy | None, seeds: Seeds) -> bool:
    """Whether no random points join the `seed_points`, if there are any."""
    if kind is InitialPopulationStrategy.FROM_BEST_AVAILABLE:
        return not seeds.pad
    return kind is InitialPopulationStrategy.FROM_DEFAULT


def draw_initial_population(
    kind: InitialPopulationStrategy | None, space: Space, seeds: Seeds, n: int, key: Key
) -> Codes:
    """The first points of a search, different and valid: [m, columns], m <= n wherever random points fill up.

    from_random (also None): the default, the user's seeds, then random points, `n` in all. from_default: the default
    alone. from_best_available: the default, the user's seeds and up to 20 of the best configs of earlier runs, filled
    up to `n` at random if `seeds.pad`. A kind without any point falls back to random.
    """
    points = seed_points(kind or InitialPopulationStrategy.FROM_RANDOM, seeds)
    if len(points) and draws_none(kind, seeds):
        return points
    unseen = Points(space.columns).append(points).unseen
    return np.concatenate([points, space.sample_distinct(key, max(n - len(points), 0), unseen)])


# The state


class InitialPopulation(NamedTuple):
    """The initial population, drawn once.

    The first `given` of the `points` were not drawn. The `most` most promising points are measured, the given ones in
    any case, and more until `wanted` of them have worked; then others are drawn.
    restarted: after a restart so much is known that there is one part only.
    """

    points: Codes
    given: int
    most: int
    wanted: int
    restarted: bool


class PopulationState(NamedTuple, Generic[M]):
    """The state of a strategy with a population; `M` is its members: walks, or points that evolve.

    first_trial, first_generation: the numbers with which the strategy began, or began again.
    records: the outcomes since then in the order of arrival, of trials measured again too; generations count from 0.
    last: the last generation that has an outcome. opened: the number of records before its first one.
    members: M after all generations before the last; empty until one of them has worked.
    revised: whether an earlier trial has a new outcome, so that `members` must be derived from the records again.
    """

    initial: InitialPopulation
    first_trial: int
    first_generation: int
    records: Records
    last: int = -1
    opened: int = 0
    members: M = ()  # type: ignore[assignment]
    revised: bool = False

    @property
    def table(self) -> Table:
        """All trials since the strategy began."""
        return _latest_outcomes(self.records.array)


def _latest_outcomes(records: Table) -> Table:
    order = np.argsort(records["trial"], kind="stable")
    trials = records["trial"][order]
    last = np.ones(len(order), bool)
    last[:-1] = trials[1:] != trials[:-1]
    found: Table = records[order[last]]
    return found


def rank_timed(table: Table) -> NDArray[np.int64]:
    """The rows that were timed, fastest first; ties in the order of the trials."""
    timed = np.flatnonzero(table["ok"])
    return timed[np.argsort(table["time_ms"][timed], kind="stable")]


def first_generation(table: Table) -> int:
    """The generation of the first timed config, which ends the initial population."""
    return max(int(table["generation"][table["ok"]].min(initial=np.iinfo(np.int64).max)), 0)


# The beginning


def begin(
    kind: InitialPopulationStrategy | None,
    space: Space,
    seeds: Seeds,
    n: int,
    key: Key,
    *,
    share: float,
    wanted: int = 1,
    walks: bool = False,
) -> PopulationState[Any]:
    """The state before anything is known: an initial population of n points, the given ones first, then the random ones
    with some typical ones first.

    share: of the points that is measured. wanted: how many of them must have worked, wherever random ones may be drawn.
    walks: whether the members are walks, which after a restart begin among a small part of the points.
    """
    points = draw_initial_population(kind, space, seeds, n, key)
    given = len(draw_initial_population(kind, space, seeds, 0, key))
    order = typical_first(space, points[given:], math.ceil(PARTS[0] * len(points)))
    ordered = np.concatenate([points[:given], points[given:][order]])
    most = math.ceil(share * len(points))
    if seeds.restarted:
        most = max(RESTART_LEAST, math.ceil(RESTART_SHARE * len(points))) if walks else len(points)
    if given and draws_none(kind, seeds):
        wanted = 1
    initial = InitialPopulation(
        points=ordered, given=given, most=max(most, given), wanted=wanted, restarted=seeds.restarted
    )
    return PopulationState(
        initial=initial, first_trial=seeds.trial, first_generation=seeds.generation, records=Records()
    )


def propose_initial(
    space: Space, state: PopulationState[Any], ask: Ask, n: int, most: int, key: Key
) -> Proposals | AwaitOutcome | Done | None:
    """The proposals until there is a population: None once enough of its points were timed and nothing is pending.

    n: the size of the population. While too few have worked, further random points are drawn, `most` times `n` of them
    at most; as long as nothing at all has worked, each `n` of them are a generation.
    """
    if ask.proposed and ask.outstanding:
        return AwaitOutcome()
    table, initial = state.table, state.initial
    works = int(table["ok"].sum())
    if state.last <= 0:
        points = _next_part(space, initial, ask, works)
        if len(points):
            return Proposals.of(points, 0, "the initial population")
    if ask.outstanding:
        return AwaitOutcome()
    if works:
        evolving = state.last > first_generation(table)
        return None if evolving or works >= initial.wanted else _replacements(space, state, table, ask, n * most, key)
    generation = int(table["generation"].max(initial=-1)) + 1
    points = space.sample_distinct(key, n, ask.fresh)
    if generation > most or not len(points):
        return Done(f"none of the {len(table)} configs tried so far works")
    return Proposals.of(points, generation, "nothing has worked so far")


def _next_part(space: Space, initial: InitialPopulation, ask: Ask, works: int) -> Codes:
    """The next part of an initial population: the given points first, then the most promising by now."""
    fresh, known, size = ask.fresh(initial.points), ask.archive.whole, len(initial.points)
    given = initial.points[: initial.given][fresh[: initial.given]]
    drawn = initial.points[initial.given :][fresh[initial.given :]]
    points = np.concatenate([given, drawn[promising_first(space, known, drawn)]])
    done = size - len(points)
    if initial.restarted and not ask.proposed:
        return points[: initial.most]
    if 0 < works < initial.wanted and done >= initial.most:
        return points[: _still_needed(initial, works, done)]
    if initial.restarted or (works and done >= initial.most):
        return points[:0]
    ends = [end for share in PARTS if (end := math.ceil(share * size)) < initial.most]
    end = next(end for end in (*ends, initial.most, size, size + 1) if end > done)
    return points[: max(end - done, len(given))]


def _replacements(
    space: Space, state: PopulationState[Any], table: Table, ask: Ask, most: int, key: Key
) -> Proposals | None:
    """Further random points in the place of failures; None when there are no more, or `most` were drawn."""
    drawn = int((table["generation"] >= 0).sum()) - state.initial.most
    count = min(_still_needed(state.initial, int(table["ok"].sum()), len(table)), most - drawn)
    if count <= 0:
        return None
    points = space.sample_distinct(fold(key, "replacements"), count, ask.fresh)
    return Proposals.of(points, max(state.last, 0), "in the place of what failed") if len(points) else None


def _still_needed(initial: InitialPopulation, works: int, tried: int) -> int:
    """How many more points it takes until enough have worked, at the share of those tried that did."""
    return min(math.ceil((initial.wanted - works) * tried / works), len(initial.points))


# The generations


class Generational(Protocol[M]):
    """How the members of a strategy follow from its generations."""

    def first_members(self, population: Table) -> M:
        """The members that the initial population leads to."""

    def next_members(self, members: M, batch: Table) -> M:
        """The members after a later generation."""


def record_outcomes(
    strategy: Generational[M], state: PopulationState[M], seen: tuple[Observation, ...]
) -> PopulationState[M]:
    """The state after these outcomes. The first outcome of a generation closes the one before; a new outcome of an
    earlier trial, or any late one, has the members derived from all records again."""
    for observation in seen:
        trial, outcome = observation.trial, observation.outcome
        if trial.id < state.first_trial:
            continue  # from before a restart
        own = trial.origin == OWN_ORIGIN and trial.generation >= state.first_generation
        generation = trial.generation - state.first_generation if own else NO_GENERATION
        repeated = state.records.has(trial.id)
        if generation > state.last and not repeated:
            members = current_members(strategy, state) if state.last >= 0 else state.members
            state = state._replace(members=members, revised=False, last=generation, opened=len(state.records))
        elif repeated or generation < state.last:
            state = state._replace(revised=True)
        timed = isinstance(outcome, Timed)
        time = outcome.time_ms if isinstance(outcome, Timed) else 0.0
        walk = trial.walk if own else NO_GENERATION
        record = (trial.id, timed, time, time, time, outcome.compile_s, walk, generation)
        state = state._replace(records=state.records.append(record))
    return state


def current_members(strategy: Generational[M], state: PopulationState[M]) -> M:
    """The members after all generations so far; empty while nothing has worked."""
    if state.members and not state.revised:
        batch = state.records.array[state.opened :]
        batch = batch[batch["generation"] == state.last]
        return strategy.next_members(state.members, batch[np.argsort(batch["trial"], kind="stable")])
    return derive_members(strategy, state.table)


def derive_members(strategy: Generational[M], table: Table) -> M:
    """The members after these trials, from the initial population on."""
    if not table["ok"].any():
        return ()  # type: ignore[return-value]
    begun, generation = first_generation(table), table["generation"]
    members = strategy.first_members(table[generation <= begun])
    for number in range(begun + 1, int(generation.max()) + 1):
        members = strategy.next_members(members, table[generation == number])
    return members
