"""Arrays of points: their identity, their distinct rows, and ranks joined to one number and taken apart again."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from autotune.core.parameters.protocol import Codes, ParameterKind

Ranks = NDArray[np.int64]
"""Ranks of n points, of one parameter or joined over several; shape [n]."""


def row_keys(rows: Codes) -> list[bytes]:
    """One bytes object for each row of [n, columns]; equal exactly for equal points."""
    packed = np.ascontiguousarray(rows, np.int64)
    if packed.shape[1] == 0:
        return [b""] * len(packed)
    return cast(list[bytes], packed.view(np.dtype((np.void, packed.shape[1] * 8))).ravel().tolist())


def first_of_each(rows: Codes) -> NDArray[np.int64]:
    """The indices of the first occurrence of every distinct row of [n, columns], in order."""
    first: dict[bytes, int] = {}
    for i, key in enumerate(row_keys(rows)):
        first.setdefault(key, i)
    return np.fromiter(first.values(), np.int64, len(first))


def distinct_rows(rows: Codes) -> tuple[Codes, NDArray[np.int64]]:
    """The distinct rows of [n, columns], and for each of the n rows the index of the distinct row equal to it."""
    if not rows.shape[1]:
        return rows[:1], np.zeros(len(rows), np.int64)
    low = rows.min(axis=0) if len(rows) else np.zeros(rows.shape[1], np.int64)
    spans = [int(top) + 1 for top in (rows - low).max(axis=0)] if len(rows) else []
    total, key = 1, np.zeros(len(rows), np.int64)
    for i, span in enumerate(spans):
        total *= span
        if total >= 2**62:  # one number no longer holds a row
            unique, inverse = np.unique(rows, axis=0, return_inverse=True)
            return unique, inverse.reshape(-1)
        key = key * span + (rows[:, i] - low[i])
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return rows[first], inverse.reshape(-1)


def sorted_unique(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The distinct values in ascending order. (`np.unique` hashes, which is many times slower on dense ranges.)"""
    ordered = np.sort(values)
    return ordered[np.r_[True, ordered[1:] != ordered[:-1]]] if len(ordered) else ordered


def is_among(values: NDArray[np.int64], ordered: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which values are in an ascending array, by binary search."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    found: NDArray[np.bool_] = ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values
    return found


def join_ranks(ranks: Sequence[Ranks], sizes: Sequence[int]) -> Ranks:
    """Mixed-radix numbers [n] of the ranks of at least one parameter with these sizes, the first most significant."""
    joined = ranks[0]
    for digit, size in zip(ranks[1:], sizes[1:], strict=True):
        joined = joined * size + digit
    return joined


def codes_by_name(parameters: Mapping[str, ParameterKind], names: Iterable[str], rows: Codes) -> dict[str, Codes]:
    """The codes [n, width] of each parameter from the rows [n, total width] of these names."""
    names = tuple(names)
    ends = np.cumsum([parameters[name].width for name in names])[:-1]
    return dict(zip(names, np.split(rows, ends, axis=1), strict=True))


def joint_ranks(parameters: Mapping[str, ParameterKind], codes: Mapping[str, Codes]) -> Ranks:
    """The joint ranks [n] of n points, codes [n, width] by name, the first name most significant; below 2**63."""
    return join_ranks(
        [parameters[name].rank(part) for name, part in codes.items()], [parameters[name].size for name in codes]
    )


def split_ranks(joined: Ranks, sizes: Sequence[int]) -> list[Ranks]:
    """The inverse of `join_ranks`."""
    digits = []
    for size in reversed(sizes[1:]):
        joined, digit = np.divmod(joined, size)
        digits.append(digit)
    return [joined, *digits[::-1]]
