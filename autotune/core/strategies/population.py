"""Strategies with a population: how they begin, and what their generations were.

The life of such a strategy: `begin` draws an initial population. `propose_initial` has the better part of it measured,
and more while too little has worked. From then on the strategy breeds generations from its members (walks, or a
population of points), which it derives from the latest outcomes of all trials.
"""

import math
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from autotune.core.history import Points
from autotune.core.keys import Key, fold
from autotune.core.models.ordering import promising_first, typical_first
from autotune.core.parameters import Codes
from autotune.core.points import first_of_each
from autotune.core.space import Space
from autotune.core.strategies.protocol import Ask, AwaitOutcome, Done, Proposals, Seeds

INITIAL_SHARE = 0.5
"""The share of an initial population that is measured by default. The predicted-worse half rarely holds a good start,
so it is measured only while too little has worked: measuring all 100 configs instead of 50 improved the best by 2 % on
the development recordings (docs/reference/strategies.md)."""

PARTS = (0.1, 0.2, 0.4, 0.5, 1.0)
"""An initial population is measured in parts that end at these shares of it; the outcomes of a part order the next."""

RESTART_SHARE, RESTART_LEAST = 0.15, 8
"""After a restart, walks begin among this share of their initial population, or this number of points: bad regions
are known by then, and the evaluations saved go into further walks."""

MOST_BEST_AVAILABLE = 20
"""The most configs of earlier runs, the best ones, that join an initial population, as in Helion."""

POPULATION_SETTING = "initial_population_strategy"
"""The setting of every strategy that begins with a population or a design."""

Table = NDArray[np.void]
"""Trials in the order of their numbers, one row each with the fields of `history.FIELDS`: `Archive.latest`."""


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
    """The initial population, drawn once: the whole state of a strategy with a population.

    The first `given` of the `points` were not drawn. The `most` most promising points are measured, the given ones in
    any case, and more until `wanted` of them have worked; then others are drawn.
    restarted: after a restart so much is known that there is one part only.
    """

    points: Codes
    given: int
    most: int
    wanted: int
    restarted: bool


def rank_timed(table: Table) -> NDArray[np.int64]:
    """The rows that were timed, fastest first; ties in the order of the trials."""
    timed = np.flatnonzero(table["ok"])
    return timed[np.argsort(table["time_ms"][timed], kind="stable")]


def last_generation(table: Table) -> int:
    """The last generation that has an outcome; -1 where the strategy's own trials have none."""
    return int(table["generation"].max(initial=-1))


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
) -> InitialPopulation:
    """An initial population of n points: the given ones first, then the random ones, of which some typical ones first.

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
    return InitialPopulation(
        points=ordered, given=given, most=max(most, given), wanted=wanted, restarted=seeds.restarted
    )


def propose_initial(
    space: Space, initial: InitialPopulation, ask: Ask, n: int, most: int, key: Key
) -> Proposals | AwaitOutcome | Done | None:
    """The proposals until there is a population: None once enough of its points were timed and nothing is pending.

    n: the size of the population. While too few have worked, further random points are drawn, `most` times `n` of them
    at most; as long as nothing at all has worked, each `n` of them are a generation.
    """
    if ask.proposed and ask.outstanding:
        return AwaitOutcome()
    table = ask.archive.latest
    works, last = int(table["ok"].sum()), last_generation(table)
    if last <= 0:
        points = _next_part(space, initial, ask, works)
        if len(points):
            return Proposals.of(points, 0, "the initial population")
    if ask.outstanding:
        return AwaitOutcome()
    if works:
        evolving = last > first_generation(table)
        return None if evolving or works >= initial.wanted else _replacements(space, initial, table, ask, n * most, key)
    points = space.sample_distinct(key, n, ask.fresh)
    if last + 1 > most or not len(points):
        return Done(f"none of the {len(table)} configs tried so far works")
    return Proposals.of(points, last + 1, "nothing has worked so far")


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
    space: Space, initial: InitialPopulation, table: Table, ask: Ask, most: int, key: Key
) -> Proposals | None:
    """Further random points in the place of failures; None when there are no more, or `most` were drawn."""
    drawn = int((table["generation"] >= 0).sum()) - initial.most
    count = min(_still_needed(initial, int(table["ok"].sum()), len(table)), most - drawn)
    if count <= 0:
        return None
    points = space.sample_distinct(fold(key, "replacements"), count, ask.fresh)
    return Proposals.of(points, max(last_generation(table), 0), "in the place of what failed") if len(points) else None


def _still_needed(initial: InitialPopulation, works: int, tried: int) -> int:
    """How many more points it takes until enough have worked, at the share of those tried that did."""
    return min(math.ceil((initial.wanted - works) * tried / works), len(initial.points))
