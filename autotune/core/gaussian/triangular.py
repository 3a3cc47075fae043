"""The inverse of a triangular matrix: numpy has none, and its general one does several times the work."""

import numpy as np
from numpy.typing import NDArray

from autotune.core.gaussian.kernel import Floats

LARGEST = 40
"""Up to this size the general inverse is as fast."""


def inverse_lower(factor: NDArray[np.floating]) -> Floats:
    """The inverse of a lower triangular matrix [n, n], by halves: [[A, 0], [B, C]] has [[A', 0], [-C' B A', C']]."""
    n = len(factor)
    if n <= LARGEST:
        small: Floats = np.tril(np.linalg.inv(factor))
        return small
    half = n // 2
    inverse = np.zeros((n, n))
    inverse[:half, :half] = upper = inverse_lower(factor[:half, :half])
    inverse[half:, half:] = lower = inverse_lower(factor[half:, half:])
    inverse[half:, :half] = -lower @ (factor[half:, :half] @ upper)
    return inverse
