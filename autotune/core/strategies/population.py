"""What the strategies with a population have in common: how they begin, and what they remember of their generations."""

import math
from enum import StrEnum
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from autotune.core.arguments import shown
from autotune.core.errors import StrategyError
from autotune.core.history import Records
from autotune.core.keys import Key, fold
from autotune.core.models.ordering import promising_first, typical_first
from autotune.core.outcomes import Timed
from autotune.core.parameters import Codes
from autotune.core.points import first_of_each
from autotune.core.space import Space
from autotune.core.strategies.protocol import Ask, Done, Observation, Proposals, Seeds, Wait, check_types, require


class InitialPopulationStrategy(StrEnum):
    """Where a search begins; each is equal to its value, and a strategy takes the one or the other.

    FROM_RANDOM: the default, the user's seeds, then random configs. FROM_DEFAULT: the default alone.
    FROM_BEST_AVAILABLE: the default, the user's seeds and up to 20 of the best configs of earlier runs.
    """

    FROM_RANDOM = "from_random"
    FROM_DEFAULT = "from_default"
    FROM_BEST_AVAILABLE = "from_best_available"


POPULATION = "initial_population_strategy"
"""The setting, of every strategy that begins somewhere."""

BEST_AVAILABLE = 20
"""At most this many of the best configs of earlier runs join an initial population."""


def given_points(kind: InitialPopulationStrategy | None, seeds: Seeds) -> Codes:
    """The points that a search of this kind begins with and that are not drawn, each once: [m, columns].

    from_random: the default and the user's seeds. from_default: the default. from_best_available, and None: the
    default, the user's seeds and up to 20 of the best configs of earlier runs.
    """
    match kind:
        case InitialPopulationStrategy.FROM_DEFAULT:
            rows = seeds.default
        case InitialPopulationStrategy.FROM_RANDOM:
            rows = np.concatenate([seeds.default, seeds.user])
        case _:
            rows = np.concatenate([seeds.default, seeds.user, seeds.best[:BEST_AVAILABLE]])
    return rows[first_of_each(rows)]


def initial_population_strategy(strategy: str, given: object) -> InitialPopulationStrategy | None:
    """The kind that a setting names; raises StrategyError, with the kinds that there are, for anything else."""
    if given is None:
        return None
    if isinstance(given, str) and given in tuple(InitialPopulationStrategy):
        return InitialPopulationStrategy(given)
    known = ", ".join(InitialPopulationStrategy)
    raise StrategyError(f"{strategy}: {POPULATION} = {shown(given)} is unknown; use one of {known}, or None")


def initial_population(kind: InitialPopulationStrategy | None, space: Space, seeds: Seeds, n: int, key: Key) -> Codes:
    """The first points of a search, different and valid: [m, columns], m <= n wherever random points fill up.

    from_random (also None): the default, the user's seeds, then random points, `n` in all.
    from_default: the default alone. from_best_available: the default, the user's seeds and up to 20 of the best
    configs of earlier runs, filled up to `n` at random if `seeds.pad`. A kind without any point falls back to random.
    """
    rows = given_points(kind or InitialPopulationStrategy.FROM_RANDOM, seeds)
    if len(rows) and alone(kind, seeds):
        return rows
    known = {row.tobytes() for row in rows}

    def unseen(drawn: Codes) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.fromiter((row.tobytes() not in known for row in drawn), np.bool_, len(drawn))

    return np.concatenate([rows, space.sample_distinct(key, max(n - len(rows), 0), unseen)])


def alone(kind: InitialPopulationStrategy | None, seeds: Seeds) -> bool:
    """Whether a population is made of the points that are given, if there are any, and no random ones join them."""
    if kind is InitialPopulationStrategy.FROM_BEST_AVAILABLE:
        return not seeds.pad
    return kind is InitialPopulationStrategy.FROM_DEFAULT


BETTER = 0.5
"""The share of an initial population that is measured unless a strategy is told otherwise. The rest looks worst, and
hardly ever holds the best to begin from: only while too little has worked it follows."""

PARTS = (0.1, 0.2, 0.4, 0.5, 1.0)
"""An initial population is measured in parts that end at these shares of it; what a part shows orders the next ones."""

AGAIN, LEAST = 0.15, 8
"""After a restart walks begin among this share of their initial population, but at least so many: where not to go is
known by then, and what is saved is spent on further walks."""

Table = NDArray[np.void]
"""Trials in the order of their numbers, a row with the fields of `history.FIELDS` each: the latest outcome."""

M = TypeVar("M", bound=tuple[Any, ...])


class Initial(NamedTuple):
    """The initial population, drawn once.

    The first `given` points were not drawn. Of all `points` the `most` that look best are measured, those given in any
    case, and more until `wanted` of them have worked; then others are drawn.
    again: after a restart, when so much is known that there is but one part.
    """

    points: Codes
    given: int
    most: int
    wanted: int
    again: bool


class Past(NamedTuple, Generic[M]):
    """The state of a strategy with a population; `M` is what it makes of a generation: walks, or members.

    initial: how it begins. trial, generation: the numbers with which it began, for the last time if it was restarted.
    records: the outcomes since then in the order of arrival, revisions among them; generations are counted from 0.
    last: the last generation that has an outcome, and `opened`, how many records there were before it.
    members: M after all generations before the last; empty until one of them has given a population.
    revised: whether an earlier trial has another outcome by now, so that `members` is to be made anew of the records.
    """

    initial: Initial
    trial: int
    generation: int
    records: Records
    last: int = -1
    opened: int = 0
    members: M = ()  # type: ignore[assignment]
    revised: bool = False

    @property
    def table(self) -> Table:
        """All trials since the strategy began."""
        return latest(self.records.array)


class Generations(Protocol[M]):
    """How a strategy gets from one generation to the next."""

    def first_members(self, population: Table) -> M:
        """What it makes of its first population."""

    def next_members(self, members: M, batch: Table) -> M:
        """What it makes of a later generation."""


def latest(records: Table) -> Table:
    """The last of several records of each trial, in the order of the trials."""
    order = np.argsort(records["trial"], kind="stable")
    trials = records["trial"][order]
    last = np.ones(len(order), bool)
    last[:-1] = trials[1:] != trials[:-1]
    found: Table = records[order[last]]
    return found


def ranked(table: Table) -> NDArray[np.int64]:
    """The rows that were timed, fastest first; ties in the order of the trials."""
    timed = np.flatnonzero(table["ok"])
    return timed[np.argsort(table["time_ms"][timed], kind="stable")]


def first_generation(table: Table) -> int:
    """The generation that gave the first timed config, and with it the population to go on from."""
    return max(int(table["generation"][table["ok"]].min(initial=np.iinfo(np.int64).max)), 0)


def observed(strategy: Generations[M], past: Past[M], seen: tuple[Observation, ...]) -> Past[M]:
    """The state after these outcomes. The first of a generation closes the one before; a revision, or anything else of
    a generation that is past, has all of them gone through again."""
    for trial, outcome in ((one.trial, one.outcome) for one in seen):
        if trial.id < past.trial:
            continue  # of before a restart
        own = trial.origin == OWN and trial.generation >= past.generation
        generation = trial.generation - past.generation if own else NOBODYS
        repeated = past.records.has(trial.id)
        if generation > past.last and not repeated:
            members = members_of(strategy, past) if past.last >= 0 else past.members
            past = past._replace(members=members, revised=False, last=generation, opened=len(past.records))
        elif repeated or generation < past.last:
            past = past._replace(revised=True)
        timed = isinstance(outcome, Timed)
        time = outcome.time_ms if isinstance(outcome, Timed) else 0.0
        walk = trial.walk if own else NOBODYS
        record = (trial.id, timed, time, time, time, outcome.compile_s, walk, generation)
        past = past._replace(records=past.records.append(record))
    return past


OWN, NOBODYS = "strategy", -1
"""The origin of a strategy's own trials, and the walk and generation of all others (the default, simplification)."""


def members_of(strategy: Generations[M], past: Past[M]) -> M:
    """What the strategy makes of all generations that there are; empty while nothing has worked."""
    if past.members and not past.revised:
        batch = past.records.array[past.opened :]
        batch = batch[batch["generation"] == past.last]
        return strategy.next_members(past.members, batch[np.argsort(batch["trial"], kind="stable")])
    return traced(strategy, past.table)


def traced(strategy: Generations[M], table: Table) -> M:
    """What the strategy makes of these trials, from its first population on."""
    if not table["ok"].any():
        return ()  # type: ignore[return-value]
    begun, generation = first_generation(table), table["generation"]
    members = strategy.first_members(table[generation <= begun])
    for number in range(begun + 1, int(generation.max()) + 1):
        members = strategy.next_members(members, table[generation == number])
    return members


class HasPopulation(Protocol):
    """The settings that every strategy with a population has."""

    @property
    def initial_population_strategy(self) -> InitialPopulationStrategy | None: ...
    @property
    def compile_timeout_lower_bound(self) -> float: ...
    @property
    def compile_timeout_quantile(self) -> float: ...


def checked_population(name: str, settings: Any) -> None:
    """Raises StrategyError for settings of another type, a way to begin that there is not, and compile timeouts out of
    range. settings: a strategy in the making, `HasPopulation`."""
    kind = initial_population_strategy(name, getattr(settings, POPULATION))
    msgspec.structs.force_setattr(settings, POPULATION, kind)  # a text becomes what it names
    check_types(settings, name)
    lower, quantile = (getattr(settings, f"compile_timeout_{part}") for part in ("lower_bound", "quantile"))
    require(lower > 0, name, "compile_timeout_lower_bound", lower, "seconds above 0")
    require(0 <= quantile <= 1, name, "compile_timeout_quantile", quantile, "a number from 0 to 1")


def checked_share(name: str, share: float) -> None:
    """Raises StrategyError for a share out of range."""
    require(0 < share <= 1, name, "initial_share", share, "a number above 0 up to 1")


def begun(
    kind: InitialPopulationStrategy | None,
    space: Space,
    seeds: Seeds,
    n: int,
    key: Key,
    *,
    share: float,
    wanted: int = 1,
    walks: bool = False,
) -> Past[Any]:
    """The state before anything is known: an `initial_population` of n points, those given as they are, then the random
    ones with some typical ones first.

    share: of the points that is measured. wanted: so many of them must have worked, wherever random ones may be drawn.
    walks: for walks, which after a restart begin among a small part of it.
    """
    points = initial_population(kind, space, seeds, n, key)
    given = len(initial_population(kind, space, seeds, 0, key))
    order = typical_first(space, points[given:], math.ceil(PARTS[0] * len(points)))
    ordered = np.concatenate([points[:given], points[given:][order]])
    most = math.ceil(share * len(points))
    if seeds.again:
        most = max(LEAST, math.ceil(AGAIN * len(points))) if walks else len(points)
    if given and alone(kind, seeds):
        wanted = 1
    initial = Initial(ordered, given, max(most, given), wanted, seeds.again)
    return Past(initial, seeds.trial, seeds.generation, Records())


def initial_proposals(
    space: Space, past: Past[Any], ask: Ask, n: int, most: int, key: Key
) -> Proposals | Wait | Done | None:
    """What to do until a population is there: None once enough of its members were timed and nothing is pending.

    While too few have worked, further random points are drawn, `most` times `n` of them at most; as long as nothing at
    all has worked, those of each time are a generation of their own.
    """
    if ask.proposed and ask.outstanding:
        return Wait()
    table, initial = past.table, past.initial
    works = int(table["ok"].sum())
    if past.last <= 0:
        points = _part(space, initial, ask, works)
        if len(points):
            return _random(points, 0, "the initial population")
    if ask.outstanding:
        return Wait()
    if works:
        evolving = past.last > first_generation(table)
        return None if evolving or works >= initial.wanted else _replacements(space, past, table, ask, n * most, key)
    generation = int(table["generation"].max(initial=-1)) + 1
    points = space.sample_distinct(key, n, ask.fresh)
    if generation > most or not len(points):
        return Done(f"none of the {len(table)} configs tried so far works")
    return _random(points, generation, "nothing has worked so far")


def _random(points: Codes, generation: int, why: str) -> Proposals:
    return Proposals(points, np.zeros(len(points), np.int64), generation, why)


def _replacements(space: Space, past: Past[Any], table: Table, ask: Ask, most: int, key: Key) -> Proposals | None:
    """Further random points for those of the first population that failed; None when there are no more, or `most` were
    drawn."""
    drawn = int((table["generation"] >= 0).sum()) - past.initial.most
    count = min(_needed(past.initial, int(table["ok"].sum()), len(table)), most - drawn)
    if count <= 0:
        return None
    points = space.sample_distinct(fold(key, "replacements"), count, ask.fresh)
    return _random(points, max(past.last, 0), "in the place of what failed") if len(points) else None


def _needed(initial: Initial, works: int, tried: int) -> int:
    """How many more points it takes, as far as those tried tell, until enough have worked."""
    return min(math.ceil((initial.wanted - works) * tried / works), len(initial.points))


def _part(space: Space, initial: Initial, ask: Ask, works: int) -> Codes:
    """The next part of an initial population: first what was given, then what looks best by now."""
    fresh, known, size = ask.fresh(initial.points), ask.archive.whole, len(initial.points)
    given = initial.points[: initial.given][fresh[: initial.given]]
    drawn = initial.points[initial.given :][fresh[initial.given :]]
    points = np.concatenate([given, drawn[promising_first(space, known, drawn)]])
    done = size - len(points)
    if initial.again and not ask.proposed:
        return points[: initial.most]
    if 0 < works < initial.wanted and done >= initial.most:
        return points[: _needed(initial, works, done)]
    if initial.again or (works and done >= initial.most):
        return points[:0]
    ends = [end for share in PARTS if (end := math.ceil(share * size)) < initial.most]
    end = next(end for end in (*ends, initial.most, size, size + 1) if end > done)
    return points[: max(end - done, len(given))]
