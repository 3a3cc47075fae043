"""What the strategies with a population have in common: how they begin."""

from typing import NamedTuple, Protocol

import numpy as np

from autotune.core.history import Archive
from autotune.core.keys import Key
from autotune.core.parameters import Codes
from autotune.core.space import Space
from autotune.core.strategies.protocol import Ask, Done, Proposals, Wait
from autotune.core.strategies.ranges import require


class Initial(NamedTuple):
    """The initial population, drawn once; all else is read off the archive."""

    points: Codes


class HasPopulation(Protocol):
    """The settings that every strategy with a population has."""

    @property
    def compile_timeout_lower_bound(self) -> float: ...
    @property
    def compile_timeout_quantile(self) -> float: ...


def checked_population(name: str, settings: HasPopulation) -> None:
    """Raises StrategyError for compile timeouts out of range."""
    lower, quantile = settings.compile_timeout_lower_bound, settings.compile_timeout_quantile
    require(lower > 0, name, "compile_timeout_lower_bound", lower, "seconds above 0")
    require(0 <= quantile <= 1, name, "compile_timeout_quantile", quantile, "a number from 0 to 1")


def initial_proposals(
    space: Space, state: Initial, ask: Ask, n: int, most: int, key: Key
) -> Proposals | Wait | Done | None:
    """What to do until a population is there: None once one of its members was timed and nothing is pending.

    As long as nothing at all has worked, `n` further random points are drawn, up to `most` times.
    """
    if not ask.proposed:
        fresh = state.points[ask.fresh(state.points)]
        if len(fresh):
            return Proposals(fresh, np.zeros(len(fresh), np.int64), 0, "the initial population")
    if ask.outstanding:
        return Wait()
    if ask.archive.ok.any():
        return None
    generation = int(ask.archive.generation.max(initial=-1)) + 1
    points = space.sample_distinct(key, n, ask.fresh)
    if generation > most or not len(points):
        return Done(f"none of the {len(ask.archive)} configs tried so far works")
    return Proposals(points, np.zeros(len(points), np.int64), generation, "nothing has worked so far")


def last_initial(archive: Archive) -> int:
    """The generation that gave the first timed config, and with it the population to go on from."""
    return max(int(archive.generation[archive.ok].min(initial=np.iinfo(np.int64).max)), 0)
