"""Points around one point: its neighbours, two of their moves together, and values of others in a place or two."""

import numpy as np

from autotune.core.keys import Key, fold, integers
from autotune.core.parameters import Codes
from autotune.core.space import Space

RADIUS = 2


def around(space: Space, row: Codes, pairs: int, key: Key) -> Codes:
    """The valid neighbours of a point [columns] within two steps of one parameter, and `pairs` random combinations of
    two of these moves, which may be invalid; shape [m, columns]."""
    single = space.neighbours(row, RADIUS)
    if len(single) < 2:
        return single
    first, second = (single[integers(fold(key, name), len(single), pairs)] for name in ("first", "second"))
    both = second.copy()
    for part in space.slices.values():  # a parameter's columns go together: half of one swap is no permutation
        moved = (first[:, part] != row[part]).any(axis=1)
        both[moved, part] = first[moved, part]
    return np.concatenate([single, both])


def replaced(space: Space, row: Codes, donors: Codes, key: Key) -> Codes:
    """A point [columns] with one or two parameters as in each of the `donors` [n, columns]; they may be invalid."""
    changed = [integers(fold(key, name), len(space.slices), len(donors)) for name in ("first", "second")]
    rows = np.tile(row, (len(donors), 1))
    for i, part in enumerate(space.slices.values()):
        taken = (changed[0] == i) | (changed[1] == i)
        rows[taken, part] = donors[taken, part]
    return rows
