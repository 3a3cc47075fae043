"""Strategies that follow a list of points fixed at the start: random search and finite search.

Random search draws distinct valid configs uniformly: Bergstra and Bengio, "Random search for hyper-parameter
optimization", JMLR 13 (2012). It is the baseline of every comparison. Finite search measures the configs it is given.
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.arguments import AtLeast1, check_items
from autotune.core.config import as_config
from autotune.core.errors import StrategyError
from autotune.core.keys import Key
from autotune.core.parameters import Codes
from autotune.core.points import first_of_each, row_keys
from autotune.core.space import Space
from autotune.core.strategies.population import draw_initial_population
from autotune.core.strategies.protocol import ArchiveStrategy, Ask, Done, Observation, Proposals, Seeds, done_with_space

AT_ONCE = 16
"""The least number of points proposed together: enough to spare the search most of its steps, and few enough that
time limits set by the best so far apply soon."""


class PointList(NamedTuple):
    """All points of the search, in the order in which they are proposed, independent of measurements."""

    points: Codes


class RandomSearch(ArchiveStrategy, frozen=True, tag="random_search", omit_defaults=True):
    """`count` distinct configs: the default, the user's seeds, then random ones.

    count: configs to try, all in all.
    """

    count: AtLeast1 = 1000

    def init(self, space: Space, seeds: Seeds, key: Key) -> PointList:
        return PointList(draw_initial_population(None, space, seeds, self.count, key))

    def propose(self, space: Space, state: PointList, ask: Ask, key: Key) -> Proposals | Done:
        points = _next_points(state.points, ask)
        if not len(points):
            short = len(state.points) < self.count
            return done_with_space(space, ask) if short else Done(f"all {self.count} configs were tried")
        return Proposals.of(points)


class FiniteSearch(Struct, frozen=True, tag="finite_search", omit_defaults=True):
    """The given configs, at least 2, in order, the default of the space before them.

    configs: the list.
    left_out: further configs of the list that are not tried, since measurements of a like problem showed them to be
    slow. They have no effect; a cache knows by them that the list was considered as a whole.
    """

    configs: tuple[dict[str, Any], ...]
    left_out: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        wanted = "a list of at least 2 configs"
        given = list(check_items(self.configs, "finite_search: configs", wanted, StrategyError))
        if len(given) < 2:
            raise StrategyError(f"finite_search: configs = {given!r} is out of range; use {wanted}")
        configs = tuple(dict(as_config(one, f"finite_search: config {i}")) for i, one in enumerate(given))
        msgspec.structs.force_setattr(self, "configs", configs)
        left = check_items(self.left_out, "finite_search: left_out", "a list of configs", StrategyError)
        left_out = tuple(dict(as_config(one, f"finite_search: left_out {i}")) for i, one in enumerate(left))
        msgspec.structs.force_setattr(self, "left_out", left_out)

    def init(self, space: Space, seeds: Seeds, key: Key) -> PointList:
        checked = [space.check(config, f"finite_search: config {i}") for i, config in enumerate(self.configs)]
        points = np.concatenate([seeds.default, space.encode(checked)])
        return PointList(points[first_of_each(points)])

    def propose(self, space: Space, state: PointList, ask: Ask, key: Key) -> Proposals | Done:
        points = _next_points(state.points, ask)
        if not len(points):
            return Done(f"all {len(state.points)} configs were tried")
        return Proposals.of(points)

    def observe(self, space: Space, state: PointList, seen: tuple[Observation, ...]) -> PointList:
        return state

    def listed(self, space: Space, state: PointList) -> Codes:
        return state.points

    def allows(self, space: Space, state: PointList, points: Codes) -> NDArray[np.bool_]:
        """Only the list may be measured and picked, for it may be all that is known to work."""
        listed = set(row_keys(state.points))
        return np.array([key in listed for key in row_keys(points)], bool)


def _next_points(points: Codes, ask: Ask) -> Codes:
    """The next fresh points of a list: some more than there is room for, as they depend on no outcome."""
    count = max(ask.room, AT_ONCE)
    first = min(ask.proposed, len(points))  # each accepted proposal is a point of the list, so none before is fresh
    while first < len(points):
        block = points[first : first + 2 * count]
        fresh = block[ask.fresh(block)]
        if len(fresh):
            return fresh[:count]
        first += len(block)
    return points[:0]
