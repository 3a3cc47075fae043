"""Points around one point: its neighbours, two of their moves together, and values of others in a place or two."""

import numpy as np

from autotune.core.keys import Key, fold, integers
from autotune.core.parameters import Codes
from autotune.core.space import Space
from autotune.core.strategies.moves import moves

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
