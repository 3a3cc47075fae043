"""Finite search: a given list of configs, all of them."""

from typing import Any

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
from autotune.core.strategies.protocol import Ask, Done, Observation, Proposals, Seeds
from autotune.core.strategies.random_search import Drawn, next_fresh
from autotune.core.strategies.ranges import require


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
