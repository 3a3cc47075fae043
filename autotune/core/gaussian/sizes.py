"""What several numbers amount to: the elements of a block, and those that a warp gets of it.

Where blocks are tiles of data, worked on by warps whose number is chosen apart, a GPU feels their product and what each
warp gets of it (registers, shared memory, work in flight) as much as the factors. Axes of their own let a model see it
from a dozen points. Blocks without warps are blocks of threads, for which it did not help.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotune.core.gaussian.kernel import Floats
from autotune.core.parameters import BLOCK_SIZE, NUM_WARPS, Codes


class Term(NamedTuple):
    """A parameter whose values are numbers above 0: its role, its columns, its values by codes, log2 of its ends."""

    role: str | None
    columns: slice
    values: Callable[[Codes], Any]
    low: float
    high: float


class Size(NamedTuple):
    """A product of some terms over others, on a logarithmic scale from 0 to 1."""

    name: str
    over: tuple[Term, ...]
    under: tuple[Term, ...]

    def feature(self, rows: Codes) -> Floats:
        """[n] for points [n, columns]."""
        low = sum(term.low for term in self.over) - sum(term.high for term in self.under)
        high = sum(term.high for term in self.over) - sum(term.low for term in self.under)
        above, below = (sum((_log2(term, rows) for term in terms), np.zeros(len(rows))) for terms in self[1:])
        scaled: Floats = (above - below - low) / (high - low)
        return scaled


def sizes_of(terms: Sequence[Term]) -> tuple[Size, ...]:
    """The sizes that the roles of these terms tell of."""
    blocks = tuple(term for term in terms if term.role == BLOCK_SIZE)
    warps = tuple(term for term in terms if term.role == NUM_WARPS)[:1]
    if not blocks or not warps:
        return ()
    each = Size("elements per warp", blocks, warps)
    return (Size("elements of a block", blocks, ()), each) if len(blocks) > 1 else (each,)


def _log2(term: Term, rows: Codes) -> NDArray[np.float64]:
    return np.log2(np.asarray(term.values(rows[:, term.columns]), np.float64))
