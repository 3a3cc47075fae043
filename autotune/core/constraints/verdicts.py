"""A constraint's verdict on a point: no, yes, or that evaluating it raises.

A verdict that raises is not an error yet: where another constraint says no to the same point, that constraint is its
guard.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from autotune.core.config import Value
from autotune.core.parameters import Codes, Parameter
from autotune.core.points import codes_by_name, distinct_rows

Verdicts = NDArray[np.uint8]
"""One of NO, YES, RAISES for each of n points, shape [n]."""

NO, YES, RAISES = 0, 1, 2


def decode(parameters: Mapping[str, Parameter], codes: Mapping[str, Codes]) -> list[dict[str, Value]]:
    """The n points, codes [n, width] by name, as mappings from names to plain values."""
    columns = [parameters[name].decode(part) for name, part in codes.items()]
    return [dict(zip(codes, values, strict=True)) for values in zip(*columns, strict=True)]


def verdicts_by_row(
    verdict: Callable[[Mapping[str, Value]], int], parameters: Mapping[str, Parameter], codes: Mapping[str, Codes]
) -> Verdicts:
    """The verdicts on n points, codes [n, width] by name; each distinct combination of values is evaluated once."""
    unique, inverse = distinct_rows(np.concatenate(list(codes.values()), axis=1))
    rows = decode(parameters, codes_by_name(parameters, codes, unique))
    found = np.fromiter((verdict(row) for row in rows), np.uint8, len(unique))
    return found[inverse]
