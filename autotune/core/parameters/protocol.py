"""The protocol of parameter kinds: a finite ordered set of values, encoded as one or more columns of small integers."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autotune.core.config import Value
from autotune.core.keys import Key

Codes = NDArray[np.int64]
"""Integer codes of points: shape [n, width] for one parameter, [n, columns] for a space."""

Column = NDArray[np.generic] | tuple["Column", ...]
"""The values of n points for expressions: shape [n], of dtype int64, float64, bool or object; for a parameter whose
values are tuples, one column an element."""

BLOCK_SIZE, NUM_WARPS = "block_size", "num_warps"
"""The roles that strategies treat specially."""


class ParameterKind(Protocol):
    """One dimension of a space. Every method works on whole populations.

    The values have ranks 0 … size - 1. Codes are canonical: one value, one row of codes.
    """

    @property
    def role(self) -> str | None:
        """The role of the parameter in a kernel ("block_size", "num_warps", …), for strategies that treat it apart."""

    @property
    def width(self) -> int:
        """The number of columns of a value."""

    @property
    def size(self) -> int:
        """The number of values; a Python integer of any size."""

    def decode(self, codes: Codes) -> list[Value]:
        """The values of codes [n, width]."""

    def encode(self, value: Value) -> tuple[int, ...]:
        """The codes of one value; raises ValueError, whose text names the allowed values, for any other value."""

    def contains(self, codes: Codes) -> NDArray[np.bool_]:
        """Which rows of integers [n, width] are the codes of a value, shape [n]."""

    def column(self, codes: Codes) -> Column:
        """The values of codes [n, width], as arrays for expressions."""

    def rank(self, codes: Codes) -> NDArray[np.int64]:
        """The ranks of codes [n, width]; only for a size below 2**63."""

    def unrank(self, ranks: NDArray[np.int64]) -> Codes:
        """The codes [n, width] of ranks [n]; only for a size below 2**63."""

    def sample(self, key: Key, n: int) -> Codes:
        """`n` values drawn uniformly and independently."""

    def neighbours(self, codes: Codes, radius: int) -> Codes:
        """The values at most `radius` steps from one value (codes [width]), without it; shape [m, width]. Symmetric."""

    def mutate(self, a: Codes, b: Codes, c: Codes, key: Key) -> Codes:
        """a + (b - c) row by row, as differential evolution defines it for this kind; shape [n, width]."""

    @property
    def features(self) -> int:
        """The number of features of a value."""

    def encode_features(self, codes: Codes) -> NDArray[np.float64]:
        """Features for models, shape [n, features], on a scale where equal steps are equal distances."""

    def describe(self) -> str:
        """The values in a few words, for people."""
