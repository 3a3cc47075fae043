"""What an expression means for whole columns: Python's row-by-row answer, exactly, or `Unpromised`.

The tree is compiled once for given parameters. Bounds of every integer are worked out at that time, so that nothing can
overflow int64 or lose bits to a float unnoticed; a subexpression of one small parameter becomes a table; what short
circuits in Python is evaluated on the rows that remain; and a row whose evaluation raises is marked, not raised.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.core.config import Value
from autotune.core.constraints import column_ops as ops
from autotune.core.constraints.by_row import meaning
from autotune.core.constraints.column_ops import Frame, Part, Unpromised, call
from autotune.core.constraints.syntax import (
    Binary,
    Call,
    Compare,
    Conditional,
    Group,
    Item,
    Literal,
    Logical,
    Name,
    Node,
    Unary,
    names,
)
from autotune.core.constraints.tables import SAFE, Array, leaf, results, rows_of, tabulate
from autotune.core.constraints.verdicts import RAISES, YES, Verdicts, by_rows
from autotune.core.parameters import Boolean, Codes, Column, Integer, ListOf, Parameter, Permutation, PowerOfTwo

TABLE_LIMIT = 512
"""A subexpression of one parameter of up to this many values is tabulated."""

Parts = Part | tuple["Parts", ...]
"""What a node compiles to: one column, or a tuple of them for a value that is a tuple."""


@dataclass(frozen=True)
class Program:
    """A compiled expression. tabled: the names it reads by rank; direct: those it reads by value."""

    truth: Part
    tabled: tuple[str, ...]
    direct: tuple[str, ...]

    def run(self, n: int, ranks: Mapping[str, NDArray[np.int64]], columns: Mapping[str, Column]) -> Verdicts:
        """The verdict on n points, shape [n]; Unpromised where these columns cannot promise it."""
        frame = Frame(n, ranks, columns, np.zeros(n, bool), None)
        with np.errstate(all="ignore"):
            verdicts = np.broadcast_to(ops.true(self.truth.of(frame)), (n,)).astype(np.uint8) * np.uint8(YES)
        verdicts[frame.raised] = RAISES
        return verdicts


def program(tree: Node, parameters: Mapping[str, Parameter]) -> Program | None:
    """The compiled expression; None where columns cannot promise Python's answer for these parameters."""
    read = names(tree)
    tabled = tuple(name for name in read if parameters[name].size <= TABLE_LIMIT)
    try:
        return Program(_Compiler(parameters).truth(tree), tabled, tuple(name for name in read if name not in tabled))
    except Unpromised:
        return None


def inputs(
    made: Program, parameters: Mapping[str, Parameter], codes: Mapping[str, Codes]
) -> tuple[dict[str, NDArray[np.int64]], dict[str, Column]]:
    """The ranks and columns that a program reads, from codes [n, width] by name."""
    ranks = {name: parameters[name].rank(codes[name]) for name in made.tabled}
    return ranks, {name: parameters[name].column(codes[name]) for name in made.direct}


def judged(
    made: Program | None,
    verdict: Callable[[Mapping[str, Value]], int],
    parameters: Mapping[str, Parameter],
    codes: Mapping[str, Codes],
) -> Verdicts:
    """The verdict on n points, codes [n, width] by name: by columns where they promise it, else by rows; shape [n]."""
    if made is not None:
        try:
            return made.run(len(next(iter(codes.values()))), *inputs(made, parameters, codes))
        except Unpromised:
            pass
    return by_rows(verdict, parameters, codes)


class _Compiler:
    """Compiles nodes against given parameters."""

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self.parameters = parameters

    def truth(self, node: Node) -> Part:
        """The truth of a node's value, as a column of bools."""
        table = self._table(node, truth=True)
        if table is not None:
            return table
        match node:
            case Logical(op, operands):
                return ops.logical(op, tuple(map(self.truth, operands)))
            case Unary("not", operand):
                return ops.negated(self.truth(operand))
            case Conditional(test, then, otherwise):
                return ops.conditional(self.truth(test), self.truth(then), self.truth(otherwise))
        return ops.truth(self.one(node))

    def one(self, node: Node) -> Part:
        """The value of a node, as one column."""
        part = self.value(node)
        if isinstance(part, tuple):
            raise Unpromised
        return part

    def value(self, node: Node) -> Parts:
        """The value of a node."""
        table = self._table(node, truth=False)
        if table is not None:
            return table
        match node:
            case Name(name):
                return _direct(name, self.parameters[name], lambda frame: frame.column(name))
            case Unary("not", _) | Logical(_, _):
                return self._boolean(node)
            case Unary(op, operand):
                return ops.unary(op, self.one(operand))
            case Binary(op, left, right):
                return ops.binary(op, self.one(left), self.one(right))
            case Compare(chain, operands):
                return self._compare(chain, operands)
            case Conditional(test, then, otherwise):
                return ops.conditional(self.truth(test), self.one(then), self.one(otherwise))
            case Item(of, index):
                return _pick(self.value(of), index)
            case Call(function, arguments):
                return self._call(function, arguments)
            case Group(_, items):
                return tuple(map(self.value, items))
            case Literal(_):
                raise Unpromised  # a literal that columns can hold was a table already
        raise Unpromised

    def _boolean(self, node: Unary | Logical) -> Part:
        """A truth value as a value: only where Python's result is a bool too, not the last operand."""
        if isinstance(node, Logical) and not all(map(_is_boolean, node.operands)):
            raise Unpromised
        return self.truth(node)

    def _table(self, node: Node, truth: bool) -> Part | None:
        read = names(node)
        if len(read) > 1 or any(self.parameters[name].size > TABLE_LIMIT for name in read):
            return None
        if isinstance(node, Group):
            return None
        if isinstance(node, Name) and not truth:
            return ops.tabled(node.name, leaf(self.parameters[node.name]))
        rows = rows_of(read[0], self.parameters) if read else [{}]
        found = results(meaning(node), rows)
        if truth:
            found = [value if isinstance(value, Exception) else bool(value) for value in found]
        table = tabulate(found)
        if not read and not table.safe:
            raise Unpromised
        return ops.tabled(read[0] if read else None, table)

    def _compare(self, chain: tuple[str, ...], operands: tuple[Node, ...]) -> Part:
        links = []
        for op, left, right in zip(chain, operands, operands[1:], strict=False):
            if op in ("in", "not in"):
                found = ops.among(self.one(left), tuple(self._items(right)))
                links.append(found if op == "in" else ops.negated(found))
            elif op in ("is", "is not"):
                assert isinstance(right, Literal)  # the parser allows nothing else
                same = ops.identical(self.one(left), right.value)
                links.append(same if op == "is" else ops.negated(same))
            else:
                links.append(ops.compare(op, self.one(left), self.one(right)))
        return links[0] if len(links) == 1 else ops.logical("and", tuple(links))

    def _items(self, node: Node) -> list[Part]:
        """What `in` looks through; a literal of another type than a number equals no number."""
        if isinstance(node, Group):
            numbers = (bool, int, float)
            return [self.one(i) for i in node.items if not isinstance(i, Literal) or isinstance(i.value, numbers)]
        return _flat(self.value(node))

    def _call(self, function: str, arguments: tuple[Node, ...]) -> Part:
        values = [self.value(argument) for argument in arguments]
        if function == "len" and isinstance(values[0], tuple):
            return ops.tabled(None, tabulate([len(values[0])]))
        if function in ("sum", "any", "all") or (function in ("min", "max") and len(values) == 1):
            parts = _flat(values[0])
        else:
            parts = [part for part in values if isinstance(part, Part)]
            if len(parts) < len(values):
                raise Unpromised
        return call(function, parts)


def _is_boolean(node: Node) -> bool:
    """Whether the value is surely a bool."""
    match node:
        case Compare() | Unary("not", _) | Call("bool" | "any" | "all", _):
            return True
        case Logical(_, operands):
            return all(map(_is_boolean, operands))
        case Literal(bool()):
            return True
    return False


def _flat(parts: Parts) -> list[Part]:
    """The elements of a tuple of columns; of nothing else."""
    if isinstance(parts, tuple):
        flat = [part for part in parts if isinstance(part, Part)]
        if len(flat) == len(parts):
            return flat
    raise Unpromised


def _pick(parts: Parts, index: int) -> Parts:
    if not isinstance(parts, tuple) or not -len(parts) <= index < len(parts):
        raise Unpromised
    return parts[index]


def _direct(name: str, parameter: Parameter, column: Callable[[Frame], Column]) -> Parts:
    """The values of a large parameter, read as they are; tuples element by element."""

    def element(i: int) -> Callable[[Frame], Column]:
        return lambda frame: column(frame)[i]

    def one(frame: Frame) -> Array:
        found = column(frame)
        assert not isinstance(found, tuple)
        return found

    match parameter:
        case Integer() | PowerOfTwo():
            high = max(abs(parameter.low), abs(parameter.high))
            if high > SAFE:
                raise Unpromised
            return Part(one, parameter.low, parameter.high, safe=True)
        case Boolean():
            return Part(one, 0, 1, safe=True)
        case Permutation(n):
            return tuple(Part(_array(element(i)), 0, n - 1, safe=True) for i in range(n))
        case ListOf(inner, length):
            return tuple(_direct(name, inner, element(i)) for i in range(length))
    raise Unpromised


def _array(column: Callable[[Frame], Column]) -> Callable[[Frame], Array]:
    def one(frame: Frame) -> Array:
        found = column(frame)
        assert not isinstance(found, tuple)
        return found

    return one
