"""Expressions evaluated over whole columns: exactly Python's answer row by row, or `NotVectorisable`.

The tree is compiled once for given parameters. Compiling bounds every integer, so that no operation can overflow int64
or lose bits to a float unnoticed. A subexpression of one small parameter becomes a table; an operand that Python's
short circuit may skip is evaluated on the remaining rows only; and a row whose evaluation raises is marked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from autotune.core.constraints import column_ops as ops
from autotune.core.constraints.by_row import Row, row_function, values_or_errors
from autotune.core.constraints.column_ops import CompiledNode, Frame, NotVectorisable
from autotune.core.constraints.syntax import (
    Binary,
    ComparisonChain,
    Conditional,
    Display,
    FunctionCall,
    Item,
    Literal,
    Logical,
    Name,
    Node,
    Unary,
    find_names,
)
from autotune.core.constraints.tables import SAFE, Array, tabulate, value_table
from autotune.core.constraints.verdicts import RAISES, YES, Verdicts
from autotune.core.parameters import Boolean, Codes, Column, Integer, ListOf, Parameter, Permutation, PowerOfTwo
from autotune.core.points import Ranks

TABLE_LIMIT = 512
"""A subexpression of one parameter of up to this many values is tabulated."""

CompiledValue = CompiledNode | tuple["CompiledValue", ...]
"""A compiled node, or a tuple of them for a value that is a tuple."""


@dataclass(frozen=True)
class ColumnProgram:
    """A compiled expression. by_rank: the names whose ranks it reads; by_value: the names whose values it reads."""

    truth: CompiledNode
    by_rank: tuple[str, ...]
    by_value: tuple[str, ...]

    def run(self, n: int, ranks: Mapping[str, Ranks], columns: Mapping[str, Column]) -> Verdicts:
        """The verdicts on n points, shape [n]; raises NotVectorisable where these columns cannot promise them."""
        frame = Frame(n, ranks, columns, np.zeros(n, bool), None)
        with np.errstate(all="ignore"):
            truths = self.truth.values(frame)
        verdicts = np.broadcast_to(truths, (n,)).astype(np.uint8) * np.uint8(YES)
        verdicts[frame.raised] = RAISES
        return verdicts

    def run_on_codes(self, parameters: Mapping[str, Parameter], codes: Mapping[str, Codes]) -> Verdicts:
        """The same for points given by their codes [n, width] by name."""
        ranks = {name: parameters[name].rank(codes[name]) for name in self.by_rank}
        columns = {name: parameters[name].column(codes[name]) for name in self.by_value}
        return self.run(len(next(iter(codes.values()))), ranks, columns)


def compile_columns(tree: Node, parameters: Mapping[str, Parameter]) -> ColumnProgram | None:
    """The compiled expression; None where columns cannot promise Python's answer for these parameters."""
    read = find_names(tree)
    by_rank = tuple(name for name in read if parameters[name].size <= TABLE_LIMIT)
    by_value = tuple(name for name in read if name not in by_rank)
    try:
        return ColumnProgram(_Compiler(parameters).truth(tree), by_rank, by_value)
    except NotVectorisable:
        return None


class _Compiler:
    """Compiles nodes for given parameters; raises NotVectorisable."""

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self.parameters = parameters

    def truth(self, node: Node) -> CompiledNode:
        """The truth of a node's value, as a column of bools."""
        table = self._table(node, truth=True)
        if table is not None:
            return table
        match node:
            case Logical(op, operands):
                return ops.logical(op, tuple(map(self.truth, operands)))
            case Unary("not", operand):
                return ops.negate(self.truth(operand))
            case Conditional(test, then, otherwise):
                return ops.conditional(self.truth(test), self.truth(then), self.truth(otherwise))
        return ops.truth_of(self.scalar(node))

    def scalar(self, node: Node) -> CompiledNode:
        """The value of a node, as one column."""
        value = self.value(node)
        if isinstance(value, tuple):
            raise NotVectorisable
        return value

    def value(self, node: Node) -> CompiledValue:
        """The value of a node."""
        table = self._table(node, truth=False)
        if table is not None:
            return table
        match node:
            case Name(name):
                return _read_values(self.parameters[name], lambda frame: frame.column(name))
            case Unary("not", _) | Logical(_, _):
                return self._boolean(node)
            case Unary(op, operand):
                return ops.unary(op, self.scalar(operand))
            case Binary(op, left, right):
                return ops.binary(op, self.scalar(left), self.scalar(right))
            case ComparisonChain(chain, operands):
                return self._compare(chain, operands)
            case Conditional(test, then, otherwise):
                return ops.conditional(self.truth(test), self.scalar(then), self.scalar(otherwise))
            case Item(of, index):
                return _item(self.value(of), index)
            case FunctionCall(function, arguments):
                return self._call(function, arguments)
            case Display(_, items):
                return tuple(map(self.value, items))
            case Literal(_):
                raise NotVectorisable  # a literal that a column can hold was a table already
        raise NotVectorisable

    def _boolean(self, node: Unary | Logical) -> CompiledNode:
        """A truth as a value: only where Python's result is a bool, too, and not the last operand."""
        if isinstance(node, Logical) and not all(map(_is_boolean, node.operands)):
            raise NotVectorisable
        return self.truth(node)

    def _table(self, node: Node, truth: bool) -> CompiledNode | None:
        """The node tabulated, if it reads at most one small parameter. truth: the truths of its values."""
        read = find_names(node)
        if len(read) > 1 or any(self.parameters[name].size > TABLE_LIMIT for name in read):
            return None
        if isinstance(node, Display):
            return None
        if isinstance(node, Name) and not truth:
            return ops.gather(node.name, value_table(self.parameters[node.name]))
        found = values_or_errors(row_function(node), self._rows(read[0]) if read else [{}])
        if truth:
            found = [value if isinstance(value, Exception) else bool(value) for value in found]
        table = tabulate(found)
        if not read and not table.homogeneous:
            raise NotVectorisable
        return ops.gather(read[0] if read else None, table)

    def _rows(self, name: str) -> list[Row]:
        """One row for each value of a small parameter."""
        parameter = self.parameters[name]
        return [{name: value} for value in parameter.decode(parameter.unrank(np.arange(parameter.size)))]

    def _compare(self, chain: tuple[str, ...], operands: tuple[Node, ...]) -> CompiledNode:
        links = []
        for op, left, right in zip(chain, operands, operands[1:], strict=False):
            if op in ("in", "not in"):
                found = ops.membership(self.scalar(left), tuple(self._items(right)))
                links.append(found if op == "in" else ops.negate(found))
            elif op in ("is", "is not"):
                assert isinstance(right, Literal)  # the parser allows nothing else
                same = ops.is_literal(self.scalar(left), right.value)
                links.append(same if op == "is" else ops.negate(same))
            else:
                links.append(ops.compare(op, self.scalar(left), self.scalar(right)))
        return links[0] if len(links) == 1 else ops.logical("and", tuple(links))

    def _items(self, node: Node) -> list[CompiledNode]:
        """The items that `in` looks through; literals that are no numbers equal no number and are left out."""
        if isinstance(node, Display):
            numbers = (bool, int, float)
            return [self.scalar(i) for i in node.items if not isinstance(i, Literal) or isinstance(i.value, numbers)]
        return _elements(self.value(node))

    def _call(self, function: str, arguments: tuple[Node, ...]) -> CompiledNode:
        values = [self.value(argument) for argument in arguments]
        if function == "len" and isinstance(values[0], tuple):
            return ops.gather(None, tabulate([len(values[0])]))
        if function in ("sum", "any", "all") or (function in ("min", "max") and len(values) == 1):
            nodes = _elements(values[0])
        else:
            nodes = _elements(tuple(values))
        return ops.call(function, nodes)


def _is_boolean(node: Node) -> bool:
    """Whether the value is certainly a bool."""
    match node:
        case ComparisonChain() | Unary("not", _) | FunctionCall("bool" | "any" | "all", _):
            return True
        case Logical(_, operands):
            return all(map(_is_boolean, operands))
        case Literal(bool()):
            return True
    return False


def _elements(value: CompiledValue) -> list[CompiledNode]:
    """The elements of a tuple of columns; raises NotVectorisable for any other value."""
    if isinstance(value, tuple):
        nodes = [node for node in value if isinstance(node, CompiledNode)]
        if len(nodes) == len(value):
            return nodes
    raise NotVectorisable


def _item(value: CompiledValue, index: int) -> CompiledValue:
    if not isinstance(value, tuple) or not -len(value) <= index < len(value):
        raise NotVectorisable
    return value[index]


def _read_values(parameter: Parameter, column: Callable[[Frame], Column]) -> CompiledValue:
    """The values of a large parameter, read as they are; tuples element by element."""

    def array(frame: Frame) -> Array:
        found = column(frame)
        assert not isinstance(found, tuple)
        return found

    def element(i: int) -> Callable[[Frame], Column]:
        return lambda frame: column(frame)[i]

    match parameter:
        case Integer() | PowerOfTwo():
            if max(abs(parameter.low), abs(parameter.high)) > SAFE:
                raise NotVectorisable
            return CompiledNode(array, parameter.low, parameter.high, safe=True)
        case Boolean():
            return CompiledNode(array, 0, 1, safe=True)
        case Permutation(n):
            return tuple(_read_values(Integer(0, n - 1), element(i)) for i in range(n))
        case ListOf(inner, length):
            return tuple(_read_values(inner, element(i)) for i in range(length))
    raise NotVectorisable
