"""The shape of a config: its block sizes and warps, which matter more than all that is set beside them.

A kernel with twenty parameters has thousands of configs of each shape, and hardly any two of them are equally fast. A
search that goes by what it expects to gain can spend its whole budget on them, and never look at the next larger block.
"""

import numpy as np
from numpy.typing import NDArray

from autotune.core.parameters import BLOCK_SIZE, NUM_WARPS, Codes
from autotune.core.points import row_keys
from autotune.core.space import Space
from autotune.core.strategies.moves import axes


def shape_columns(space: Space) -> NDArray[np.int64]:
    """The columns of a point that are its shape; none where nothing is said of it, or nothing else is set."""
    parts = [axis.columns for axis in axes(space) if axis.role in (BLOCK_SIZE, NUM_WARPS)]
    columns = [column for part in parts for column in range(part.start, part.stop)]
    return np.array(columns if len(columns) < space.columns else [], np.int64)


def new_shapes(columns: NDArray[np.int64], tried: Codes, points: Codes) -> NDArray[np.int64]:
    """A number for the shape of each of `points` [m, columns], -1 where one of those `tried` has the same shape."""
    if not len(columns):
        return np.full(len(points), -1)
    numbers = dict.fromkeys(row_keys(tried[:, columns]), -1)
    found = (numbers.setdefault(key, i) for i, key in enumerate(row_keys(points[:, columns])))
    return np.fromiter(found, np.int64, len(points))


def shaped(row: Codes, donors: Codes, columns: NDArray[np.int64]) -> Codes:
    """A point [columns] in the shape of each of the `donors` [n, columns]; they may be invalid."""
    rows = np.tile(row, (len(donors) if len(columns) else 0, 1))
    rows[:, columns] = donors[: len(rows), columns]
    return rows
