"""The operators and functions of expressions over whole columns: compiled operands give a compiled node with bounds.

An operation that numpy would answer unlike Python raises `NotVectorisable`, when it is compiled or when it meets such
values. A row on which Python would raise is marked in the frame.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.core.constraints.tables import ERROR, FLOAT, SAFE, Array, ResultTable
from autotune.core.parameters import Column
from autotune.core.points import Ranks

EXACT = 2**53
"""Integers up to this size are floats without loss."""

_SIGNS: dict[str, Callable[[Any], Any]] = {"-": operator.neg, "+": operator.pos, "~": operator.invert}
_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.true_divide, "//": np.floor_divide, "%": np.remainder,
    "**": np.power, "&": np.bitwise_and, "|": np.bitwise_or, "^": np.bitwise_xor, "<<": np.left_shift,
    ">>": np.right_shift,
}  # fmt: skip
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
}  # fmt: skip


class NotVectorisable(Exception):
    """Columns cannot promise Python's answer here; evaluate row by row."""


@dataclass(frozen=True)
class Frame:
    """The rows being evaluated: all of the population, or those at the positions `rows`; n of them.

    ranks, columns: the reads of each parameter by the expression, over the population.
    raised: whether Python would have raised, over the population; written while nodes are evaluated.
    """

    n: int
    ranks: Mapping[str, Ranks]
    columns: Mapping[str, Column]
    raised: NDArray[np.bool_]
    rows: NDArray[np.int64] | None

    def rank(self, name: str) -> Ranks:
        """The ranks, on these rows, of a parameter that is read by rank."""
        ranks = self.ranks[name]
        return ranks if self.rows is None else ranks[self.rows]

    def column(self, name: str) -> Column:
        """The values, on these rows, of a parameter that is read by value."""
        return self.columns[name] if self.rows is None else _take(self.columns[name], self.rows)

    def only(self, where: NDArray[np.int64]) -> "Frame":
        """The frame of the rows at these positions."""
        rows = where if self.rows is None else self.rows[where]
        return Frame(len(where), self.ranks, self.columns, self.raised, rows)

    def mark_raised(self, mask: NDArray[np.bool_]) -> None:
        """Mark rows as raising, by a mask [n]."""
        bad = np.flatnonzero(np.broadcast_to(mask, (self.n,)))
        self.raised[bad if self.rows is None else self.rows[bad]] = True


def _take(column: Column, rows: NDArray[np.int64]) -> Column:
    return tuple(_take(part, rows) for part in column) if isinstance(column, tuple) else column[rows]


@dataclass(frozen=True)
class CompiledNode:
    """A node of an expression, compiled. values: from a frame to its values [n], or [] if all are alike.

    low, high: bounds where the values are integers or bools, None where they never are.
    safe: it never raises, and its values do not depend on which rows are evaluated.
    """

    values: Callable[[Frame], Array]
    low: int | None
    high: int | None
    safe: bool

    @property
    def size(self) -> int:
        """The largest absolute value of an integer."""
        return 0 if self.low is None or self.high is None else max(abs(self.low), abs(self.high))


def gather(name: str | None, table: ResultTable) -> CompiledNode:
    """The table's results, gathered by the ranks of the named parameter. Without a name: the table's one result."""
    if name is None:
        payload = table.payloads[int(table.kinds[0])][0]
        return CompiledNode(lambda frame: payload, table.low, table.high, safe=True)
    if table.kind is not None and table.kind <= FLOAT:
        only = table.payloads[table.kind]
        return CompiledNode(lambda frame: only[frame.rank(name)], table.low, table.high, safe=True)
    return CompiledNode(lambda frame: _gather_mixed(table, frame, frame.rank(name)), table.low, table.high, safe=False)


def _gather_mixed(table: ResultTable, frame: Frame, ranks: Ranks) -> Array:
    """The results, which must be of one kind; rows whose result is an exception are marked."""
    kinds = table.kinds[ranks]
    failed = kinds == ERROR
    if failed.any():
        frame.mark_raised(failed)
        kinds = kinds[~failed]
    if not len(kinds):
        return np.zeros(len(ranks), bool)
    if kinds[0] > FLOAT or (kinds != kinds[0]).any():
        raise NotVectorisable
    found: Array = table.payloads[int(kinds[0])][ranks]
    return found


def _truths(values: Array) -> Array:
    """The truth of each value."""
    return values if values.dtype == np.bool_ else values != 0


def _integers(values: Array) -> Array:
    """Bools as integers."""
    return values.astype(np.int64) if values.dtype == np.bool_ else values


def _check_range(low: int, high: int) -> tuple[int, int]:
    """Bounds of an integer result, if they are within SAFE."""
    if max(abs(low), abs(high)) > SAFE:
        raise NotVectorisable
    return low, high


def truth_of(node: CompiledNode) -> CompiledNode:
    """The truth of a node's values."""
    return CompiledNode(lambda frame: _truths(node.values(frame)), 0, 1, node.safe)


def negate(node: CompiledNode) -> CompiledNode:
    """`not`."""
    return CompiledNode(lambda frame: ~_truths(node.values(frame)), 0, 1, node.safe)


def logical(op: str, operands: Sequence[CompiledNode]) -> CompiledNode:
    """`and`, `or` of truths, from the left; each operand is evaluated on the rows that those before it leave open."""
    stop = op == "or"
    join = np.logical_or if stop else np.logical_and

    def values(frame: Frame) -> Array:
        result = np.array(np.broadcast_to(_truths(operands[0].values(frame)), (frame.n,)))
        for operand in operands[1:]:
            if operand.safe:
                result = join(result, _truths(operand.values(frame)))
                continue
            left = np.flatnonzero(result if not stop else ~result)
            if len(left):
                result[left] = _truths(operand.values(frame.only(left)))
        return result

    return CompiledNode(values, 0, 1, all(operand.safe for operand in operands))


def conditional(test: CompiledNode, then: CompiledNode, otherwise: CompiledNode) -> CompiledNode:
    """`then if test else otherwise`, each branch on its own rows; both must be of one type."""

    def values(frame: Frame) -> Array:
        chosen = np.broadcast_to(_truths(test.values(frame)), (frame.n,))
        yes, no = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        if not len(no) or not len(yes):
            return (then if len(yes) else otherwise).values(frame)
        first, second = then.values(frame.only(yes)), otherwise.values(frame.only(no))
        if first.dtype != second.dtype:
            raise NotVectorisable
        result = np.empty(frame.n, first.dtype)
        result[yes], result[no] = first, second
        return result

    low, high = _joint_bounds((then, otherwise))
    return CompiledNode(values, low, high, test.safe and then.safe and otherwise.safe)


def _joint_bounds(nodes: Sequence[CompiledNode]) -> tuple[int | None, int | None]:
    """Bounds that hold for the values of every node."""
    lows = [node.low for node in nodes if node.low is not None]
    return min(lows, default=None), max((node.high for node in nodes if node.high is not None), default=None)


def unary(op: str, node: CompiledNode) -> CompiledNode:
    """- + ~ of numbers."""
    low, high = node.low, node.high
    apply = _SIGNS[op]

    def values(frame: Frame) -> Array:
        operand = _integers(node.values(frame))
        if op == "~" and operand.dtype != np.int64:
            raise NotVectorisable
        result: Array = apply(operand)
        return result

    if low is not None and high is not None and op != "+":
        low, high = (-high, -low) if op == "-" else (-high - 1, -low - 1)
    return CompiledNode(values, low, high, node.safe and (op != "~" or node.low is not None))


def binary(op: str, left: CompiledNode, right: CompiledNode) -> CompiledNode:
    """Arithmetic: exact on integers by their bounds, IEEE on floats where numpy rounds as Python does.

    Raises NotVectorisable elsewhere. Division by zero is marked.
    """
    low, high = _bounds(op, left, right)
    zero = right.low is None or right.high is None or right.low <= 0 <= right.high
    apply, divides = _OPERATIONS[op], op in ("/", "//", "%")

    def values(frame: Frame) -> Array:
        a, b = left.values(frame), right.values(frame)
        if op in ("&", "|", "^") and a.dtype == b.dtype == np.bool_:
            return np.asarray(apply(a, b))
        a, b = _integers(a), _integers(b)
        if not (a.dtype == b.dtype == np.int64) and op not in ("+", "-", "*", "/"):
            raise NotVectorisable
        if op == "/" and max(left.size, right.size) > EXACT:
            raise NotVectorisable
        if divides and zero:
            bad = b == 0
            if bad.any():
                frame.mark_raised(bad)
                b = np.where(bad, 1, b)
        return np.asarray(apply(a, b))

    return CompiledNode(values, low, high, left.safe and right.safe and not (divides and zero))


def _bounds(op: str, left: CompiledNode, right: CompiledNode) -> tuple[int | None, int | None]:
    """Bounds of an integer result; raises NotVectorisable if they could leave int64."""
    a, b, c, d = left.low, left.high, right.low, right.high
    if a is None or b is None or c is None or d is None or op == "/":
        if op in ("+", "-", "*", "/"):
            return None, None
        raise NotVectorisable
    match op:
        case "+":
            return _check_range(a + c, b + d)
        case "-":
            return _check_range(a - d, b - c)
        case "*":
            ends = (a * c, a * d, b * c, b * d)
            return _check_range(min(ends), max(ends))
        case "//":
            return -left.size - 1, left.size + 1
        case "%":
            return min(0, c + 1), max(0, d - 1)
        case "**" if c >= 0 and (left.size <= 1 or d <= 64):
            top = max(1, left.size**d)
            return _check_range(-top if a < 0 else 0, top)
        case "<<" if c >= 0 and d <= 62:
            return _check_range(min(a, a << d), max(b, b << d))
        case ">>" if c >= 0 and d <= 62:
            return min(a, a >> d, 0), max(b, 0)
        case "&" | "|" | "^":
            top = 1 << max(left.size, right.size).bit_length()
            return _check_range(-top, top)
    raise NotVectorisable


def compare(op: str, left: CompiledNode, right: CompiledNode) -> CompiledNode:
    """One comparison of numbers; exact between an integer and a float, too."""

    def values(frame: Frame) -> Array:
        a, b = _integers(left.values(frame)), _integers(right.values(frame))
        if a.dtype != b.dtype and (left if a.dtype == np.int64 else right).size > EXACT:
            raise NotVectorisable
        return np.asarray(_COMPARISONS[op](a, b))

    mixed = (left.low is None) != (right.low is None)
    if mixed and max(left.size, right.size) > EXACT:
        raise NotVectorisable
    return CompiledNode(values, 0, 1, left.safe and right.safe)


def is_literal(node: CompiledNode, value: object) -> CompiledNode:
    """`is` None, True or False."""

    def values(frame: Frame) -> Array:
        operand = node.values(frame)
        if operand.dtype != np.bool_ or value is None:
            return np.zeros(frame.n, bool)
        return operand if value else ~operand

    return CompiledNode(values, 0, 1, node.safe)


def membership(node: CompiledNode, items: Sequence[CompiledNode]) -> CompiledNode:
    """`in`: whether a value equals one of the items, all of which are evaluated first.

    Raises NotVectorisable for NaN, which Python finds in a tuple by identity.
    """

    def values(frame: Frame) -> Array:
        a = node.values(frame)
        columns = [item.values(frame) for item in items]
        if any(column.dtype == np.float64 and np.isnan(column).any() for column in (a, *columns)):
            raise NotVectorisable
        result = np.zeros(frame.n, bool)
        for item, column in zip(items, columns, strict=True):
            if column.dtype != a.dtype and max(item.size, node.size) > EXACT:
                raise NotVectorisable
            result |= _integers(a) == _integers(column)
        return result

    return CompiledNode(values, 0, 1, node.safe and all(item.safe for item in items))


def call(function: str, nodes: Sequence[CompiledNode]) -> CompiledNode:
    """A call of a function; raises NotVectorisable if numpy could answer unlike Python in the last bit."""
    match function:
        case "bool":
            return truth_of(nodes[0])
        case "any" | "all":
            return _any_or_all(function, nodes)
        case "abs":
            node = nodes[0]
            low, high = (None, None) if node.low is None else (0, node.size)
            return CompiledNode(lambda frame: np.abs(_integers(node.values(frame))), low, high, node.safe)
        case "sum" if nodes:
            total = nodes[0]
            for node in nodes[1:]:
                total = binary("+", total, node)
            return unary("+", total)
        case "min" | "max" if nodes:
            return _min_or_max("<" if function == "min" else ">", nodes)
        case "ceildiv":
            return unary("-", binary("//", unary("-", nodes[0]), nodes[1]))
    raise NotVectorisable


def _any_or_all(function: str, nodes: Sequence[CompiledNode]) -> CompiledNode:
    """`any` and `all`: unlike `or` and `and`, they evaluate every element first."""
    join = np.logical_or if function == "any" else np.logical_and

    def values(frame: Frame) -> Array:
        result = np.full(frame.n, function == "all")
        for node in nodes:
            result = join(result, _truths(node.values(frame)))
        return result

    return CompiledNode(values, 0, 1, all(node.safe for node in nodes))


def _min_or_max(op: str, nodes: Sequence[CompiledNode]) -> CompiledNode:
    """`min` and `max` as in Python: the first of equal elements, and NaN by its comparisons."""

    def values(frame: Frame) -> Array:
        best = nodes[0].values(frame)
        for node in nodes[1:]:
            other = node.values(frame)
            if other.dtype != best.dtype:
                raise NotVectorisable
            best = np.where(_COMPARISONS[op](other, best), other, best)
        return best

    low, high = _joint_bounds(nodes)
    return CompiledNode(values, low, high, all(node.safe for node in nodes))
