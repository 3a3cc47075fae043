"""Expressions evaluated on one row of values: Python's own answer, with a cap on the size of integers.

The tree becomes nested closures once, so that a row costs no dispatch on node types.
"""

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from autotune.core.config import Value
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
)
from autotune.core.constraints.verdicts import NO, RAISES, YES

Row = Mapping[str, Value]
"""The values of one point by parameter."""

RowFunction = Callable[[Row], Any]

_MAX_BITS = 4096
"""The largest integer that *, ** and << may give: `2 ** 99999999` must not fill the memory."""

ROW_ERRORS = (ZeroDivisionError, TypeError, ValueError, OverflowError, IndexError)
"""The exceptions that evaluating an expression on a row can raise."""


def verdict_function(value_of: RowFunction) -> Callable[[Row], int]:
    """The function from a row to its verdict (NO, YES or RAISES)."""

    def verdict(row: Row) -> int:
        try:
            return YES if value_of(row) else NO
        except ROW_ERRORS:
            return RAISES

    return verdict


def values_or_errors(value_of: RowFunction, rows: list[Row]) -> list[Any]:
    """The value on each row, or the exception that it raises."""
    found = []
    for row in rows:
        try:
            found.append(value_of(row))
        except ROW_ERRORS as error:
            found.append(error)
    return found


def row_function(node: Node) -> RowFunction:
    """The function from a row to the value of the tree; it raises one of ROW_ERRORS where Python would."""
    match node:
        case Literal(value):
            return lambda row: value
        case Name(name):
            return operator.itemgetter(name)
        case Unary("not", operand):
            truth = row_function(operand)
            return lambda row: not truth(row)
        case Unary(op, operand):
            change, of = _UNARY[op], row_function(operand)
            return lambda row: change(_number(of(row), op))
        case Binary(op, left, right):
            join, one, other = _BINARY[op], row_function(left), row_function(right)
            return lambda row: join(_number(one(row), op), _number(other(row), op))
        case ComparisonChain(ops, operands):
            return _compare(ops, tuple(map(row_function, operands)))
        case Logical(op, operands):
            return _logical(op == "or", tuple(map(row_function, operands)))
        case Conditional(test, then, otherwise):
            holds, yes, no = row_function(test), row_function(then), row_function(otherwise)
            return lambda row: yes(row) if holds(row) else no(row)
        case Item(of, index):
            value_of = row_function(of)
            return lambda row: _tuple(value_of(row))[index]
        case FunctionCall(function, arguments):
            called, parts = _FUNCTIONS[function], tuple(map(row_function, arguments))
            return lambda row: called(*[part(row) for part in parts])
        case Display(kind, items):
            display, members = _DISPLAYS[kind], tuple(map(row_function, items))
            return lambda row: display([item(row) for item in members])


def _compare(ops: tuple[str, ...], operands: tuple[RowFunction, ...]) -> RowFunction:
    tests = tuple(_COMPARE[op] for op in ops)
    if len(tests) == 1:
        only, (left, right) = tests[0], operands
        return lambda row: only(left(row), right(row))

    def chain(row: Row) -> bool:
        before = operands[0](row)
        for test, operand in zip(tests, operands[1:], strict=True):
            after = operand(row)
            if not test(before, after):
                return False
            before = after
        return True

    return chain


def _logical(stop: bool, operands: tuple[RowFunction, ...]) -> RowFunction:
    def logical(row: Row) -> Any:
        value = None
        for operand in operands:
            value = operand(row)
            if bool(value) is stop:
                break
        return value

    return logical


def _number(value: Any, op: str) -> Any:
    if isinstance(value, int | float):  # a bool is an int
        return value
    raise TypeError(f"{op} is for numbers, not for {value!r}")


def _tuple(value: Any) -> Any:
    if isinstance(value, tuple | list | str):
        return value
    raise TypeError(f"{value!r} has no elements")


def _check_bits(op: str, bits: int) -> None:
    if bits > _MAX_BITS:
        raise OverflowError(f"{op} gives a number of over {_MAX_BITS} bits")


def _times(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int):
        _check_bits("*", a.bit_length() + b.bit_length())
    return a * b


def _power(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int) and b > 0:
        _check_bits("**", a.bit_length() * b if abs(a) > 1 else 0)
    result = a**b
    if isinstance(result, complex):
        raise ValueError(f"{a!r} ** {b!r} is not a real number")
    return result


def _shift(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int) and b > 0:
        _check_bits("<<", a.bit_length() + b)
    return a << b


def _invert(a: Any) -> Any:
    return ~int(a) if isinstance(a, bool) else ~a


def _ceildiv(a: Any, b: Any) -> Any:
    return -(-_number(a, "ceildiv") // _number(b, "ceildiv"))


def _contains(a: Any, b: Any) -> bool:
    return a in b


def _not_contains(a: Any, b: Any) -> bool:
    return a not in b


_UNARY: dict[str, Callable[[Any], Any]] = {
    "-": operator.neg, "+": operator.pos, "~": _invert,
}  # fmt: skip
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": _times, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": _power, "&": operator.and_, "|": operator.or_, "^": operator.xor,
    "<<": _shift, ">>": operator.rshift,
}  # fmt: skip
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "is": operator.is_, "is not": operator.is_not, "in": _contains, "not in": _not_contains,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "min": min, "max": max, "sum": sum, "len": len, "int": int, "float": float, "bool": bool, "any": any,
    "all": all, "round": round, "ceil": math.ceil, "floor": math.floor, "log2": math.log2, "gcd": math.gcd,
    "ceildiv": _ceildiv,
}  # fmt: skip
_DISPLAYS: dict[str, Callable[[list[Any]], Any]] = {"tuple": tuple, "list": list, "set": set}
