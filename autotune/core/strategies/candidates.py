"""Which points a model is asked about: neighbours of the best, and as many others as there is time for."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autotune.core.keys import Key, fold, uniform
from autotune.core.memo import read_only
from autotune.core.parameters import Codes
from autotune.core.points import first_of_each
from autotune.core.space import Space
from autotune.core.strategies.nearby import around, replaced
from autotune.core.strategies.shapes import shape_columns, shaped

WORK, AXES = 120_000, 12
"""Pairs of a candidate and a known config in one batch: nearly all of a space while little is known of it, when every
pick counts most, and about the same time for every batch. Beyond 12 axes there are fewer: points then take longer to
make, to check and to compare, and the neighbours of the best become many by themselves."""

LISTED, PRODUCT = 20_000, 2**20
"""A space of at most so many points, of so many before constraints, is gone through itself instead of sampled."""


def at_most(least: int, known: int, axes: int) -> int:
    """How many candidates there is time for, `least` at least where the axes are few."""
    return max(least, WORK // max(known, 1)) * AXES**2 // max(axes, AXES) ** 2


def candidates(
    space: Space, best: Codes, near: int, most: int, fresh: Callable[[Codes], NDArray[np.bool_]], key: Key
) -> Codes:
    """Fresh valid points [m, columns]: all that are left if they are no more than `most`, else a sample of `most`, the
    neighbours of the points `best` [b, columns], and `near` mixtures of these with others and with one another; and the
    best in the shapes of others."""
    listed = everything(space)
    if listed is not None and len(listed) <= most:
        return listed[fresh(listed)]
    if listed is None:
        anywhere = space.sample(fold(key, "anywhere"), most)
    else:
        anywhere = listed[_spread(len(listed), most, fold(key, "anywhere"))]
    each = near // (2 * max(len(best), 1))
    moved = around(space, best, each, fold(key, "near"))
    mixed = [replaced(space, row, anywhere[-each:], fold(key, "mixed", i)) for i, row in enumerate(best)]
    columns = shape_columns(space)
    mixed += [shaped(row, anywhere[:each], columns) for row in best]
    rows = np.concatenate([moved, *mixed, anywhere])
    rows = rows[first_of_each(rows)]
    rows = rows[fresh(rows)]
    rows = rows[space.valid(rows)] if len(rows) else rows
    return rows if len(rows) else space.sample_distinct(fold(key, "left"), near, fresh)


def _spread(count: int, n: int, key: Key) -> NDArray[np.int64]:
    """`n` different numbers below `count`, one at random of each of `n` equal parts."""
    places: NDArray[np.int64] = ((np.arange(n) + uniform(key, n)) * (count / n)).astype(np.int64)
    return places


@lru_cache(maxsize=4)
def everything(space: Space) -> Codes | None:
    """All points of a small space, in the order of their ranks, read-only; None for a larger one."""
    if space.size > PRODUCT:
        return None
    rows = space.rows()
    return read_only(rows) if len(rows) <= LISTED else None
