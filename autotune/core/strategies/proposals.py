"""The candidates that a model is asked about: neighbours of the best points, and as many others as there is time for.

Also the shape of a config: its block sizes and warps, which matter more than all parameters beside them. A kernel with
twenty parameters has thousands of configs of each shape, and hardly any two of them are equally fast. A search that
goes by expected improvement can spend its whole budget on one shape, and never look at the next larger block.
"""

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
from autotune.core.strategies.moves import change_one, coordinates

WORK, USUAL_AXES = 120_000, 12
"""The pairs of a candidate and an observation that are compared in one batch: nearly all of a space while little is
known of it, when every pick counts most, and about the same time for every batch. Beyond 12 axes there are fewer
candidates: points then take longer to draw, to check and to compare, and the neighbours of the best are many by
themselves."""

LARGEST_LISTED, LARGEST_PRODUCT = 20_000, 2**20
"""A space of at most 20,000 points, of 2**20 before constraints, is listed instead of sampled."""

RADIUS = 2
"""Neighbours of the best differ by at most two steps of one parameter."""

NEGLECT_FACTOR = 20
"""A shape is neglected that was tried less often than the most tried one by this factor."""


def count_affordable(least: int, observations: int, axes: int) -> int:
    """How many candidates there is time for, at least `least` where the axes are few."""
    return max(least, WORK // max(observations, 1)) * USUAL_AXES**2 // max(axes, USUAL_AXES) ** 2


def propose_candidates(
    space: Space, best: Codes, near: int, most: int, fresh: Callable[[Codes], NDArray[np.bool_]], key: Key
) -> Codes:
    """Fresh valid points [m, columns]: all that are left if the space has at most `most`; else a sample of `most`, the
    neighbours of the points `best` [b, columns], `near` mixtures of these with others and with one another, and the
    best in the shapes of others."""
    listed = list_small_space(space)
    if listed is not None and len(listed) <= most:
        return listed[fresh(listed)]
    if listed is None:
        anywhere = space.sample(fold(key, "anywhere"), most)
    else:
        anywhere = listed[_spread_out(len(listed), most, fold(key, "anywhere"))]
    each = near // (2 * max(len(best), 1))
    neighbours = combine_moves(space, best, each, fold(key, "near"))
    mixed = [transplant(space, row, anywhere[-each:], fold(key, "mixed", i)) for i, row in enumerate(best)]
    columns = shape_columns(space)
    mixed += [take_shapes(row, anywhere[:each], columns) for row in best]
    rows = np.concatenate([neighbours, *mixed, anywhere])
    rows = rows[first_of_each(rows)]
    rows = rows[fresh(rows)]
    rows = rows[space.valid(rows)] if len(rows) else rows
    return rows if len(rows) else space.sample_distinct(fold(key, "left"), near, fresh)


@lru_cache(maxsize=4)
def list_small_space(space: Space) -> Codes | None:
    """All points of a small space, in the order of their ranks, read-only; None for a larger one."""
    if space.size > LARGEST_PRODUCT:
        return None
    rows = space.rows()
    return read_only(rows) if len(rows) <= LARGEST_LISTED else None


def _spread_out(count: int, n: int, key: Key) -> NDArray[np.int64]:
    """`n` different numbers below `count`, one at random of each of `n` equal parts."""
    places: NDArray[np.int64] = ((np.arange(n) + uniform(key, n)) * (count / n)).astype(np.int64)
    return places


# Points around the best


def combine_moves(space: Space, rows: Codes, pairs: int, key: Key) -> Codes:
    """For each of the points `rows` [b, columns] its valid neighbours within RADIUS in one parameter, and `pairs`
    random combinations of two of these, which may be invalid; shape [m, columns]."""
    if not len(rows):
        return rows
    moved = [change_one(space, row, RADIUS, fold(key, "wide", i)) for i, row in enumerate(rows)]
    valid = space.valid(np.concatenate(moved))  # all at once: a constraint costs as much for a few
    ends = np.cumsum([len(one) for one in moved])[:-1]
    found = []
    for i, (row, one, works) in enumerate(zip(rows, moved, np.split(valid, ends), strict=True)):
        single = one[works]
        found += [single, _pair_moves(space, row, single, pairs, fold(key, i))] if len(single) > 1 else [single]
    return np.concatenate(found)


def _pair_moves(space: Space, row: Codes, single: Codes, n: int, key: Key) -> Codes:
    """`n` combinations of two of the moves `single` [m, columns] of a point."""
    first, second = (single[integers(fold(key, name), len(single), n)] for name in ("first", "second"))
    both = second.copy()
    for part in space.slices.values():  # a parameter's columns go together: half of one swap is no permutation
        moved = (first[:, part] != row[part]).any(axis=1)
        both[moved, part] = first[moved, part]
    return both


def transplant(space: Space, row: Codes, donors: Codes, key: Key) -> Codes:
    """A point [columns] with one or two parameters as in each of the `donors` [n, columns]; they may be invalid."""
    changed = [integers(fold(key, name), len(space.slices), len(donors)) for name in ("first", "second")]
    rows = np.tile(row, (len(donors), 1))
    for i, part in enumerate(space.slices.values()):
        taken = (changed[0] == i) | (changed[1] == i)
        rows[taken, part] = donors[taken, part]
    return rows


# Shapes


@lru_cache(maxsize=16)
def shape_columns(space: Space) -> NDArray[np.int64]:
    """The columns of a point that are its shape; none unless there are blocks and warps, and other parameters.

    Blocks without warps are blocks of threads, for which this did not help.
    """
    parts = [(one.role, one.columns) for one in coordinates(space) if one.role in (BLOCK_SIZE, NUM_WARPS)]
    columns = [column for _, part in parts for column in range(part.start, part.stop)]
    both = len({role for role, _ in parts}) == 2 and len(columns) < space.columns
    return read_only(np.array(columns if both else [], np.int64))


def number_neglected_shapes(columns: NDArray[np.int64], tried: Codes, points: Codes) -> NDArray[np.int64]:
    """A number for the shape of each of `points` [m, columns], -1 where enough of those `tried` have the same shape.

    Enough is one, and more by and by: the count of the most tried shape, divided by NEGLECT_FACTOR.
    """
    if not len(columns) or not len(tried):
        return np.full(len(points), -1)
    counts = Counter(row_keys(tried[:, columns]))
    enough = 1 + max(counts.values()) // NEGLECT_FACTOR
    numbers = {key: -1 for key, count in counts.items() if count >= enough}
    found = (numbers.setdefault(key, i) for i, key in enumerate(row_keys(points[:, columns])))
    return np.fromiter(found, np.int64, len(points))


def take_shapes(row: Codes, donors: Codes, columns: NDArray[np.int64]) -> Codes:
    """A point [columns] in the shape of each of the `donors` [n, columns]; they may be invalid."""
    rows = np.tile(row, (len(donors) if len(columns) else 0, 1))
    rows[:, columns] = donors[: len(rows), columns]
    return rows
