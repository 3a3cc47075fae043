"""Which points a model is asked about: neighbours of the best, and as many others as there is time for."""

from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autotune.core.keys import Key, fold, integers, uniform
from autotune.core.memo import read_only
from autotune.core.parameters import BLOCK_SIZE, NUM_WARPS, Codes
from autotune.core.points import first_of_each, row_keys
from autotune.core.space import Space
from autotune.core.strategies.moves import axes, moves

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


RADIUS = 2


def around(space: Space, rows: Codes, pairs: int, key: Key) -> Codes:
    """For each of the points `rows` [b, columns] its valid `moves` within two steps of one parameter, and `pairs`
    random combinations of two of these, which may be invalid; shape [m, columns]."""
    if not len(rows):
        return rows
    moved = [moves(space, row, RADIUS, fold(key, "wide", i)) for i, row in enumerate(rows)]
    valid = space.valid(np.concatenate(moved))  # all at once: a constraint costs as much for a few
    ends = np.cumsum([len(those) for those in moved])[:-1]
    found = []
    for i, (row, those, works) in enumerate(zip(rows, moved, np.split(valid, ends), strict=True)):
        single = those[works]
        found += [single, _in_pairs(space, row, single, pairs, fold(key, i))] if len(single) > 1 else [single]
    return np.concatenate(found)


def _in_pairs(space: Space, row: Codes, single: Codes, n: int, key: Key) -> Codes:
    """`n` combinations of two of the moves `single` [m, columns] of a point."""
    first, second = (single[integers(fold(key, name), len(single), n)] for name in ("first", "second"))
    both = second.copy()
    for part in space.slices.values():  # a parameter's columns go together: half of one swap is no permutation
        moved = (first[:, part] != row[part]).any(axis=1)
        both[moved, part] = first[moved, part]
    return both


def replaced(space: Space, row: Codes, donors: Codes, key: Key) -> Codes:
    """A point [columns] with one or two parameters as in each of the `donors` [n, columns]; they may be invalid."""
    changed = [integers(fold(key, name), len(space.slices), len(donors)) for name in ("first", "second")]
    rows = np.tile(row, (len(donors), 1))
    for i, part in enumerate(space.slices.values()):
        taken = (changed[0] == i) | (changed[1] == i)
        rows[taken, part] = donors[taken, part]
    return rows


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
