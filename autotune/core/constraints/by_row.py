"""What an expression means for one row of values: what Python itself would answer, with caps on the size of numbers.

The tree becomes nested closures once, so that a row costs no dispatch on node types.
"""

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from autotune.core.config import Value
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
)

Row = Mapping[str, Value]
Meaning = Callable[[Row], Any]

MAX_BITS = 4096
RAISED = (ZeroDivisionError, TypeError, ValueError, OverflowError, IndexError)
"""What evaluating a row can raise."""


def meaning(node: Node) -> Meaning:
    """The function from a row (names to values) to the value of the tree; it raises one of RAISED as Python would."""
    match node:
        case Literal(value):
            return lambda row: value
        case Name(name):
            return operator.itemgetter(name)
        case Unary(op, operand):
            return _unary(UNARY[op], meaning(operand), op)
        case Binary(op, left, right):
            return _binary(BINARY[op], meaning(left), meaning(right), op)
        case Compare(ops, operands):
            return _compare(ops, tuple(map(meaning, operands)))
        case Logical(op, operands):
            return _logical(op == "or", tuple(map(meaning, operands)))
        case Conditional(test, then, otherwise):
            return _conditional(meaning(test), meaning(then), meaning(otherwise))
        case Item(of, index):
            value_of = meaning(of)
            return lambda row: _tuple(value_of(row))[index]
        case Call(function, arguments):
            called, parts = FUNCTIONS[function], tuple(map(meaning, arguments))
            return lambda row: called(*[part(row) for part in parts])
        case Group(kind, items):
            display, members = DISPLAYS[kind], tuple(map(meaning, items))
            return lambda row: display([item(row) for item in members])


def _unary(apply: Callable[[Any], Any], operand: Meaning, op: str) -> Meaning:
    if op == "not":
        return lambda row: not operand(row)
    return lambda row: apply(_number(operand(row), op))


def _binary(apply: Callable[[Any, Any], Any], left: Meaning, right: Meaning, op: str) -> Meaning:
    return lambda row: apply(_number(left(row), op), _number(right(row), op))


def _compare(ops: tuple[str, ...], operands: tuple[Meaning, ...]) -> Meaning:
    tests = tuple(COMPARE[op] for op in ops)
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


def _logical(stop: bool, operands: tuple[Meaning, ...]) -> Meaning:
    def logical(row: Row) -> Any:
        value = None
        for operand in operands:
            value = operand(row)
            if bool(value) is stop:
                break
        return value

    return logical


def _conditional(test: Meaning, then: Meaning, otherwise: Meaning) -> Meaning:
    return lambda row: then(row) if test(row) else otherwise(row)


def _number(value: Any, op: str) -> Any:
    if isinstance(value, int | float):  # a bool is an int
        return value
    raise TypeError(f"{op} is for numbers, not for {value!r}")


def _tuple(value: Any) -> Any:
    if isinstance(value, tuple | list | str):
        return value
    raise TypeError(f"{value!r} has no elements")


def _within(value: Any, op: str, bits: int) -> None:
    if bits > MAX_BITS:
        raise OverflowError(f"{op} gives a number of over {MAX_BITS} bits")


def _times(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int):
        _within(a, "*", a.bit_length() + b.bit_length())
    return a * b


def _power(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int) and b > 0:
        _within(a, "**", a.bit_length() * b if abs(a) > 1 else 0)
    result = a**b
    if isinstance(result, complex):
        raise ValueError(f"{a!r} ** {b!r} is not a real number")
    return result


def _shift(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int) and b > 0:
        _within(a, "<<", a.bit_length() + b)
    return a << b


def _invert(a: Any) -> Any:
    return ~int(a) if isinstance(a, bool) else ~a


def _ceildiv(a: Any, b: Any) -> Any:
    return -(-_number(a, "ceildiv") // _number(b, "ceildiv"))


def _contains(a: Any, b: Any) -> bool:
    return a in b


def _not_contains(a: Any, b: Any) -> bool:
    return a not in b


UNARY: dict[str, Callable[[Any], Any]] = {
    "-": operator.neg, "+": operator.pos, "not": operator.not_, "~": _invert,
}  # fmt: skip
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": _times, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": _power, "&": operator.and_, "|": operator.or_, "^": operator.xor,
    "<<": _shift, ">>": operator.rshift,
}  # fmt: skip
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "is": operator.is_, "is not": operator.is_not, "in": _contains, "not in": _not_contains,
}  # fmt: skip
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "min": min, "max": max, "sum": sum, "len": len, "int": int, "float": float, "bool": bool, "any": any,
    "all": all, "round": round, "ceil": math.ceil, "floor": math.floor, "log2": math.log2, "gcd": math.gcd,
    "ceildiv": _ceildiv,
}  # fmt: skip
DISPLAYS: dict[str, Callable[[list[Any]], Any]] = {"tuple": tuple, "list": list, "set": set}
