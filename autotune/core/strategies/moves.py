"""Moves from one point to others nearby."""

from itertools import combinations
from typing import NamedTuple

import numpy as np

from autotune.core.keys import Key, fold, integers, permutation, words
from autotune.core.parameters import BLOCK_SIZE, NUM_WARPS, Codes, ListOf, Parameter
from autotune.core.space import Space

WIDE = 256
"""So many neighbours on one parameter are looked at: a choice of thousands of values must not crowd out all others, or
cost as many times the time."""


class Axis(NamedTuple):
    """What one move changes: a block size (every one of a list by itself), or any other parameter.

    columns, features: where it lies in a point and in the features of one.
    """

    kind: Parameter
    role: str | None
    columns: slice
    features: slice

    def near(self, row: Codes, radius: int) -> Codes:
        """Copies [m, columns] of a point [columns] that are within `radius` of it on this axis; constraints aside."""
        codes = self.kind.neighbours(row[self.columns], radius)
        rows = np.tile(row, (len(codes), 1))
        rows[:, self.columns] = codes
        return rows


def axes(space: Space) -> tuple[Axis, ...]:
    """The axes of a space, in the order of its parameters."""
    found: list[Axis] = []
    column = feature = 0
    for parameter in space.parameters.values():
        listed = parameter.role == BLOCK_SIZE and isinstance(parameter, ListOf)
        kind, count = (
            (parameter.inner, parameter.length) if listed and isinstance(parameter, ListOf) else (parameter, 1)
        )
        for _ in range(count):
            ends = column + kind.width, feature + kind.features
            found.append(Axis(kind, parameter.role, slice(column, ends[0]), slice(feature, ends[1])))
            column, feature = ends
    return tuple(found)


def moves(space: Space, row: Codes, radius: int, key: Key) -> Codes:
    """The points [m, columns] that differ from one point [columns] in one parameter, by at most `radius`; of a
    parameter with more than WIDE of them so many drawn at random. Constraints aside."""
    blocks = []
    for name, parameter in space.parameters.items():
        codes = parameter.neighbours(row[space.slices[name]], radius)
        if len(codes) > WIDE:
            codes = codes[np.sort(permutation(fold(key, name), len(codes))[:WIDE])]
        blocks.append(space.with_part(row, name, codes))
    return np.concatenate(blocks)


def neighbourhood(space: Space, row: Codes, key: Key) -> Codes:
    """The `moves` from a point [columns] to single-parameter neighbours, and for every pair of block sizes all pairs of
    theirs.

    Shape [m, columns], all different; constraints aside.
    """
    blocks = [(axis.columns, axis.near(row, 1)[:, axis.columns]) for axis in axes(space) if axis.role == BLOCK_SIZE]
    pairs = []
    for (first, near_first), (second, near_second) in combinations(blocks, 2):
        rows = np.tile(row, (len(near_first) * len(near_second), 1))
        rows[:, first] = np.repeat(near_first, len(near_second), axis=0)
        rows[:, second] = np.tile(near_second, (len(near_first), 1))
        pairs.append(rows)
    return np.concatenate([moves(space, row, 1, key), *pairs])


def perturbed(space: Space, row: Codes, n: int, radius: int, key: Key) -> Codes:
    """`n` random points around one point [columns]: shape [n, columns], repeats and the point itself among them.

    One random block size and the warps move within `radius`, and up to `radius` of the other axes move to a random
    neighbour. Constraints aside.
    """
    parts = axes(space)
    far = [axis.role in (BLOCK_SIZE, NUM_WARPS) for axis in parts]
    first = np.zeros((n, len(parts)), bool)  # what moves far, in each of the points
    for role in (BLOCK_SIZE, NUM_WARPS):
        those = np.array([i for i, axis in enumerate(parts) if axis.role == role], np.int64)
        if len(those):
            first[np.arange(n), those[integers(fold(key, role), len(those), n)]] = True
    near = [axis.near(row, 1) for axis in parts]
    order = words(fold(key, "others"), n * len(parts)).reshape(n, len(parts)) >> np.uint64(1)
    order[first | np.array([not len(rows) for rows in near])] = np.iinfo(np.uint64).max
    place = np.argsort(np.argsort(order, axis=1, kind="stable"), axis=1, kind="stable")
    others = (place < integers(fold(key, "count"), radius + 1, n)[:, None]) & (order < np.iinfo(np.uint64).max)
    picks = words(fold(key, "pick"), n * len(parts)).reshape(n, len(parts))
    found = np.tile(row, (n, 1))
    for i, axis in enumerate(parts):
        reach = axis.near(row, radius) if far[i] else near[i]
        for moved, options in ((first[:, i], reach), (others[:, i], near[i])):
            if len(options) and moved.any():
                chosen = options[(picks[moved, i] % np.uint64(len(options))).astype(np.int64)]
                found[moved, axis.columns] = chosen[:, axis.columns]
    return found
