"""Identity of points: the bytes of their canonical rows."""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from autotune.core.parameters.protocol import Codes


def row_keys(rows: Codes) -> list[bytes]:
    """One bytes object for each row of [n, columns]; equal exactly for equal points."""
    packed = np.ascontiguousarray(rows, np.int64)
    if packed.shape[1] == 0:
        return [b""] * len(packed)
    return cast(list[bytes], packed.view(np.dtype((np.void, packed.shape[1] * 8))).ravel().tolist())


def first_of_each(rows: Codes) -> NDArray[np.int64]:
    """The indices of the first occurrence of every distinct row, in order."""
    first: dict[bytes, int] = {}
    for i, key in enumerate(row_keys(rows)):
        first.setdefault(key, i)
    return np.fromiter(first.values(), np.int64, len(first))
