"""Result tables: a subexpression that reads one small parameter, evaluated by row for each of the parameter's values.

Whatever happens inside (None, strings, tuples, logarithms, an error) happens by Python's own rules. A column of results
is then a gather from the table.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.core.parameters import Parameter

Array = NDArray[Any]
"""Values of n points, shape [n], of dtype bool, int64 or float64; or one value for all of them, shape []."""

BOOL, INT, FLOAT, OTHER, ERROR = 0, 1, 2, 3, 4
"""The kinds of result: three that a column can hold, any other value, and an exception."""

DTYPES: tuple[type[np.generic], ...] = (np.bool_, np.int64, np.float64)

SAFE = 2**62
"""The sum of two integers up to this size fits int64."""


@dataclass(frozen=True, kw_only=True)
class ResultTable:
    """Results by rank of one parameter.

    kinds: the kind of each result, shape [size]. kind: the kind of all of them if they are alike, else None.
    payloads: the results as bools, integers and floats, each [size]; 0 where a result is of another kind.
    low, high: bounds of the bools and integers, None where there are none.
    """

    kinds: NDArray[np.int8]
    kind: int | None
    payloads: tuple[Array, Array, Array]
    low: int | None
    high: int | None

    @property
    def homogeneous(self) -> bool:
        """Whether one column can hold the results of all ranks."""
        return self.kind is not None and self.kind <= FLOAT


def tabulate(values: list[Any]) -> ResultTable:
    """The table of the results by rank, each a value or the exception that was raised instead."""
    kinds = np.array([_kind(value) for value in values], np.int8)
    payloads = []
    for kind, dtype in enumerate(DTYPES):
        held = np.zeros(len(values), dtype)
        where = np.flatnonzero(kinds == kind)
        held[where] = [values[i] for i in where]
        payloads.append(held)
    whole = [int(value) for value, kind in zip(values, kinds, strict=True) if kind in (BOOL, INT)]
    return ResultTable(
        kinds=kinds,
        kind=int(kinds[0]) if (kinds == kinds[0]).all() else None,
        payloads=(payloads[0], payloads[1], payloads[2]),
        low=min(whole, default=None),
        high=max(whole, default=None),
    )


def _kind(value: Any) -> int:
    if isinstance(value, Exception):
        return ERROR
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return INT if abs(value) <= SAFE else OTHER
    return FLOAT if isinstance(value, float) else OTHER


def value_table(parameter: Parameter) -> ResultTable:
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
    return ResultTable(
        kinds=np.full(len(codes), kind, np.int8),
        kind=kind,
        payloads=(empty[0], empty[1], empty[2]),
        low=low,
        high=high,
    )
