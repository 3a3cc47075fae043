"""Moves from a point to others nearby, by changing one parameter or several."""

from itertools import combinations
from typing import NamedTuple

import numpy as np

from autotune.core.keys import Key, fold, integers, permutation, words
from autotune.core.parameters import BLOCK_SIZE, NUM_WARPS, Codes, ListOf, Parameter
from autotune.core.space import Space

MOST_NEIGHBOURS = 256
"""The most neighbours on one parameter that are looked at: a choice of thousands of values must not crowd out all
other parameters, or cost a multiple of the time."""


class Coordinate(NamedTuple):
    """The part of a point that one move changes: a block size (each item of a list by itself), or any other parameter.

    columns, features: its place in a point and in the features of a point.
    """

    kind: Parameter
    role: str | None
    columns: slice
    features: slice

    def neighbours(self, row: Codes, radius: int) -> Codes:
        """Copies [m, columns] of a point [columns] that are within `radius` of it here; constraints aside."""
        codes = self.kind.neighbours(row[self.columns], radius)
        rows = np.tile(row, (len(codes), 1))
        rows[:, self.columns] = codes
        return rows


def coordinates(space: Space) -> tuple[Coordinate, ...]:
    """The coordinates of a space, in the order of its parameters."""
    found: list[Coordinate] = []
    column = feature = 0
    for parameter in space.parameters.values():
        kind, count = parameter, 1
        if parameter.role == BLOCK_SIZE and isinstance(parameter, ListOf):
            kind, count = parameter.inner, parameter.length
        for _ in range(count):
            columns, features = slice(column, column + kind.width), slice(feature, feature + kind.features)
            found.append(Coordinate(kind=kind, role=parameter.role, columns=columns, features=features))
            column, feature = columns.stop, features.stop
    return tuple(found)


def change_one(space: Space, row: Codes, radius: int, key: Key) -> Codes:
    """The points [m, columns] that differ from a point [columns] in one parameter, by at most `radius`; where a
    parameter has more than MOST_NEIGHBOURS, this number of them, drawn at random. Constraints aside."""
    blocks = []
    for name, parameter in space.parameters.items():
        codes = parameter.neighbours(row[space.slices[name]], radius)
        if len(codes) > MOST_NEIGHBOURS:
            codes = codes[np.sort(permutation(fold(key, name), len(codes))[:MOST_NEIGHBOURS])]
        blocks.append(space.with_part(row, name, codes))
    return np.concatenate(blocks)


def neighbourhood(space: Space, row: Codes, key: Key) -> Codes:
    """The neighbours of a point [columns] in one parameter, and for every pair of block sizes all pairs of theirs.

    Shape [m, columns], all different; constraints aside.
    """
    blocks = [
        (coordinate.columns, coordinate.neighbours(row, 1)[:, coordinate.columns])
        for coordinate in coordinates(space)
        if coordinate.role == BLOCK_SIZE
    ]
    pairs = []
    for (first, near_first), (second, near_second) in combinations(blocks, 2):
        rows = np.tile(row, (len(near_first) * len(near_second), 1))
        rows[:, first] = np.repeat(near_first, len(near_second), axis=0)
        rows[:, second] = np.tile(near_second, (len(near_first), 1))
        pairs.append(rows)
    return np.concatenate([change_one(space, row, 1, key), *pairs])


def perturb(space: Space, row: Codes, n: int, radius: int, key: Key) -> Codes:
    """`n` random points around a point [columns]: shape [n, columns], repeats and the point itself among them.

    One random block size and the warps move within `radius`, and up to `radius` of the other coordinates move to a
    random neighbour. Constraints aside.
    """
    parts = coordinates(space)
    sized = [coordinate.role in (BLOCK_SIZE, NUM_WARPS) for coordinate in parts]
    moves_far = np.zeros((n, len(parts)), bool)
    for role in (BLOCK_SIZE, NUM_WARPS):
        of_role = np.array([i for i, coordinate in enumerate(parts) if coordinate.role == role], np.int64)
        if len(of_role):
            moves_far[np.arange(n), of_role[integers(fold(key, role), len(of_role), n)]] = True
    near = [coordinate.neighbours(row, 1) for coordinate in parts]
    never = np.iinfo(np.uint64).max
    order = words(fold(key, "others"), n * len(parts)).reshape(n, len(parts)) >> np.uint64(1)
    order[moves_far | np.array([not len(rows) for rows in near])] = never
    place = np.argsort(np.argsort(order, axis=1, kind="stable"), axis=1, kind="stable")
    moves_near = (place < integers(fold(key, "count"), radius + 1, n)[:, None]) & (order < never)
    picks = words(fold(key, "pick"), n * len(parts)).reshape(n, len(parts))
    found = np.tile(row, (n, 1))
    for i, coordinate in enumerate(parts):
        far = coordinate.neighbours(row, radius) if sized[i] else near[i]
        for moved, options in ((moves_far[:, i], far), (moves_near[:, i], near[i])):
            if len(options) and moved.any():
                chosen = options[(picks[moved, i] % np.uint64(len(options))).astype(np.int64)]
                found[moved, coordinate.columns] = chosen[:, coordinate.columns]
    return found
