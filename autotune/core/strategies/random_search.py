"""Random search: distinct valid configs, drawn uniformly. The baseline of every comparison.

Bergstra and Bengio, "Random search for hyper-parameter optimization", JMLR 13 (2012).
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.arguments import items
from autotune.core.config import as_config
from autotune.core.errors import StrategyError
from autotune.core.keys import Key
from autotune.core.parameters import Codes
from autotune.core.points import first_of_each, row_keys
from autotune.core.space import Space
from autotune.core.strategies.population import initial_population
from autotune.core.strategies.protocol import (
    Ask,
    Done,
    Observation,
    Proposals,
    Seeds,
    check_types,
    nothing_left,
    require,
)

AHEAD = 16
"""Proposed together at least, which spares the machine most of its steps; and few enough for cut-offs to follow."""


class Drawn(NamedTuple):
    """All points of the search, in the order they are proposed: the draw does not depend on what was measured when."""

    points: Codes


class RandomSearch(Struct, frozen=True, tag="random_search", omit_defaults=True):
    """`count` distinct configs: the default, the user's seeds, then random ones."""

    count: int = 1000

    def __post_init__(self) -> None:
        check_types(self, "random_search")
        require(self.count >= 1, "random_search", "count", self.count, "at least 1")

    def init(self, space: Space, seeds: Seeds, key: Key) -> Drawn:
        return Drawn(initial_population(None, space, seeds, self.count, key))

    def propose(self, space: Space, state: Drawn, ask: Ask, key: Key) -> Proposals | Done:
        points = next_fresh(state.points, ask)
        if not len(points):
            short = len(state.points) < self.count
            return nothing_left(space, ask) if short else Done(f"all {self.count} configs were tried")
        return Proposals(points, np.zeros(len(points), np.int64))

    def observe(self, space: Space, state: Drawn, seen: tuple[Observation, ...]) -> Drawn:
        return state


def next_fresh(points: Codes, ask: Ask) -> Codes:
    """The next of a fixed list of points: some more than there is room for, since they depend on nothing to come."""
    count = max(ask.room, AHEAD)
    first = min(ask.proposed, len(points))  # each accepted proposal is a point of the list, so none before is fresh
    while first < len(points):
        block = points[first : first + 2 * count]
        fresh = block[ask.fresh(block)]
        if len(fresh):
            return fresh[:count]
        first += len(block)
    return points[:0]


class FiniteSearch(Struct, frozen=True, tag="finite_search", omit_defaults=True):
    """The given configs (at least 2), in order, the default of the space before them."""

    configs: tuple[dict[str, Any], ...]

    def __post_init__(self) -> None:
        wanted = "a list of at least 2 configs"
        given = list(items(self.configs, "finite_search: configs", wanted, StrategyError))
        require(len(given) >= 2, "finite_search", "configs", given, wanted)
        configs = tuple(dict(as_config(one, f"finite_search: config {i}")) for i, one in enumerate(given))
        msgspec.structs.force_setattr(self, "configs", configs)

    def init(self, space: Space, seeds: Seeds, key: Key) -> Drawn:
        checked = [space.check(config, f"finite_search: config {i}") for i, config in enumerate(self.configs)]
        rows = space.encode(checked)
        rows = np.concatenate([seeds.default, rows])
        return Drawn(rows[first_of_each(rows)])

    def propose(self, space: Space, state: Drawn, ask: Ask, key: Key) -> Proposals | Done:
        points = next_fresh(state.points, ask)
        if not len(points):
            return Done(f"all {len(state.points)} configs were tried")
        return Proposals(points, np.zeros(len(points), np.int64))

    def allows(self, space: Space, state: Drawn, points: Codes) -> NDArray[np.bool_]:
        """Nothing but the list is measured, and so nothing else is picked: it may be all that is known to work."""
        listed = set(row_keys(state.points))
        return np.array([key in listed for key in row_keys(points)], bool)

    def observe(self, space: Space, state: Drawn, seen: tuple[Observation, ...]) -> Drawn:
        return state
