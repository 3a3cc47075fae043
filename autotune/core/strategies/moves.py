"""Moves from one point to others nearby."""

from itertools import combinations

import numpy as np

from autotune.core.parameters import Codes, ListOf
from autotune.core.space import Space

BLOCK_SIZE = "block_size"


def neighbourhood(space: Space, row: Codes) -> Codes:
    """All single-parameter neighbours of a point [columns], and for every pair of block sizes all pairs of theirs.

    Shape [m, columns], all different; constraints aside.
    """
    single = [space.with_part(row, name, codes) for name, codes in space.neighbour_blocks(row).items()]
    blocks = [(part, near) for part, near in block_neighbours(space, row) if len(near)]
    pairs = []
    for (first, near_first), (second, near_second) in combinations(blocks, 2):
        rows = np.tile(row, (len(near_first) * len(near_second), 1))
        rows[:, first] = np.repeat(near_first, len(near_second), axis=0)
        rows[:, second] = np.tile(near_second, (len(near_first), 1))
        pairs.append(rows)
    return np.concatenate(single + pairs)


def block_neighbours(space: Space, row: Codes) -> list[tuple[slice, Codes]]:
    """For each block size, in a list of them or by itself: its columns and the codes it can move to."""
    found = []
    for name in space.with_role(BLOCK_SIZE):
        parameter, part = space.parameters[name], space.slices[name]
        inner, count = (parameter.inner, parameter.length) if isinstance(parameter, ListOf) else (parameter, 1)
        for i in range(count):
            own = slice(part.start + i * inner.width, part.start + (i + 1) * inner.width)
            found.append((own, inner.neighbours(row[own], 1)))
    return found
