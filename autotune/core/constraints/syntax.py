"""Constraint expressions: a small, safe part of Python's own syntax, parsed to a tree of frozen nodes.

Nothing here runs Python code: the text is parsed and every node is checked against a whitelist. The tree is then
evaluated row by row (`by_row`) or over whole columns (`by_column`), with the same answers.
"""

import ast
from dataclasses import dataclass
from typing import Any

from autotune.core.errors import SpaceError

_MAX_TEXT, _MAX_DEPTH = 10_000, 150
"""The longest text in characters and the deepest nesting: well below the depth at which Python's recursion ends."""

_MAX_BITS, _MAX_STRING = 1024, 1000
"""The largest integer literal in bits, and the longest string literal in characters."""

_UNARY = {ast.USub: "-", ast.UAdd: "+", ast.Not: "not", ast.Invert: "~"}
_BINARY = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>",
}  # fmt: skip
_COMPARE = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
_ARITY = {
    "abs": (1, 1), "min": (1, 99), "max": (1, 99), "sum": (1, 1), "len": (1, 1), "int": (1, 1), "float": (1, 1),
    "bool": (1, 1), "any": (1, 1), "all": (1, 1), "round": (1, 1), "ceil": (1, 1), "floor": (1, 1), "log2": (1, 1),
    "gcd": (1, 99), "ceildiv": (2, 2),
}  # fmt: skip
"""The functions an expression may call, with the least and the most arguments of each."""

_ALLOWED = (
    "use names, literals, arithmetic, comparisons, in, and, or, not, if-else, x[0] and calls of "
    f"{', '.join(_ARITY)}; for anything else pass a Python function"
)


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a string, True, False or None."""

    value: Any


@dataclass(frozen=True, slots=True)
class Name:
    """The value of a parameter."""

    name: str


@dataclass(frozen=True, slots=True)
class Unary:
    """One of - + not ~."""

    op: str
    operand: "Node"


@dataclass(frozen=True, slots=True)
class Binary:
    """Arithmetic on two numbers."""

    op: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class ComparisonChain:
    """A chain of comparisons: ops[i] stands between operands[i] and operands[i + 1]."""

    ops: tuple[str, ...]
    operands: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Logical:
    """`and` or `or` of two or more operands, evaluated from the left only as far as needed."""

    op: str
    operands: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Conditional:
    """`then if test else otherwise`."""

    test: "Node"
    then: "Node"
    otherwise: "Node"


@dataclass(frozen=True, slots=True)
class Item:
    """One element of a tuple, by a literal index."""

    of: "Node"
    index: int


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call of one of the known functions."""

    function: str
    arguments: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Display:
    """A tuple, list or set written out item by item; kind is "tuple", "list" or "set"."""

    kind: str
    items: tuple["Node", ...]


Node = Literal | Name | Unary | Binary | ComparisonChain | Logical | Conditional | Item | FunctionCall | Display


def parse(text: str) -> Node:
    """The tree of an expression; SpaceError, naming the place and the allowed syntax, for anything not whitelisted."""
    if len(text) > _MAX_TEXT:
        raise SpaceError(f"a constraint of {len(text)} characters is too long; write at most {_MAX_TEXT}, or split it")
    try:
        body = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = error.msg if isinstance(error, SyntaxError) else (str(error) or "too deeply nested")
        shown = text if len(text) < 200 else text[:200] + "…"
        raise SpaceError(f"constraint {shown!r} is not a Python expression ({why}); write e.g. 'M <= 128'") from None
    return _convert(body, text, 0)


def _children(node: Node) -> tuple[Node, ...]:
    """The direct children of a node."""
    match node:
        case Literal() | Name():
            return ()
        case Unary():
            return (node.operand,)
        case Binary():
            return (node.left, node.right)
        case ComparisonChain() | Logical():
            return node.operands
        case Conditional():
            return (node.test, node.then, node.otherwise)
        case Item():
            return (node.of,)
        case FunctionCall():
            return node.arguments
        case Display():
            return node.items


def find_names(node: Node) -> tuple[str, ...]:
    """The names that the tree reads, each once, in order of appearance."""
    if isinstance(node, Name):
        return (node.name,)
    return tuple(dict.fromkeys(name for child in _children(node) for name in find_names(child)))


def _error(node: ast.AST, text: str, what: str) -> SpaceError:
    part = ast.get_source_segment(text.strip(), node) if isinstance(node, ast.expr) else None
    where = f"constraint {text!r}" + (f", at {part!r}" if part and part != text.strip() else "")
    return SpaceError(f"{where}: {what}")


def _convert(node: ast.expr, text: str, depth: int) -> Node:  # noqa: C901 - one case a kind of node
    """The whitelisted counterpart of one node of Python's own tree."""
    if depth > _MAX_DEPTH:
        raise SpaceError(f"constraint {text[:60]!r}… nests over {_MAX_DEPTH} deep; split it into several constraints")

    def under(child: ast.expr) -> Node:
        return _convert(child, text, depth + 1)

    match node:
        case ast.Constant():
            return _literal(node, text)
        case ast.Name():
            return Name(node.id)
        case ast.UnaryOp():
            return Unary(_UNARY[type(node.op)], under(node.operand))
        case ast.BinOp() if type(node.op) in _BINARY:
            return Binary(_BINARY[type(node.op)], under(node.left), under(node.right))
        case ast.BoolOp():
            return Logical("and" if isinstance(node.op, ast.And) else "or", tuple(map(under, node.values)))
        case ast.Compare():
            _check_is_operands(node, text)
            operands = tuple(map(under, [node.left, *node.comparators]))
            return ComparisonChain(tuple(_COMPARE[type(op)] for op in node.ops), operands)
        case ast.IfExp():
            return Conditional(under(node.test), under(node.body), under(node.orelse))
        case ast.Subscript():
            return Item(under(node.value), _literal_index(node, text))
        case ast.Call():
            return FunctionCall(_function_name(node, text), tuple(map(under, node.args)))
        case ast.Tuple() | ast.List() | ast.Set():
            return Display(type(node).__name__.lower(), tuple(map(under, node.elts)))
    raise _error(node, text, f"{type(node).__name__} is not allowed; {_ALLOWED}")


def _literal(node: ast.Constant, text: str) -> Literal:
    value = node.value
    if value is not None and not isinstance(value, bool | int | float | str):
        raise _error(node, text, f"a literal {type(value).__name__} is not allowed; use int, float, str, bool or None")
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        raise _error(node, text[:200], f"a literal of over {_MAX_BITS} bits is not allowed")
    if isinstance(value, str) and len(value) > _MAX_STRING:
        raise _error(node, text[:200], f"a string of over {_MAX_STRING} characters is not allowed")
    return Literal(value)


def _check_is_operands(node: ast.Compare, text: str) -> None:
    for op, right in zip(node.ops, node.comparators, strict=True):
        constant = isinstance(right, ast.Constant) and (right.value is None or isinstance(right.value, bool))
        if isinstance(op, ast.Is | ast.IsNot) and not constant:
            raise _error(node, text, "'is' is allowed before None, True and False only; use == to compare values")


def _literal_index(node: ast.Subscript, text: str) -> int:
    match node.slice:
        case ast.Constant(value=int(index)) if not isinstance(index, bool):
            return index
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(index))) if not isinstance(index, bool):
            return -index
    raise _error(node, text, "only a literal integer is allowed as an index, such as order[0] or order[-1]")


def _function_name(node: ast.Call, text: str) -> str:
    name = node.func.id if isinstance(node.func, ast.Name) else None
    if name not in _ARITY:
        raise _error(node, text, f"this call is not allowed; the functions are {', '.join(_ARITY)}")
    least, most = _ARITY[name]
    if node.keywords or any(isinstance(arg, ast.Starred) for arg in node.args):
        raise _error(node, text, f"{name} takes plain arguments only, neither keywords nor *")
    if not least <= len(node.args) <= most:
        raise _error(node, text, f"{name} takes {least if least == most else f'{least} or more'} argument(s)")
    return name
