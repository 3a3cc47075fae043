"""The config for a shape that was not tuned: a row of a dispatch table, or what served the nearest shapes."""

from contextlib import suppress
from typing import NamedTuple

from autotune.backends.triton_decorator.cache_key import device_of
from autotune.backends.triton_decorator.call_key import Call, Calls
from autotune.backends.triton_decorator.configs import Candidates
from autotune.core.config import Config
from autotune.core.cover import suit_both
from autotune.core.errors import CacheError, ConfigError
from autotune.shell.cache.keys import Specialization
from autotune.shell.cache.nearest import describe_neighbour, describe_shapes, find_neighbour
from autotune.shell.cache.reuse import KeyedCache
from autotune.shell.dispatch_table import DispatchTable


class StandIn(NamedTuple):
    """A point of the candidates for a shape without a config of its own. shape: the nearest one, in words. description:
    what is used and why, a sentence for people."""

    point: Config
    shape: str
    description: str


def nearest_in_cache(keyed: KeyedCache, candidates: Candidates) -> StandIn | None:
    """The config that served the nearest shapes in the cache, among the candidates."""

    def as_candidate(config: Config) -> Config | None:
        with suppress(ConfigError):
            point = candidates.space.check(config)
            return point if candidates.configs is None or point in candidates.configs else None
        return None

    found = find_neighbour(keyed.cache, keyed.key.loose, as_candidate)
    return None if found is None else StandIn(found.config, found.shape, found.description)


def shape_in_table(table: DispatchTable, calls: Calls, call: Call) -> Specialization:
    """The shape of a call as a table has it; raises CacheError where the table is of another device."""
    device = device_of(call)
    if device != table.device:
        raise CacheError(f"it is of {table.device.name}, and this is {device.name}")
    return calls.specialization(call)


def point_in_table(table: DispatchTable, shape: Specialization, candidates: Candidates) -> Config | None:
    """The config of the row of this very shape."""
    row = table.find(shape)
    return None if row is None else candidates.of_table(table.configs[row.config])


def nearest_in_table(table: DispatchTable, shape: Specialization, candidates: Candidates) -> StandIn | None:
    """The config for a shape between rows, as `suit_both` takes it from the nearest two."""
    points = {i: point for i, config in enumerate(table.configs) if (point := candidates.of_table(config)) is not None}
    rows = [(apart, row, {i: ms for i, ms in row.times().items() if i in points})
            for apart, row in table.order(shape)]  # fmt: skip
    near = [one for one in rows if one[2]][:2]
    if not near:
        return None
    (apart, row, times), (farther, _, others) = near[0], near[-1]
    wanted, known = describe_shapes(table.key(shape), table.key(row.specialization))
    point = points[suit_both(times, others, apart, farther)]
    return StandIn(point, known, describe_neighbour(wanted, known, "of its table", apart))
