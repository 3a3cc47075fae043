"""Which of its arguments a kernel writes, and which of those it reads, as its source tells.

Every name is followed back to the arguments that its value comes from, without regard to the order of statements. What
is not understood counts as both, so that more may be named than is written, but not less, with one exception: an
address that was itself loaded from memory leads to where no argument does, and then every argument counts.
"""

import ast
import builtins
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

Names = frozenset[str]
NONE: Names = frozenset()

DEPTH = 16
"""Functions within functions that are followed; deeper ones are not understood."""

HARMLESS = frozenset(
    {
        "T", "abs", "advance", "associative_scan", "broadcast_to", "cast", "cumprod", "cumsum", "dot", "expand_dims",
        "flip", "histogram", "item", "join", "logical_and", "logical_or", "max", "min", "permute", "ravel", "reduce",
        "reshape", "sigmoid", "softmax", "sort", "split", "sum", "to", "trans", "view", "where", "xor_sum",
    }
)  # fmt: skip
"""Methods of values in a kernel that touch no memory."""

MEMORY = ("atomic", "store", "scatter", "reduce_add", "load", "gather")
"""Parts of the names of what does."""

ABOUT = frozenset({"dtype", "element_ty", "shape", "type", "numel", "ndim"})
"""Attributes that tell about a value, and do not lead to its memory."""


class Effects(NamedTuple):
    """Names of arguments."""

    written: Names
    read: Names


def effects_of(function: FunctionType) -> Effects | None:
    """What a kernel does to the memory of its arguments; None where its source cannot be had or understood."""
    names = frozenset(inspect.signature(function).parameters)
    try:
        found = _follow(function, {name: frozenset((name,)) for name in names}, DEPTH)
    except (OSError, TypeError, SyntaxError, RecursionError, _NotUnderstood):
        return None
    return Effects(names, names) if found is None else Effects(found.written & names, found.read & names)


class _NotUnderstood(Exception):
    """The source is not that of a function."""


def _follow(function: FunctionType, given: Mapping[str, Names], depth: int) -> Effects | None:
    """The effects of a call with arguments of these origins; None where it writes to who knows where."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    if not isinstance(tree, ast.FunctionDef):
        raise _NotUnderstood
    walk = _Walk(function, dict(given), depth)
    before = None
    while before != walk.origins:
        before = dict(walk.origins)
        for statement in tree.body:
            walk.visit(statement)
    return None if walk.astray else Effects(frozenset(walk.written), frozenset(walk.read))


class _Walk(ast.NodeVisitor):
    """One function. origins: of each name, the arguments that its value comes from."""

    def __init__(self, function: FunctionType, origins: dict[str, Names], depth: int) -> None:
        closed = inspect.getclosurevars(function)
        self._scope: dict[str, Any] = {**vars(builtins), **function.__globals__, **closed.nonlocals}
        self._depth = depth
        self.origins = origins
        self.written: set[str] = set()
        self.read: set[str] = set()
        self.astray = False

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._bind(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._bind(node.target, node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._give(node.target, self._of(node.value))

    def visit_For(self, node: ast.For) -> None:
        self._give(node.target, self._of(node.iter))
        for statement in (*node.body, *node.orelse):
            self.visit(statement)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            came = self._of(item.context_expr)
            if item.optional_vars is not None:
                self._give(item.optional_vars, came)
        for statement in node.body:
            self.visit(statement)

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.expr):
            self._of(node)
        else:
            super().generic_visit(node)

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        both = isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List)
        if both and len(target.elts) == len(value.elts):  # type: ignore[attr-defined]
            for one, its in zip(target.elts, value.elts, strict=True):  # type: ignore[attr-defined]
                self._bind(one, its)
        else:
            self._give(target, self._of(value))

    def _give(self, target: ast.expr, came: Names) -> None:
        for node in ast.walk(target):
            if isinstance(node, ast.Name):
                self.origins[node.id] = self.origins.get(node.id, NONE) | came

    def _of(self, node: ast.AST) -> Names:
        """The arguments that the value of an expression comes from; calls in it are taken note of."""
        match node:
            case ast.Name(id=name):
                return self.origins.get(name, NONE)
            case ast.Call():
                return self._call(node)
            case ast.NamedExpr(target=target, value=value):
                came = self._of(value)
                self._give(target, came)
                return came
            case ast.Constant():
                return NONE
            case ast.Attribute(attr=attr) if attr in ABOUT:
                return NONE
            case _:
                return _union(self._of(child) for child in ast.iter_child_nodes(node))

    def _call(self, node: ast.Call) -> Names:
        given = [self._of(one.value if isinstance(one, ast.Starred) else one) for one in node.args]
        named = {one.arg: self._of(one.value) for one in node.keywords}
        everything = _union((*given, *named.values()))
        callee = self._resolved(node.func)
        if callee is not None:
            inner = _function_in(callee)
            name = getattr(inner or callee, "__name__", "")
            if (getattr(inner or callee, "__module__", None) or "").startswith("triton."):
                pointer = given[0] if given else next(iter(named.values()), NONE)
                return self._memory(name, pointer, everything)
            if inner is not None:
                return self._called(inner, node, given, named, everything)
            if getattr(builtins, name, None) is callee:
                return everything
        if isinstance(node.func, ast.Attribute):
            of = self._of(node.func.value)
            if node.func.attr in HARMLESS:
                return everything | of
            if not any(part in node.func.attr for part in MEMORY):
                self._touch(everything | of)
            return self._memory(node.func.attr, of, everything | of)
        self._touch(everything)
        return everything

    def _memory(self, name: str, pointer: Names, everything: Names) -> Names:
        """A call of the language by its name, or a method of one of its values."""
        if "atomic" in name:
            self._write(pointer)
            self.read |= pointer
            return NONE
        if "store" in name or "scatter" in name or "reduce_add" in name:
            self._write(pointer)
            return NONE
        if "load" in name or "gather" in name:
            self.read |= pointer if pointer else everything
            return NONE
        if "asm" in name or "extern" in name or "async" in name or "copy" in name:
            self._touch(everything)
        return everything

    def _called(
        self, inner: FunctionType, node: ast.Call, given: list[Names], named: dict[str | None, Names], everything: Names
    ) -> Names:
        """Another function of the user's: the same, with what it is given."""
        parameters = list(inspect.signature(inner).parameters)
        plain = None not in named and not any(isinstance(one, ast.Starred) for one in node.args)
        if self._depth and plain and len(given) <= len(parameters):
            passed = dict.fromkeys(parameters, NONE) | dict(zip(parameters, given, strict=False))
            passed |= {str(name): came for name, came in named.items()}
            found = _follow(inner, passed, self._depth - 1)
            if found is None:
                self.astray = True
            else:
                self.written |= found.written
                self.read |= found.read
        else:
            self._touch(everything)
        return everything

    def _write(self, pointer: Names) -> None:
        self.written |= pointer
        self.astray = self.astray or not pointer

    def _touch(self, names: Names) -> None:
        self.written |= names
        self.read |= names

    def _resolved(self, func: ast.expr) -> Any:
        """What is called, if that is known when the kernel is written; None for anything that hangs on a value."""
        match func:
            case ast.Name(id=name) if name not in self.origins:
                return self._scope.get(name)
            case ast.Attribute(value=value, attr=attr):
                owner = self._resolved(value)
                return getattr(owner, attr, None) if isinstance(owner, ModuleType) else None
            case _:
                return None


def _function_in(callee: Any) -> FunctionType | None:
    """The Python function of a jitted one."""
    for _ in range(8):
        if isinstance(callee, FunctionType) or callee is None:
            return callee
        callee = getattr(callee, "fn", None)
    return None


def _union(parts: Iterable[Names]) -> Names:
    return NONE.union(*parts)
