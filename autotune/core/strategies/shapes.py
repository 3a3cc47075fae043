"""The shape of a config: its block sizes and warps, which matter more than all that is set beside them.

A kernel with twenty parameters has thousands of configs of each shape, and hardly any two of them are equally fast. A
search that goes by what it expects to gain can spend its whole budget on them, and never look at the next larger block.
"""

from collections import Counter
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autotune.core.memo import read_only
from autotune.core.parameters import BLOCK_SIZE, NUM_WARPS, Codes
from autotune.core.points import row_keys
from autotune.core.space import Space
from autotune.core.strategies.moves import axes

FEW = 20
"""A shape is neglected that was tried less often than the one tried most by this factor."""


@lru_cache(maxsize=16)
def shape_columns(space: Space) -> NDArray[np.int64]:
    """The columns of a point that are its shape; none unless there are blocks and warps, and more is set.

    Blocks without warps are blocks of threads, for which this did not help.
    """
    parts = [(axis.role, axis.columns) for axis in axes(space) if axis.role in (BLOCK_SIZE, NUM_WARPS)]
    columns = [column for _, part in parts for column in range(part.start, part.stop)]
    both = len({role for role, _ in parts}) == 2 and len(columns) < space.columns
    return read_only(np.array(columns if both else [], np.int64))


def neglected(columns: NDArray[np.int64], tried: Codes, points: Codes) -> NDArray[np.int64]:
    """A number for the shape of each of `points` [m, columns], -1 where enough of those `tried` have the same shape.

    Enough is one, and more by and by: a FEW of how often the shape was tried that was tried most.
    """
    if not len(columns) or not len(tried):
        return np.full(len(points), -1)
    counts = Counter(row_keys(tried[:, columns]))
    enough = 1 + max(counts.values()) // FEW
    numbers = {key: -1 for key, count in counts.items() if count >= enough}
    found = (numbers.setdefault(key, i) for i, key in enumerate(row_keys(points[:, columns])))
    return np.fromiter(found, np.int64, len(points))


def shaped(row: Codes, donors: Codes, columns: NDArray[np.int64]) -> Codes:
    """A point [columns] in the shape of each of the `donors` [n, columns]; they may be invalid."""
    rows = np.tile(row, (len(donors) if len(columns) else 0, 1))
    rows[:, columns] = donors[: len(rows), columns]
    return rows
