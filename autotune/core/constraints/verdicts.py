"""What a constraint says of a point: no, yes, or that evaluating it raises.

A verdict that raises is not an error yet: where another constraint already says no, that constraint is the guard.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from autotune.core.config import Value
from autotune.core.parameters import Codes, Parameter

Verdicts = NDArray[np.uint8]
"""One of NO, YES, RAISES for each of n points, shape [n]."""

NO, YES, RAISES = 0, 1, 2


def unique(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The distinct values, sorted. (numpy's own goes through a hash table, which is many times slower on ranges.)"""
    ordered = np.sort(values)
    return ordered[np.r_[True, ordered[1:] != ordered[:-1]]] if len(ordered) else ordered


def distinct(rows: Codes) -> tuple[Codes, NDArray[np.int64]]:
    """The distinct rows of codes, and for each of the n rows the index of its like, shape [n]."""
    if not rows.shape[1]:
        return rows[:1], np.zeros(len(rows), np.int64)
    low = rows.min(axis=0) if len(rows) else np.zeros(rows.shape[1], np.int64)
    spans = [int(top) + 1 for top in (rows - low).max(axis=0)] if len(rows) else []
    total, key = 1, np.zeros(len(rows), np.int64)
    for i, span in enumerate(spans):
        total *= span
        if total >= 2**62:
            unique, inverse = np.unique(rows, axis=0, return_inverse=True)
            return unique, inverse.reshape(-1)
        key = key * span + (rows[:, i] - low[i])
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return rows[first], inverse.reshape(-1)


def decode(parameters: Mapping[str, Parameter], codes: Mapping[str, Codes]) -> list[dict[str, Value]]:
    """The n points as mappings from names to plain values."""
    columns = [parameters[name].decode(part) for name, part in codes.items()]
    return [dict(zip(codes, values, strict=True)) for values in zip(*columns, strict=True)]


def by_rows(
    verdict: Callable[[Mapping[str, Value]], int], parameters: Mapping[str, Parameter], codes: Mapping[str, Codes]
) -> Verdicts:
    """The verdict on each point, codes [n, width] by name, from one evaluation a distinct combination of values."""
    rows = np.concatenate(list(codes.values()), axis=1)
    unique, inverse = distinct(rows)
    ends = np.cumsum([part.shape[1] for part in codes.values()])[:-1]
    parts = dict(zip(codes, np.split(unique, ends, axis=1), strict=True))
    found = np.fromiter((verdict(row) for row in decode(parameters, parts)), np.uint8, len(unique))
    return found[inverse]
