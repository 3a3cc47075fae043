"""What the strategies with a population have in common: how they begin."""

import math
from typing import NamedTuple, Protocol

import numpy as np
from msgspec import Struct

from autotune.core.history import Archive
from autotune.core.keys import Key
from autotune.core.parameters import Codes
from autotune.core.space import Space
from autotune.core.strategies.initial import InitialPopulation, initial_population
from autotune.core.strategies.ordering import promising_first, typical_first
from autotune.core.strategies.protocol import Ask, Done, Proposals, Seeds, Wait
from autotune.core.strategies.ranges import check_types, require

BETTER = 0.5
"""The share of an initial population that is measured. The rest looks worst, and hardly ever holds the best to begin
from: only while nothing at all has worked it follows."""

PARTS = (0.1, 0.2, 0.4, BETTER, 1.0)
"""An initial population is measured in parts that end at these shares of it; what a part shows orders the next ones."""

AGAIN, LEAST = 0.15, 8
"""After a restart walks begin among this share of their initial population, but at least so many: where not to go is
known by then, and what is saved is spent on further walks."""


class Initial(NamedTuple):
    """The initial population, drawn once; all else is read off the archive.

    The first `given` points were not drawn. Of all `points` the `most` that look best are measured, those given in any
    case. again: after a restart, when so much is known that there is but one part.
    """

    points: Codes
    given: int
    most: int
    again: bool


class HasPopulation(Protocol):
    """The settings that every strategy with a population has."""

    @property
    def compile_timeout_lower_bound(self) -> float: ...
    @property
    def compile_timeout_quantile(self) -> float: ...


def checked_population(name: str, settings: HasPopulation) -> None:
    """Raises StrategyError for settings of another type, and for compile timeouts out of range."""
    if isinstance(settings, Struct):
        check_types(settings, name)
    lower, quantile = settings.compile_timeout_lower_bound, settings.compile_timeout_quantile
    require(lower > 0, name, "compile_timeout_lower_bound", lower, "seconds above 0")
    require(0 <= quantile <= 1, name, "compile_timeout_quantile", quantile, "a number from 0 to 1")


def first_points(
    kind: InitialPopulation | None, space: Space, seeds: Seeds, n: int, key: Key, walks: bool = False
) -> Initial:
    """`initial_population`: those that were given as they are, then the random ones with some typical ones first.

    walks: for walks, which after a restart begin among a small part of it.
    """
    points = initial_population(kind, space, seeds, n, key)
    given = len(initial_population(kind, space, seeds, 0, key))
    order = typical_first(space, points[given:], math.ceil(PARTS[0] * len(points)))
    ordered = np.concatenate([points[:given], points[given:][order]])
    most = math.ceil(BETTER * len(points))
    if seeds.again:
        most = max(LEAST, math.ceil(AGAIN * len(points))) if walks else len(points)
    return Initial(ordered, given, max(most, given), seeds.again)


def initial_proposals(
    space: Space, state: Initial, ask: Ask, n: int, most: int, key: Key
) -> Proposals | Wait | Done | None:
    """What to do until a population is there: None once one of its members was timed and nothing is pending.

    As long as nothing at all has worked, `n` further random points are drawn, up to `most` times.
    """
    if ask.proposed and ask.outstanding:
        return Wait()
    if not ask.archive.generation.max(initial=0):
        points = _part(space, state, ask)
        if len(points):
            return Proposals(points, np.zeros(len(points), np.int64), 0, "the initial population")
    if ask.outstanding:
        return Wait()
    if ask.archive.ok.any():
        return None
    generation = int(ask.archive.generation.max(initial=-1)) + 1
    points = space.sample_distinct(key, n, ask.fresh)
    if generation > most or not len(points):
        return Done(f"none of the {len(ask.archive)} configs tried so far works")
    return Proposals(points, np.zeros(len(points), np.int64), generation, "nothing has worked so far")


def _part(space: Space, state: Initial, ask: Ask) -> Codes:
    """The next part of an initial population: first what was given, then what looks best by now."""
    fresh, known, size = ask.fresh(state.points), ask.archive.whole, len(state.points)
    given, drawn = state.points[: state.given][fresh[: state.given]], state.points[state.given :][fresh[state.given :]]
    points = np.concatenate([given, drawn[promising_first(space, known, drawn)]])
    if state.again:
        return points[: 0 if ask.proposed else state.most]
    done = size - len(points)
    if done >= state.most and ask.archive.ok.any():
        return points[:0]
    end = next((end for share in PARTS if (end := math.ceil(share * size)) > done), size)
    return points[: max(end - done, len(given))]


def last_initial(archive: Archive) -> int:
    """The generation that gave the first timed config, and with it the population to go on from."""
    return max(int(archive.generation[archive.ok].min(initial=np.iinfo(np.int64).max)), 0)
