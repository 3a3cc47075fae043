"""The functions of column-wise expressions, those whose answer over columns is Python's to the last bit."""

from collections.abc import Sequence

import numpy as np

from autotune.core.expressions.columnops import TESTS, binary, true, truth, unary, union, whole
from autotune.core.expressions.frames import Frame, Part, Unpromised
from autotune.core.expressions.tables import Array


def call(function: str, parts: Sequence[Part]) -> Part:
    """The functions whose column-wise answer is exact."""
    match function:
        case "bool":
            return truth(parts[0])
        case "any" | "all":
            return _every(function, parts)
        case "abs":
            part = parts[0]
            low, high = (None, None) if part.low is None else (0, part.size)
            return Part(lambda frame: np.abs(whole(part.of(frame))), low, high, part.safe)
        case "sum" if parts:
            total = parts[0]
            for part in parts[1:]:
                total = binary("+", total, part)
            return unary("+", total)
        case "min" | "max" if parts:
            return _extreme("<" if function == "min" else ">", parts)
        case "ceildiv":
            return unary("-", binary("//", unary("-", parts[0]), parts[1]))
    raise Unpromised


def _every(function: str, parts: Sequence[Part]) -> Part:
    """any and all: unlike `or` and `and`, every element is evaluated before the first is looked at."""
    join = np.logical_or if function == "any" else np.logical_and

    def of(frame: Frame) -> Array:
        result = np.full(frame.n, function == "all")
        for part in parts:
            result = join(result, true(part.of(frame)))
        return result

    return Part(of, 0, 1, all(part.safe for part in parts))


def _extreme(op: str, parts: Sequence[Part]) -> Part:
    """min and max as Python has them: the first of equals, and NaN by its comparisons."""

    def of(frame: Frame) -> Array:
        best = parts[0].of(frame)
        for part in parts[1:]:
            values = part.of(frame)
            if values.dtype != best.dtype:
                raise Unpromised
            best = np.where(TESTS[op](values, best), values, best)
        return best

    low, high = union(parts)
    return Part(of, low, high, all(part.safe for part in parts))
