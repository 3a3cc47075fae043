"""What every parameter kind is: a finite ordered set of values behind one or more columns of small integers."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autotune.core.config import Value
from autotune.core.keys import Key

Codes = NDArray[np.int64]
"""Integer codes of points: shape [n, width] for one parameter, [n, columns] for a space."""

Column = NDArray[np.generic] | tuple["Column", ...]
"""The values of n points for expressions: shape [n], of dtype int64, float64, bool or object; a tuple of columns for a
parameter whose value is a tuple (one column an element)."""

BLOCK_SIZE, NUM_WARPS = "block_size", "num_warps"
"""The roles that strategies know."""


class ParameterKind(Protocol):
    """One dimension of a space. Every method works on whole populations.

    The values have ranks 0 … size - 1. Codes are canonical: one value, one row of codes.
    """

    @property
    def role(self) -> str | None:
        """What the parameter is to a kernel ("block_size", "num_warps", …), for strategies that treat it specially."""

    @property
    def width(self) -> int:
        """How many columns a value takes."""

    @property
    def size(self) -> int:
        """How many values there are; a Python integer of any size."""

    def decode(self, codes: Codes) -> list[Value]:
        """The values of codes [n, width]."""

    def encode(self, value: Value) -> tuple[int, ...]:
        """The codes of one value; raises ValueError, saying what is allowed, when it is none of the values."""

    def contains(self, codes: Codes) -> NDArray[np.bool_]:
        """Which of any integers [n, width] are the codes of a value, shape [n]."""

    def column(self, codes: Codes) -> Column:
        """The values of codes [n, width], as arrays for expressions."""

    def rank(self, codes: Codes) -> NDArray[np.int64]:
        """The ranks of codes [n, width]; only for a size below 2**63."""

    def unrank(self, ranks: NDArray[np.int64]) -> Codes:
        """The codes [n, width] of ranks [n]; only for a size below 2**63."""

    def sample(self, key: Key, n: int) -> Codes:
        """`n` values drawn uniformly and independently."""

    def neighbours(self, codes: Codes, radius: int) -> Codes:
        """All values at most `radius` steps from one value (codes [width]), without it; shape [m, width]. Symmetric."""

    def mutate(self, a: Codes, b: Codes, c: Codes, key: Key) -> Codes:
        """a + (b - c) row by row, as differential evolution means it for this kind; shape [n, width]."""

    @property
    def features(self) -> int:
        """How many features a value has."""

    def encode_features(self, codes: Codes) -> NDArray[np.float64]:
        """Features for models, shape [n, features], on a scale where equal steps are equally far."""

    def describe(self) -> str:
        """The values in a few words, for people."""
