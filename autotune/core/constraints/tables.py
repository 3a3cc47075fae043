"""Tables: the results of a subexpression that reads one small parameter, worked out row-wise for each of its values.

Whatever happens inside (None, strings, tuples, logarithms, an error) happens there by Python's own meaning; a column of
results is then a gather.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.core.constraints.by_row import RAISED, Row
from autotune.core.parameters import Parameter

Array = NDArray[Any]
"""Values of n points, shape [n], of dtype bool, int64 or float64; or one value for all of them, shape []."""

BOOL, INT, FLOAT, OTHER, ERROR = 0, 1, 2, 3, 4
DTYPES: tuple[type[np.generic], ...] = (np.bool_, np.int64, np.float64)
SAFE = 2**62
"""Integers up to this size may meet one addition in int64."""


@dataclass(frozen=True)
class Table:
    """Results by rank. kinds: one of the five above for each rank; kind: theirs when all are alike, else None.

    low, high: bounds of the integer results, None where there are none.
    """

    kinds: NDArray[np.int8]
    kind: int | None
    payloads: tuple[Array, Array, Array]
    low: int | None
    high: int | None

    @property
    def safe(self) -> bool:
        """Whether every rank has a result that columns can hold."""
        return self.kind is not None and self.kind <= FLOAT


def tabulate(values: list[Any]) -> Table:
    """The table of values, each a result or (for one that raised) an exception."""
    kinds = np.array([_kind(value) for value in values], np.int8)
    payloads = []
    for kind, dtype in enumerate(DTYPES):
        held = np.zeros(len(values), dtype)
        where = np.flatnonzero(kinds == kind)
        held[where] = [values[i] for i in where]
        payloads.append(held)
    whole = [int(value) for value, kind in zip(values, kinds, strict=True) if kind in (BOOL, INT)]
    return Table(
        kinds,
        int(kinds[0]) if (kinds == kinds[0]).all() else None,
        (payloads[0], payloads[1], payloads[2]),
        min(whole, default=None),
        max(whole, default=None),
    )


def _kind(value: Any) -> int:
    if isinstance(value, Exception):
        return ERROR
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return INT if abs(value) <= SAFE else OTHER
    return FLOAT if isinstance(value, float) else OTHER


def leaf(parameter: Parameter) -> Table:
    """The table of a small parameter's own values."""
    codes = parameter.unrank(np.arange(parameter.size))
    column = parameter.column(codes)
    if isinstance(column, tuple) or column.dtype not in DTYPES:
        return tabulate(parameter.decode(codes))
    kind = DTYPES.index(column.dtype.type)
    empty = [np.zeros(len(codes), dtype) for dtype in DTYPES]
    empty[kind] = column
    low, high = (None, None) if kind == FLOAT else (int(column.min()), int(column.max()))
    if max(abs(low or 0), abs(high or 0)) > SAFE:
        return tabulate(parameter.decode(codes))
    return Table(np.full(len(codes), kind, np.int8), kind, (empty[0], empty[1], empty[2]), low, high)


def results(of: Callable[[Row], Any], rows: list[Row]) -> list[Any]:
    """The result on each row, or the exception it raises."""
    found = []
    for row in rows:
        try:
            found.append(of(row))
        except RAISED as error:
            found.append(error)
    return found


def values_of(parameter: Parameter) -> list[Any]:
    """Every value of a small parameter, by rank."""
    return parameter.decode(parameter.unrank(np.arange(parameter.size)))


def rows_of(name: str, parameters: Mapping[str, Parameter]) -> list[Row]:
    """One row for each value of a small parameter."""
    return [{name: value} for value in values_of(parameters[name])]
