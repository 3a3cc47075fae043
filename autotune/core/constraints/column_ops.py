"""The operators of column-wise expressions: compiled operands give a compiled result with its bounds."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.core.constraints.tables import ERROR, FLOAT, SAFE, Array, Table
from autotune.core.parameters import Column


class Unpromised(Exception):
    """Columns cannot promise Python's answer here; take the rows one by one."""


@dataclass(frozen=True)
class Frame:
    """The rows being evaluated: all n, or those in `rows`. raised [all n]: where Python would have raised."""

    n: int
    ranks: Mapping[str, NDArray[np.int64]]
    columns: Mapping[str, Column]
    raised: NDArray[np.bool_]
    rows: NDArray[np.int64] | None

    def rank(self, name: str) -> NDArray[np.int64]:
        """The ranks of a tabled parameter on these rows."""
        ranks = self.ranks[name]
        return ranks if self.rows is None else ranks[self.rows]

    def column(self, name: str) -> Column:
        """The values of a parameter read as it is, on these rows."""
        return self.columns[name] if self.rows is None else _take(self.columns[name], self.rows)

    def only(self, where: NDArray[np.int64]) -> "Frame":
        """The rows at these positions."""
        rows = where if self.rows is None else self.rows[where]
        return Frame(len(where), self.ranks, self.columns, self.raised, rows)

    def fail(self, mask: NDArray[np.bool_]) -> None:
        """Mark rows, by a mask over this frame, as raising."""
        bad = np.flatnonzero(np.broadcast_to(mask, (self.n,)))
        self.raised[bad if self.rows is None else self.rows[bad]] = True


def _take(column: Column, rows: NDArray[np.int64]) -> Column:
    return tuple(_take(part, rows) for part in column) if isinstance(column, tuple) else column[rows]


@dataclass(frozen=True)
class Part:
    """A compiled node. low, high: bounds where its values are integers or bools, None where they never are.

    safe: it neither raises nor depends on which rows are evaluated.
    """

    of: Callable[[Frame], Array]
    low: int | None
    high: int | None
    safe: bool

    @property
    def size(self) -> int:
        """The largest absolute value of an integer."""
        return 0 if self.low is None or self.high is None else max(abs(self.low), abs(self.high))


EXACT = 2**53
"""Integers up to this size are floats without loss."""


def tabled(name: str | None, table: Table) -> Part:
    """A gather from the table by the rank of the named parameter; no name: a constant."""
    if name is None:
        payload = table.payloads[int(table.kinds[0])][0]
        return Part(lambda frame: payload, table.low, table.high, safe=True)
    if table.kind is not None and table.kind <= FLOAT:
        only = table.payloads[table.kind]
        return Part(lambda frame: only[frame.rank(name)], table.low, table.high, safe=True)
    return Part(lambda frame: _gather(table, frame, frame.rank(name)), table.low, table.high, safe=False)


def _gather(table: Table, frame: Frame, ranks: NDArray[np.int64]) -> Array:
    """The results of one type; those that raise are marked and replaced."""
    kinds = table.kinds[ranks]
    failed = kinds == ERROR
    if failed.any():
        frame.fail(failed)
        kinds = kinds[~failed]
    if not len(kinds):
        return np.zeros(len(ranks), bool)
    if kinds[0] > FLOAT or (kinds != kinds[0]).any():
        raise Unpromised
    found: Array = table.payloads[int(kinds[0])][ranks]
    return found


def true(values: Array) -> Array:
    """The truth of each value."""
    return values if values.dtype == np.bool_ else values != 0


def whole(values: Array) -> Array:
    """Bools as integers."""
    return values.astype(np.int64) if values.dtype == np.bool_ else values


def _checked(low: int, high: int) -> tuple[int, int]:
    if max(abs(low), abs(high)) > SAFE:
        raise Unpromised
    return low, high


def truth(part: Part) -> Part:
    """The truth of a value."""
    return Part(lambda frame: true(part.of(frame)), 0, 1, part.safe)


def negated(part: Part) -> Part:
    """`not`."""
    return Part(lambda frame: ~true(part.of(frame)), 0, 1, part.safe)


def logical(op: str, operands: Sequence[Part]) -> Part:
    """`and`, `or` of truths, from the left, each on the rows that the ones before leave open."""
    stop = op == "or"
    join = np.logical_or if stop else np.logical_and

    def of(frame: Frame) -> Array:
        result = np.array(np.broadcast_to(true(operands[0].of(frame)), (frame.n,)))
        for operand in operands[1:]:
            if operand.safe:
                result = join(result, true(operand.of(frame)))
                continue
            left = np.flatnonzero(result if not stop else ~result)
            if len(left):
                result[left] = true(operand.of(frame.only(left)))
        return result

    return Part(of, 0, 1, all(operand.safe for operand in operands))


def conditional(test: Part, then: Part, otherwise: Part) -> Part:
    """`then if test else otherwise`, each branch on its own rows; both must be of one type."""

    def of(frame: Frame) -> Array:
        chosen = np.broadcast_to(true(test.of(frame)), (frame.n,))
        yes, no = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        if not len(no) or not len(yes):
            return (then if len(yes) else otherwise).of(frame)
        first, second = then.of(frame.only(yes)), otherwise.of(frame.only(no))
        if first.dtype != second.dtype:
            raise Unpromised
        result = np.empty(frame.n, first.dtype)
        result[yes], result[no] = first, second
        return result

    low, high = union((then, otherwise))
    return Part(of, low, high, test.safe and then.safe and otherwise.safe)


def union(parts: Sequence[Part]) -> tuple[int | None, int | None]:
    lows = [part.low for part in parts if part.low is not None]
    return min(lows, default=None), max((part.high for part in parts if part.high is not None), default=None)


SIGNS: dict[str, Callable[[Any], Any]] = {"-": operator.neg, "+": operator.pos, "~": operator.invert}


def unary(op: str, part: Part) -> Part:
    """- + ~ of numbers."""
    low, high = part.low, part.high
    apply = SIGNS[op]

    def of(frame: Frame) -> Array:
        values = whole(part.of(frame))
        if op == "~" and values.dtype != np.int64:
            raise Unpromised
        result: Array = apply(values)
        return result

    if low is not None and high is not None and op != "+":
        low, high = (-high, -low) if op == "-" else (-high - 1, -low - 1)
    return Part(of, low, high, part.safe and (op != "~" or part.low is not None))


def binary(op: str, left: Part, right: Part) -> Part:
    """Arithmetic. Exact on integers by their bounds, on floats as IEEE; what numpy rounds its own way is Unpromised."""
    low, high = _bounds(op, left, right)
    zero = right.low is None or right.high is None or right.low <= 0 <= right.high
    divides = op in ("/", "//", "%")

    def of(frame: Frame) -> Array:
        a, b = left.of(frame), right.of(frame)
        if op in ("&", "|", "^") and a.dtype == b.dtype == np.bool_:
            return _apply(op, a, b)
        a, b = whole(a), whole(b)
        if not (a.dtype == b.dtype == np.int64) and op not in ("+", "-", "*", "/"):
            raise Unpromised
        if op == "/" and max(left.size, right.size) > EXACT:
            raise Unpromised
        if divides and zero:
            bad = b == 0
            if bad.any():
                frame.fail(bad)
                b = np.where(bad, 1, b)
        return _apply(op, a, b)

    return Part(of, low, high, left.safe and right.safe and not (divides and zero))


def _apply(op: str, a: Array, b: Array) -> Array:
    result: Array = OPERATIONS[op](a, b)
    return result


OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.true_divide, "//": np.floor_divide, "%": np.remainder,
    "**": np.power, "&": np.bitwise_and, "|": np.bitwise_or, "^": np.bitwise_xor, "<<": np.left_shift,
    ">>": np.right_shift,
}  # fmt: skip


def _bounds(op: str, left: Part, right: Part) -> tuple[int | None, int | None]:
    """Bounds of an integer result; Unpromised when they leave int64."""
    a, b, c, d = left.low, left.high, right.low, right.high
    if a is None or b is None or c is None or d is None or op == "/":
        if op in ("+", "-", "*", "/"):
            return None, None
        raise Unpromised
    match op:
        case "+":
            return _checked(a + c, b + d)
        case "-":
            return _checked(a - d, b - c)
        case "*":
            ends = (a * c, a * d, b * c, b * d)
            return _checked(min(ends), max(ends))
        case "//":
            return -left.size - 1, left.size + 1
        case "%":
            return min(0, c + 1), max(0, d - 1)
        case "**" if c >= 0 and (left.size <= 1 or d <= 64):
            top = max(1, left.size**d)
            return _checked(-top if a < 0 else 0, top)
        case "<<" if c >= 0 and d <= 62:
            return _checked(min(a, a << d), max(b, b << d))
        case ">>" if c >= 0 and d <= 62:
            return min(a, a >> d, 0), max(b, 0)
        case "&" | "|" | "^":
            top = 1 << max(left.size, right.size).bit_length()
            return _checked(-top, top)
    raise Unpromised


TESTS: dict[str, Callable[[Any, Any], Any]] = {
    "==": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
}  # fmt: skip


def compare(op: str, left: Part, right: Part) -> Part:
    """One comparison of numbers, exact for an integer with a float too."""

    def of(frame: Frame) -> Array:
        a, b = whole(left.of(frame)), whole(right.of(frame))
        if a.dtype != b.dtype and (left if a.dtype == np.int64 else right).size > EXACT:
            raise Unpromised
        found: Array = np.asarray(TESTS[op](a, b))
        return found

    mixed = (left.low is None) != (right.low is None)
    if mixed and max(left.size, right.size) > EXACT:
        raise Unpromised
    return Part(of, 0, 1, left.safe and right.safe)


def identical(part: Part, value: object) -> Part:
    """`is` None, True or False."""

    def of(frame: Frame) -> Array:
        values = part.of(frame)
        if values.dtype != np.bool_ or value is None:
            return np.zeros(frame.n, bool)
        return values if value else ~values

    return Part(of, 0, 1, part.safe)


def among(part: Part, items: Sequence[Part]) -> Part:
    """`in`: equal to one of the items, all of which are evaluated first. (NaN may be identical and not equal.)"""

    def of(frame: Frame) -> Array:
        a = part.of(frame)
        columns = [item.of(frame) for item in items]
        if any(column.dtype == np.float64 and np.isnan(column).any() for column in (a, *columns)):
            raise Unpromised
        result = np.zeros(frame.n, bool)
        for item, column in zip(items, columns, strict=True):
            if column.dtype != a.dtype and max(item.size, part.size) > EXACT:
                raise Unpromised
            result |= whole(a) == whole(column)
        return result

    return Part(of, 0, 1, part.safe and all(item.safe for item in items))


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
