"""What column-wise evaluation works on: the rows at hand, and compiled nodes with the bounds of their values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.core.expressions.tables import Array
from autotune.core.parameters import Column


class Unpromised(Exception):
    """Columns cannot promise Python's answer here; take the rows one by one."""


@dataclass(frozen=True)
class Frame:
    """The rows being evaluated: all n, or those in `rows`. raised [all n]: where Python would have raised."""

    n: int
    ranks: Mapping[str, NDArray[np.int64]]
    columns: Mapping[str, Column]
    raised: NDArray[np.bool_]
    rows: NDArray[np.int64] | None

    def rank(self, name: str) -> NDArray[np.int64]:
        """The ranks of a tabled parameter on these rows."""
        ranks = self.ranks[name]
        return ranks if self.rows is None else ranks[self.rows]

    def column(self, name: str) -> Column:
        """The values of a parameter read as it is, on these rows."""
        return self.columns[name] if self.rows is None else _take(self.columns[name], self.rows)

    def only(self, where: NDArray[np.int64]) -> "Frame":
        """The rows at these positions."""
        rows = where if self.rows is None else self.rows[where]
        return Frame(len(where), self.ranks, self.columns, self.raised, rows)

    def fail(self, mask: NDArray[np.bool_]) -> None:
        """Mark rows, by a mask over this frame, as raising."""
        bad = np.flatnonzero(np.broadcast_to(mask, (self.n,)))
        self.raised[bad if self.rows is None else self.rows[bad]] = True


def _take(column: Column, rows: NDArray[np.int64]) -> Column:
    return tuple(_take(part, rows) for part in column) if isinstance(column, tuple) else column[rows]


@dataclass(frozen=True)
class Part:
    """A compiled node. low, high: bounds where its values are integers or bools, None where they never are.

    safe: it neither raises nor depends on which rows are evaluated.
    """

    of: Callable[[Frame], Array]
    low: int | None
    high: int | None
    safe: bool

    @property
    def size(self) -> int:
        """The largest absolute value of an integer."""
        return 0 if self.low is None or self.high is None else max(abs(self.low), abs(self.high))
