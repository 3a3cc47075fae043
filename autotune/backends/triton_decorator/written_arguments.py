"""Which of its arguments a kernel writes, and which of those it reads, as its source tells.

Every name is followed back to the arguments that its value comes from, without regard to the order of statements. A
call of the language is known by the function that is called, and its pointer by the name of the parameter, however the
call is spelled. What is not understood counts as written and as read, so that more may be named than is written, but
not less, with one exception: an address that was itself loaded from memory leads to where no argument does.
"""

import ast
import builtins
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any, Literal, NamedTuple

Names = frozenset[str]
NONE: Names = frozenset()

LOADED = frozenset(("*loaded",))
"""Where a value comes from that was loaded from memory."""
OPAQUE = frozenset(("*opaque",))
"""Where a value comes from that may be an object with methods of its own."""
ADDRESS = frozenset(("*address",))
"""Where a number comes from that was made an address: it may lead to any argument."""

DEPTH = 16
"""Functions within functions that are followed; deeper ones are not understood."""

PURE = frozenset(
    {
        "T", "abs", "add", "advance", "arange", "argmax", "argmin", "associative_scan", "assume", "bitonic_merge",
        "broadcast", "broadcast_to", "cast", "cat", "cdiv", "ceil", "clamp", "constexpr", "cos", "cumprod", "cumsum",
        "debug_barrier", "device_assert", "device_print", "div_rn", "dot", "dot_scaled", "dtype", "erf", "exp", "exp2",
        "expand_dims", "expect_zero", "fdiv", "flip", "floor", "fma", "full", "gather", "histogram", "interleave",
        "item", "join", "log", "log2", "logical_and", "logical_or", "make_block_ptr", "make_tensor_descriptor",
        "_experimental_make_tensor_descriptor", "max", "max_constancy", "max_contiguous", "maximum", "min", "minimum",
        "mul", "multiple_of", "next_power_of_2", "num_programs", "permute", "program_id", "range", "ravel", "reduce",
        "reduce_or", "reshape", "rsqrt", "sigmoid", "sin", "softmax", "sort", "split", "sqrt", "sqrt_rn", "squeeze",
        "static_assert", "static_print", "static_range", "sub", "sum", "swizzle2d", "to", "to_tensor", "topk", "trans",
        "tuple", "umulhi", "unsqueeze", "view", "where", "xor_sum", "zeros", "zeros_like",
    }
)  # fmt: skip
"""Functions of the language, and methods of its values, that touch no memory. New ones count as not understood."""

PURE_MODULES = ("triton.language.math", "triton.language.random", "triton.language.standard")
"""Whose functions are all of that kind; so are those of every `libdevice`."""

MEMORY: Mapping[str, Literal["read", "write"]] = {
    "load": "read", "load_tensor_descriptor": "read", "_experimental_descriptor_load": "read",
    "_experimental_descriptor_gather": "read",
    "store": "write", "store_tensor_descriptor": "write", "_experimental_descriptor_store": "write",
    "_experimental_descriptor_scatter": "write", "scatter": "write",
}  # fmt: skip
"""What is done to the first parameter, whether it is called pointer, desc or self. Whatever begins with "atomic_" does
both."""

BUILTINS = frozenset(
    {
        "abs", "all", "any", "bool", "complex", "dict", "divmod", "enumerate", "float", "getattr", "hasattr", "int",
        "isinstance", "issubclass", "iter", "len", "list", "max", "min", "next", "pow", "print", "range", "repr",
        "reversed", "round", "set", "slice", "sorted", "str", "sum", "tuple", "type", "zip",
    }
)  # fmt: skip
"""Of Python's own functions, those that change nothing and call nothing that could."""

REACHING = frozenset({"eval", "exec", "globals", "locals", "vars", "setattr", "__import__"})
"""Those that may reach, or rebind, any name."""

ABOUT = frozenset({"dtype", "element_ty", "shape", "type", "numel", "ndim"})
"""Attributes that tell about a value, and do not lead to its memory."""

_UNKNOWN = object()
"""In place of an object that is not known before the kernel runs."""


class Effects(NamedTuple):
    """Names of arguments. stores, loads: of each address written or read, the arguments that it comes from.

    An address of which no argument holds a tensor, when it comes to a call, may lead anywhere.
    """

    written: Names
    read: Names
    stores: frozenset[Names] = frozenset()
    loads: frozenset[Names] = frozenset()


def effects_of(kernel: Any) -> Effects | None:
    """What a kernel, jitted or not, does to the memory of its arguments; None where its source cannot be understood."""
    function = _function_in(kernel)
    if function is None:
        return None
    try:
        names = frozenset(_signature(function).parameters)
        found = _Found()
        found.follow(kernel, function, {name: frozenset((name,)) for name in names}, DEPTH)
        found.recording = True
        found.follow(kernel, function, {name: frozenset((name,)) for name in names}, DEPTH)
    except (OSError, TypeError, ValueError, SyntaxError, RecursionError, _NotUnderstood):
        return None
    stores, loads = found.addresses(found.stores, names), found.addresses(found.loads, names)
    touched = found.touched & names
    return Effects(touched.union(*stores), touched.union(*loads), stores, loads)


class _NotUnderstood(Exception):
    """The source is not that of a function, or does with names what is not followed."""


class _Found:
    """What is found of a kernel and all that it calls. recording: whether effects are written down yet.

    They are so once it is known where names come from: before that, an address seems to come from nowhere.
    """

    def __init__(self) -> None:
        self.recording = False
        self.stores: set[Names] = set()
        self.loads: set[Names] = set()
        self.touched: Names = NONE
        self._returned: dict[tuple[Any, ...], Names] = {}
        self._within: set[tuple[Any, ...]] = set()

    def addresses(self, given: Iterable[Names], names: Names) -> frozenset[Names]:
        """By the arguments that they come from: all of them where there is none, or where a number was made one."""
        return frozenset(one & names if one & names and not one & ADDRESS else names for one in given)

    def follow(self, callee: Any, function: FunctionType, given: Mapping[str, Names], depth: int) -> Names:
        """A call with arguments that come from these; gives where what it returns comes from."""
        key = (self.recording, function, *sorted((name, tuple(sorted(came))) for name, came in given.items()))
        if key in self._returned:
            return self._returned[key]
        everything = _union(given.values())
        if depth == 0:
            self.touch(everything)
            return everything | OPAQUE
        if key in self._within:  # what it does with these arguments is being found out already
            return everything | OPAQUE | LOADED
        self._within.add(key)
        recording, self.recording = self.recording, False
        walk = _Walk(self, callee, function, given, depth)
        while walk.unsettled():
            walk.pass_over()
        self.recording = recording
        if recording:
            walk.pass_over()
        self._within.discard(key)
        self._returned[key] = walk.returned
        return walk.returned

    def touch(self, names: Names) -> None:
        """These may be written and read."""
        if self.recording:
            self.touched |= names

    def memory(self, name: str, pointer: Names) -> bool:
        """A function of the language, or a method, by its name, on an address; whether it is one that goes there."""
        what = "both" if name.startswith("atomic_") else MEMORY.get(name)
        if what is not None and self.recording:
            if what != "read":
                self.stores.add(pointer)
            if what != "write":
                self.loads.add(pointer)
        return what is not None


class _Walk(ast.NodeVisitor):
    """One function with certain arguments. origins: of each name, what its value comes from."""

    def __init__(
        self, found: _Found, callee: Any, function: FunctionType, given: Mapping[str, Names], depth: int
    ) -> None:
        self._found, self._depth = found, depth
        self._tree = _tree(callee, function)
        closed = {name: _contents(cell) for name, cell in
                  zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)}  # fmt: skip
        self._scope: dict[str, Any] = {**vars(builtins), **function.__globals__, **closed}
        self._bound = _bound_names(self._tree)
        self._aliases: dict[str, Any] = {}
        self._aliases = self._aliased()
        self.origins: dict[str, Names] = dict(given)
        self.returned: Names = NONE
        self._before: tuple[dict[str, Names], Names] | None = None

    def unsettled(self) -> bool:
        """Whether the last pass has found more."""
        before, self._before = self._before, (dict(self.origins), self.returned)
        return before != self._before

    def pass_over(self) -> None:
        """Go through all statements once."""
        for statement in self._tree.body:
            self.visit(statement)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._bind(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._bind(node.target, node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._give(node.target, self._of(node.value) | self._of(node.target))

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

    def visit_Match(self, node: ast.Match) -> None:
        came = self._of(node.subject)
        for case in node.cases:
            for name in _captured(case.pattern):
                self._name(name, came)
            self.generic_visit(case)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            self.returned |= self._of(node.value)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for one in node.names:
            if one.name == "*":
                raise _NotUnderstood
            self._name((one.asname or one.name).partition(".")[0], OPAQUE)

    visit_ImportFrom = visit_Import

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._name(node.name, OPAQUE)  # whoever calls it is taken to write all that it is given
        self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._name(node.name, OPAQUE)
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> None:
        raise _NotUnderstood

    visit_Nonlocal = visit_Global

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.expr):
            self._of(node)
        else:
            super().generic_visit(node)

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
            plain = not any(isinstance(one, ast.Starred) for one in (*target.elts, *value.elts))
            if plain and len(target.elts) == len(value.elts):
                for one, its in zip(target.elts, value.elts, strict=True):
                    self._bind(one, its)
                return
        self._give(target, self._of(value))

    def _give(self, target: ast.expr, came: Names) -> None:
        for node in ast.walk(target):
            if isinstance(node, ast.Name):
                self._name(node.id, came)
            elif isinstance(node, ast.Call):
                self._of(node)

    def _name(self, name: str, came: Names) -> None:
        self.origins[name] = self.origins.get(name, NONE) | came

    def _of(self, node: ast.AST) -> Names:
        """What the value of an expression comes from; calls in it are taken note of."""
        match node:
            case ast.Name(id=name):
                return self.origins.get(name, NONE) | (NONE if name in self._bound else self._about(node))
            case ast.Call():
                return self._call(node)
            case ast.NamedExpr(target=target, value=value):
                came = self._of(value)
                self._give(target, came)
                return came
            case ast.Constant():
                return NONE
            case ast.Attribute(attr=attr, value=value):
                if self._resolved(node) is not _UNKNOWN:
                    return self._about(node)
                came = self._of(value)
                return NONE if attr in ABOUT and not came & OPAQUE else came
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                for one in node.generators:
                    self._give(one.target, self._of(one.iter))
                return _union(self._of(child) for child in ast.iter_child_nodes(node))
            case _:
                return _union(self._of(child) for child in ast.iter_child_nodes(node))

    def _about(self, node: ast.expr) -> Names:
        """What is to be said of a value that is known before the kernel runs."""
        value = self._resolved(node)
        if type(value).__name__ == "pointer_type":
            return ADDRESS
        return NONE if _is_plain(value) else OPAQUE

    def _call(self, node: ast.Call) -> Names:
        given = [self._of(one.value if isinstance(one, ast.Starred) else one) for one in node.args]
        named = {str(one.arg): self._of(one.value) for one in node.keywords}
        everything = _union((*given, *named.values()))
        spread = any(isinstance(one, ast.Starred) for one in node.args) or any(one.arg is None for one in node.keywords)
        callee = self._resolved(node.func)
        if callee is not _UNKNOWN:
            return self._known_call(callee, None if spread else (given, named), everything)
        if isinstance(node.func, ast.Attribute):
            of = self._of(node.func.value)
            if not of & OPAQUE:
                if node.func.attr in PURE:
                    return everything | of
                if self._found.memory(node.func.attr, of):
                    return LOADED
            everything |= of
        else:
            everything |= self._of(node.func)
        self._found.touch(everything)
        return everything | OPAQUE

    def _known_call(self, callee: Any, given: tuple[list[Names], dict[str, Names]] | None, everything: Names) -> Names:
        """A call of what is known before the kernel runs. given: None where a list or a dict is spread over it."""
        inner = None if isinstance(callee, MethodType) else _function_in(callee)
        name, module = getattr(inner or callee, "__name__", ""), getattr(inner or callee, "__module__", None) or ""
        if module == "triton" or module.startswith("triton."):
            if name == "pointer_type":
                return ADDRESS
            if name in PURE or module in PURE_MODULES or module.endswith(".libdevice"):
                return everything
            passed = _passed(inner or callee, given, everything)
            if passed and self._found.memory(name, next(iter(passed.values()))):
                return LOADED
        elif inner is not None:
            passed = _passed(inner, given, everything)
            if passed is not None:
                return self._found.follow(callee, inner, passed, self._depth - 1)
        elif getattr(builtins, name, None) is callee:
            if name in REACHING:
                raise _NotUnderstood
            if name in BUILTINS:
                return everything
        self._found.touch(everything)
        return everything | OPAQUE

    def _resolved(self, node: ast.expr) -> Any:
        """What an expression is, if that is known before the kernel runs."""
        match node:
            case ast.Name(id=name):
                if name in self._bound:
                    return self._aliases.get(name, _UNKNOWN)
                return self._scope.get(name, _UNKNOWN)
            case ast.Attribute(value=value, attr=attr):
                return _attribute(self._resolved(value), attr)
            case ast.Call(func=ast.Name(id="getattr"), args=[of, ast.Constant(value=str(attr))], keywords=[]):
                return _UNKNOWN if "getattr" in self._bound else _attribute(self._resolved(of), attr)
            case _:
                return _UNKNOWN

    def _aliased(self) -> dict[str, Any]:
        """Names that are bound once, to what is known before the kernel runs: `store = tl.store`."""
        counts: dict[str, int] = {}
        for node in ast.walk(self._tree):
            match node:
                case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                    counts[name] = counts.get(name, 0) + 1
        found: dict[str, Any] = {}
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                value = self._resolved(node.value)
                if counts[node.targets[0].id] == 1 and value is not _UNKNOWN and _function_in(value) is not None:
                    found[node.targets[0].id] = value
        return found


def _tree(callee: Any, function: FunctionType) -> ast.FunctionDef:
    """The syntax of a function: of the text that Triton compiles, where it holds one."""
    text = getattr(callee, "src", None)
    tree = ast.parse(text if isinstance(text, str) else textwrap.dedent(inspect.getsource(function.__code__))).body[0]
    if not isinstance(tree, ast.FunctionDef):
        raise _NotUnderstood
    return tree


def _bound_names(tree: ast.FunctionDef) -> set[str]:
    """All names that are given a value anywhere in a function."""
    bound: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) if not isinstance(node.ctx, ast.Load):
                bound.add(name)
            case ast.arg(arg=name):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) if node is not tree:
                bound.add(name)
            case ast.alias(name=name, asname=asname):
                bound.add((asname or name).partition(".")[0])
            case ast.ExceptHandler(name=str(name)):
                bound.add(name)
            case ast.match_case(pattern=pattern):
                bound.update(_captured(pattern))
    return bound


def _captured(pattern: ast.pattern) -> list[str]:
    """The names that a pattern gives values to."""
    names = [getattr(node, "name", None) or getattr(node, "rest", None) for node in ast.walk(pattern)]
    return [name for name in names if isinstance(name, str)]


def _passed(
    function: Any, given: tuple[list[Names], dict[str, Names]] | None, everything: Names
) -> dict[str, Names] | None:
    """By the names of parameters what is passed; everything to each where that is not told; None where it cannot be."""
    signature = _signature(function)
    if given is None:
        return dict.fromkeys(signature.parameters, everything)
    try:
        bound = signature.bind_partial(*given[0], **given[1]).arguments
    except TypeError:
        return None
    passed = dict.fromkeys(signature.parameters, NONE)
    for name, value in bound.items():
        several = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
        passed[name] = _union(several)
    return passed


def _signature(function: Any) -> inspect.Signature:
    """Of a function of the user's the one that its own source has, whatever it says that it wraps."""
    own = isinstance(function, FunctionType) and not (function.__module__ or "").startswith("triton.")
    return inspect.signature(function, follow_wrapped=not own)


def _attribute(owner: Any, name: str) -> Any:
    """Of a module, a class or a plain object; none of it is run for that."""
    if isinstance(owner, ModuleType):
        return getattr(owner, name, _UNKNOWN)
    if owner is _UNKNOWN:
        return _UNKNOWN
    found = inspect.getattr_static(owner, name, _UNKNOWN)
    if isinstance(found, staticmethod):
        return found.__func__
    method = isinstance(found, FunctionType) and not isinstance(owner, type) and name not in _own_names(owner)
    return _UNKNOWN if method or isinstance(found, property | classmethod) else found


def _own_names(owner: Any) -> Mapping[str, Any]:
    """What an object holds itself."""
    return getattr(owner, "__dict__", {})


def _is_plain(value: Any) -> bool:
    """Whether this is a number, a text or a type of the language, or some of these: nothing with effects of its own."""
    if type(value).__name__ == "constexpr":
        value = value.value
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    of_language = type(value).__module__.startswith("triton.language") and type(value).__name__.endswith("type")
    return value is None or of_language or isinstance(value, bool | int | float | complex | str | bytes)


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return _UNKNOWN


def _function_in(callee: Any) -> FunctionType | None:
    """The Python function of a jitted one."""
    for _ in range(8):
        if isinstance(callee, FunctionType) or callee is None:
            return callee
        callee = getattr(callee, "fn", None)
    return None


def _union(parts: Iterable[Names]) -> Names:
    return NONE.union(*parts)
