"""Interval arithmetic over expressions: whether a partial point can still satisfy one.

An interval encloses the values that a node can take while the unbound parameters range over all of theirs. Every
operation here is monotone in float64 and exact in int64 (the column program has bounded every integer), so an interval
never excludes a possible value. A node that may raise, or has no rule here, excludes nothing. Moore, "Interval
Analysis" (1966); its use to prune a search: Davis, "Constraint propagation with interval labels", Artificial
Intelligence 32 (1987).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.core.constraints.by_row import row_function, values_or_errors
from autotune.core.constraints.syntax import (
    Binary,
    ComparisonChain,
    Display,
    FunctionCall,
    Logical,
    Name,
    Node,
    Unary,
    find_names,
)
from autotune.core.constraints.tables import BOOL, FLOAT, tabulate, value_table
from autotune.core.feasible.compiled import CompiledConstraint
from autotune.core.parameters import Integer, Parameter, PowerOfTwo
from autotune.core.points import Ranks

IntervalTest = Callable[[Mapping[str, Ranks]], NDArray[np.bool_]]
"""From the ranks [n] of the bound names to whether some values of the other names may satisfy the constraint."""

Interval = tuple[Any, Any]
"""The least and the greatest value: arrays [n] or scalars. Of a truth: whether it is certain, and whether possible."""

IntervalFunction = Callable[[Mapping[str, Ranks]], Interval]
"""From the ranks [n] of the bound names to the interval of a node."""

TABLE_LIMIT = 1 << 16
"""The values of a parameter that is no range are listed up to this many."""


def interval_test(
    constraint: CompiledConstraint, bound: frozenset[str], spans: Mapping[str, int]
) -> IntervalTest | None:
    """The test for partial points that bind these names; None where it could exclude nothing.

    spans: for a bound name that is known only to within a span of ranks, the length of the span that begins at its
    rank.
    """
    if constraint.program is None or constraint.tree is None:
        return None
    truth = _IntervalCompiler(constraint.parameters, bound, spans).truth(constraint.tree)
    if truth is None:
        return None

    def possible(ranks: Mapping[str, Ranks]) -> NDArray[np.bool_]:
        with np.errstate(all="ignore"):
            return np.asarray(truth(ranks)[1])

    return possible


class _IntervalCompiler:
    """Compiles nodes to interval functions; None for a node that may raise or has no rule."""

    def __init__(self, parameters: Mapping[str, Parameter], bound: frozenset[str], spans: Mapping[str, int]) -> None:
        self.parameters = parameters
        self.bound = bound
        self.spans = spans

    def truth(self, node: Node) -> IntervalFunction | None:
        """The interval of a node's truth."""
        match node:
            case Logical(op, operands):
                return self._logical(op, [self.truth(operand) for operand in operands])
            case Unary("not", operand):
                inner = self.truth(operand)
                return None if inner is None else _negate(inner)
            case ComparisonChain(ops, operands):
                return self._compare(ops, operands)
        value = self.value(node)
        if value is None:
            return None

        def nonzero(ranks: Mapping[str, Ranks]) -> Interval:
            low, high = value(ranks)
            return (low > 0) | (high < 0), ~((low == 0) & (high == 0))

        return nonzero

    def _logical(self, op: str, parts: list[IntervalFunction | None]) -> IntervalFunction | None:
        known = [part for part in parts if part is not None]
        if op == "or":  # an operand without a rule may always be true
            if len(known) < len(parts):
                return None
            return lambda ranks: _fold(np.logical_or, known, ranks)
        before = parts.index(None) if None in parts else len(parts)  # the operands after it may never be reached
        if not before:
            return None
        first, complete = known[:before], before == len(parts)

        def both(ranks: Mapping[str, Ranks]) -> Interval:
            certain, possible = _fold(np.logical_and, first, ranks)
            return certain if complete else np.False_, possible

        return both

    def _compare(self, ops: tuple[str, ...], operands: tuple[Node, ...]) -> IntervalFunction | None:
        if ops == ("in",) and isinstance(group := operands[1], Display) and group.items:
            return self._logical("or", [self._compare(("==",), (operands[0], item)) for item in group.items])
        values = [self.value(operand) for operand in operands]
        links: list[IntervalFunction | None] = []
        for op, left, right in zip(ops, values, values[1:], strict=False):
            if left is None or right is None or op not in _COMPARISONS:
                links.append(None)
            else:
                links.append(_link(op, left, right))
        return links[0] if len(links) == 1 else self._logical("and", links)

    def value(self, node: Node) -> IntervalFunction | None:
        """The interval of a node's value."""
        if not find_names(node):
            return _constant(node)
        match node:
            case Name(name):
                return self._name(name)
            case Unary("-" | "+" as op, operand):
                return self._apply("neg" if op == "-" else "pos", [operand])
            case Binary("+" | "-" | "*" as op, left, right):
                return self._apply(op, [left, right])
            case Binary("//" | "%" as op, left, divisor) if _positive(divisor):
                return self._apply(op, [left, divisor])
            case FunctionCall("min" | "max" as function, arguments) if len(arguments) > 1:
                return self._apply(function, list(arguments))
            case FunctionCall("abs", arguments):
                return self._apply("abs", list(arguments))
        return None

    def _apply(self, op: str, operands: list[Node]) -> IntervalFunction | None:
        apply, parts = _ARITHMETIC[op], [part for part in map(self.value, operands) if part is not None]
        if len(parts) < len(operands):
            return None
        return lambda ranks: apply(*[part(ranks) for part in parts])

    def _name(self, name: str) -> IntervalFunction | None:
        parameter = self.parameters[name]
        if isinstance(parameter, Integer | PowerOfTwo):
            low, high = np.int64(parameter.low), np.int64(parameter.high)
            if name in self.spans:
                return lambda ranks: _span_ends(parameter, ranks[name], self.spans[name])
            if name in self.bound:
                return lambda ranks: _exactly(parameter.column(ranks[name][:, None]))
            return lambda ranks: (low, high)
        if parameter.size > TABLE_LIMIT:
            return None
        table = value_table(parameter)
        if table.kind is None or table.kind > FLOAT:
            return None
        values = table.payloads[table.kind].astype(np.int64) if table.kind == BOOL else table.payloads[table.kind]
        if name in self.bound:
            return lambda ranks: _exactly(values[ranks[name]])
        ends = (values.min(), values.max())
        return lambda ranks: ends


def _positive(node: Node) -> bool:
    """Whether it is a constant integer above zero."""
    if find_names(node):
        return False
    value = values_or_errors(row_function(node), [{}])[0]
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**62


def _constant(node: Node) -> IntervalFunction | None:
    """A constant, evaluated once; None where it raises, or is no number that a column can hold."""
    table = tabulate(values_or_errors(row_function(node), [{}]))
    if table.kind is None or table.kind > FLOAT:
        return None
    fixed = table.payloads[table.kind][0]
    value = np.int64(fixed) if table.kind == BOOL else fixed
    return lambda ranks: (value, value)


def _span_ends(parameter: Integer | PowerOfTwo, ranks: Ranks, span: int) -> Interval:
    """The least and the greatest value among the `span` ranks that begin at each of these."""
    last = np.minimum(ranks + (span - 1), parameter.size - 1)
    return parameter.column(ranks[:, None]), parameter.column(last[:, None])


def _exactly(values: Any) -> Interval:
    return values, values


def _fold(join: Callable[[Any, Any], Any], parts: list[IntervalFunction], ranks: Mapping[str, Ranks]) -> Interval:
    certain, possible = parts[0](ranks)
    for part in parts[1:]:
        also = part(ranks)
        certain, possible = join(certain, also[0]), join(possible, also[1])
    return certain, possible


def _negate(inner: IntervalFunction) -> IntervalFunction:
    def negation(ranks: Mapping[str, Ranks]) -> Interval:
        certain, possible = inner(ranks)
        return np.logical_not(possible), np.logical_not(certain)

    return negation


def _link(op: str, left: IntervalFunction, right: IntervalFunction) -> IntervalFunction:
    test = _COMPARISONS[op]
    return lambda ranks: test(*left(ranks), *right(ranks))


# Possible is written as "not excluded", so that a NaN excludes nothing.
_COMPARISONS: dict[str, Callable[[Any, Any, Any, Any], Interval]] = {
    "<": lambda a, b, c, d: (b < c, ~np.asarray(a >= d)),
    "<=": lambda a, b, c, d: (b <= c, ~np.asarray(a > d)),
    ">": lambda a, b, c, d: (a > d, ~np.asarray(b <= c)),
    ">=": lambda a, b, c, d: (a >= d, ~np.asarray(b < c)),
    "==": lambda a, b, c, d: ((a == d) & (b == c), ~np.asarray((a > d) | (b < c))),
    "!=": lambda a, b, c, d: ((a > d) | (b < c), ~np.asarray((a == d) & (b == c))),
}


def _plus(x: Interval, y: Interval) -> Interval:
    low = x[0] + y[0]
    return (low, low) if _are_fixed(x, y) else (low, x[1] + y[1])


def _minus(x: Interval, y: Interval) -> Interval:
    low = x[0] - y[1]
    return (low, low) if _are_fixed(x, y) else (low, x[1] - y[0])


def _are_fixed(x: Interval, y: Interval) -> bool:
    """Whether both are single values: then one array serves as both ends."""
    return x[0] is x[1] and y[0] is y[1]


def _times(x: Interval, y: Interval) -> Interval:
    (a, b), (c, d) = x, y
    low = a * c
    if _are_fixed(x, y):
        return low, low
    if np.min(a) >= 0 and np.min(c) >= 0:
        return low, b * d
    ends = (low, a * d, b * c, b * d)
    return (
        np.minimum(np.minimum(ends[0], ends[1]), np.minimum(ends[2], ends[3])),
        np.maximum(np.maximum(ends[0], ends[1]), np.maximum(ends[2], ends[3])),
    )


def _modulo(x: Interval, y: Interval) -> Interval:
    (low, high), by = x, y[0]
    same = (low == high) | ((low // by == high // by) & (high - low < by))
    return np.where(same, low % by, 0), np.where(same, high % by, by - 1)


def _absolute(x: Interval) -> Interval:
    low, high = x
    return np.maximum(0, np.maximum(low, -high)), np.maximum(np.abs(low), np.abs(high))


def _extreme(pick: Callable[[Any, Any], Any]) -> Callable[..., Interval]:
    def extreme(*parts: Interval) -> Interval:
        low, high = parts[0]
        for part in parts[1:]:
            low, high = pick(low, part[0]), pick(high, part[1])
        return low, high

    return extreme


_ARITHMETIC: dict[str, Callable[..., Interval]] = {
    "+": _plus,
    "-": _minus,
    "*": _times,
    "//": lambda x, y: (x[0] // y[0], x[1] // y[0]),
    "%": _modulo,
    "neg": lambda x: (-x[1], -x[0]),
    "pos": lambda x: x,
    "abs": _absolute,
    "min": _extreme(np.minimum),
    "max": _extreme(np.maximum),
}
