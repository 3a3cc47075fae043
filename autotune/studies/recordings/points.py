"""Which row of a recording holds a point: a search in sorted mixed-radix ranks, for whole populations of points.

A rank is compressed to its place among the recorded ones before it can pass 63 bits, so a space of any size will do.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

_LIMIT = 2**62


class PointIndex:
    """The recorded points in order, built once; `rows` answers in O(m log n) without a Python loop over points."""

    def __init__(self, codes: Integers, sizes: Sequence[int]) -> None:
        """codes: [n, parameters], each below its parameter's number of values in `sizes`."""
        self._sizes = tuple(sizes)
        self._stages: list[tuple[range, Integers]] = []
        rank = np.zeros(len(codes), np.int64)
        for group in self._groups(max(1, len(codes))):
            table, rank = np.unique(self._extend(rank, codes, group), return_inverse=True)
            self._stages.append((group, table))
        self.distinct = len(self._stages[-1][1]) if self._stages else min(1, len(codes))
        self._rows = np.zeros(self.distinct, np.int64)
        self._rows[rank] = np.arange(len(codes))

    def _groups(self, n: int) -> list[range]:
        """Runs of columns, each of which extends the place of one of n points by less than 2**62."""
        groups, start, reach = [], 0, n
        for column, size in enumerate(self._sizes):
            if reach * size >= _LIMIT and column > start:
                groups.append(range(start, column))
                start, reach = column, n
            reach *= size
        return [*groups, range(start, len(self._sizes))] if self._sizes else []

    def _extend(self, rank: Integers, codes: Integers, group: range) -> Integers:
        for column in group:
            rank = rank * self._sizes[column] + codes[:, column]
        return rank

    def rows(self, codes: Integers) -> Integers:
        """The row of every point of `codes` [m, parameters], or -1 where there is none; shape [m].

        Codes outside their parameter's values are no recorded point: -1. Raises ValueError for a wrong shape.
        """
        points = np.asarray(codes, np.int64)
        if points.ndim != 2 or points.shape[1] != len(self._sizes):
            raise ValueError(f"codes have the shape {points.shape}; pass [points, {len(self._sizes)}]")
        if self.distinct == 0:
            return np.full(len(points), -1, np.int64)
        found: NDArray[np.bool_] = np.all((points >= 0) & (points < np.array(self._sizes, np.int64)), axis=1)
        points = np.where(found[:, None], points, 0)
        place = np.zeros(len(points), np.int64)
        for group, table in self._stages:
            rank = self._extend(place, points, group)
            place = np.minimum(np.searchsorted(table, rank), len(table) - 1)
            found &= table[place] == rank
        return np.where(found, self._rows[place], -1)
