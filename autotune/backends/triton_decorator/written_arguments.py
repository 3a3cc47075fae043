"""The arguments that a kernel writes, and the arguments that it reads, by its source. Pure: no kernel runs for that.

Notation. The origins of a value are the names of the arguments that it comes from, and markers: it was loaded from
memory, it may be an object with methods of its own, it is a number that became an address.

Every name is followed back to its origins, without regard to the order of statements: the passes over a function end
when they find nothing new. A call of Triton's language is recognised by the function that is called, and its pointer by
the first parameter, however the call is spelled. Code that is not understood counts as writing and reading, so that the
result may name more arguments than are written, but not fewer, with one exception: an address that was itself loaded
from memory leads to where no argument does.
"""

import ast
import builtins
import inspect
import linecache
import textwrap
from collections.abc import Iterable, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any, Literal, NamedTuple

Names = frozenset[str]
"""Origins of a value: names of arguments, and the markers below."""
_NONE: Names = frozenset()

_LOADED = frozenset(("*loaded",))
"""The origin of a value that was loaded from memory."""
_OPAQUE = frozenset(("*opaque",))
"""The origin of a value that may be an object with methods of its own."""
_ADDRESS = frozenset(("*address",))
"""The origin of a number that became an address: it may lead to any argument."""

_DEPTH = 16
"""The depth of calls that are followed; deeper ones are not understood."""

_PURE = frozenset(
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
"""Functions of Triton's language, and methods of its values, that touch no memory (triton 3.6). New ones count as not
understood."""

_PURE_MODULES = ("triton.language.math", "triton.language.random", "triton.language.standard")
"""Modules whose functions touch no memory; nor do functions of any `libdevice`."""

_MEMORY: Mapping[str, Literal["read", "write"]] = {
    "load": "read", "load_tensor_descriptor": "read", "_experimental_descriptor_load": "read",
    "_experimental_descriptor_gather": "read",
    "store": "write", "store_tensor_descriptor": "write", "_experimental_descriptor_store": "write",
    "_experimental_descriptor_scatter": "write", "scatter": "write",
}  # fmt: skip
"""The effect of a function on its first parameter, whether that is called pointer, desc or self. A function whose name
begins with "atomic_" does both."""

_BUILTINS = frozenset(
    {
        "abs", "all", "any", "bool", "complex", "dict", "divmod", "enumerate", "float", "getattr", "hasattr", "int",
        "isinstance", "issubclass", "iter", "len", "list", "max", "min", "next", "pow", "print", "range", "repr",
        "reversed", "round", "set", "slice", "sorted", "str", "sum", "tuple", "type", "zip",
    }
)  # fmt: skip
"""Python's own functions that change nothing, and call nothing that could."""

_REACHING = frozenset({"eval", "exec", "globals", "locals", "vars", "setattr", "__import__"})
"""Python's own functions that may reach, or rebind, any name."""

_ABOUT = frozenset({"dtype", "element_ty", "shape", "type", "numel", "ndim"})
"""Attributes that describe a value, and do not lead to its memory."""

_UNKNOWN = object()
"""In place of an object that is not known before the kernel runs."""


class Effects(NamedTuple):
    """Names of arguments. stores, loads: for each address that is written or read, the arguments that it comes from.

    An address may lead anywhere if none of these arguments holds a tensor in a call.
    """

    written: Names
    read: Names
    stores: frozenset[Names] = frozenset()
    loads: frozenset[Names] = frozenset()


def find_effects(kernel: Any) -> Effects | None:
    """The effects of a kernel, jitted or not, on its arguments; None where its source is not understood."""
    function = _python_function(kernel)
    if function is None:
        return None
    try:
        names = frozenset(_signature(function).parameters)
        analysis = _Analysis()
        analysis.follow(kernel, function, {name: frozenset((name,)) for name in names}, _DEPTH)
        analysis.recording = True
        analysis.follow(kernel, function, {name: frozenset((name,)) for name in names}, _DEPTH)
    except (OSError, TypeError, ValueError, SyntaxError, RecursionError, _NotUnderstood):
        return None
    stores, loads = analysis.addresses(analysis.stores, names), analysis.addresses(analysis.loads, names)
    touched = analysis.touched & names
    return Effects(touched.union(*stores), touched.union(*loads), stores, loads)


class _NotUnderstood(Exception):
    """The source is no function, or uses names in a way that is not followed."""


class _Analysis:
    """The effects found so far of a kernel and everything that it calls.

    recording: whether effects are noted. They are noted only once the origins of names are known: before that, an
    address seems to come from nowhere.
    """

    def __init__(self) -> None:
        self.recording = False
        self.stores: set[Names] = set()
        self.loads: set[Names] = set()
        self.touched: Names = _NONE
        self._returned: dict[tuple[Any, ...], Names] = {}
        self._within: set[tuple[Any, ...]] = set()

    def addresses(self, given: Iterable[Names], names: Names) -> frozenset[Names]:
        """The arguments of each address: all of them where there is none, or where a number became an address."""
        return frozenset(one & names if one & names and not one & _ADDRESS else names for one in given)

    def follow(self, callee: Any, function: FunctionType, given: Mapping[str, Names], depth: int) -> Names:
        """Analyse a call with arguments of these origins; the origins of its result."""
        key = (self.recording, function, *sorted((name, tuple(sorted(origins))) for name, origins in given.items()))
        if key in self._returned:
            return self._returned[key]
        everything = _union(given.values())
        if depth == 0:
            self.note_touched(everything)
            return everything | _OPAQUE
        if key in self._within:  # this call is being analysed already
            return everything | _OPAQUE | _LOADED
        self._within.add(key)
        recording, self.recording = self.recording, False
        walk = _FunctionWalk(self, callee, function, given, depth)
        while walk.has_news():
            walk.pass_over()
        self.recording = recording
        if recording:
            walk.pass_over()
        self._within.discard(key)
        self._returned[key] = walk.returned
        return walk.returned

    def note_touched(self, names: Names) -> None:
        """These arguments may be written and read."""
        if self.recording:
            self.touched |= names

    def note_access(self, name: str, pointer: Names) -> bool:
        """Note the effect of a function of the language, or of a method, on an address; whether it accesses memory."""
        what = "both" if name.startswith("atomic_") else _MEMORY.get(name)
        if what is not None and self.recording:
            if what != "read":
                self.stores.add(pointer)
            if what != "write":
                self.loads.add(pointer)
        return what is not None


class _FunctionWalk(ast.NodeVisitor):
    """One function with arguments of certain origins. origins: of each name."""

    def __init__(
        self, analysis: _Analysis, callee: Any, function: FunctionType, given: Mapping[str, Names], depth: int
    ) -> None:
        self._analysis, self._depth = analysis, depth
        self._tree = _parse(callee, function)
        closed = {name: _cell_contents(cell) for name, cell in
                  zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)}  # fmt: skip
        self._scope: dict[str, Any] = {**vars(builtins), **function.__globals__, **closed}
        self._bound = _bound_names(self._tree)
        self._aliases: dict[str, Any] = {}
        self._aliases = self._find_aliases()
        self.origins: dict[str, Names] = dict(given)
        self.returned: Names = _NONE
        self._before: tuple[dict[str, Names], Names] | None = None

    def has_news(self) -> bool:
        """Whether the last pass has found anything new."""
        before, self._before = self._before, (dict(self.origins), self.returned)
        return before != self._before

    def pass_over(self) -> None:
        """Go through all statements once."""
        for statement in self._tree.body:
            self.visit(statement)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._assign_value(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._assign_value(node.target, node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._assign(node.target, self._origins_of(node.value) | self._origins_of(node.target))

    def visit_For(self, node: ast.For) -> None:
        self._assign(node.target, self._origins_of(node.iter))
        for statement in (*node.body, *node.orelse):
            self.visit(statement)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            origins = self._origins_of(item.context_expr)
            if item.optional_vars is not None:
                self._assign(item.optional_vars, origins)
        for statement in node.body:
            self.visit(statement)

    def visit_Match(self, node: ast.Match) -> None:
        origins = self._origins_of(node.subject)
        for case in node.cases:
            for name in _pattern_names(case.pattern):
                self._add_origins(name, origins)
            self.generic_visit(case)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            self.returned |= self._origins_of(node.value)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for one in node.names:
            if one.name == "*":
                raise _NotUnderstood
            self._add_origins((one.asname or one.name).partition(".")[0], _OPAQUE)

    visit_ImportFrom = visit_Import

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._add_origins(node.name, _OPAQUE)  # a call of it counts as writing all its arguments
        self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._add_origins(node.name, _OPAQUE)
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> None:
        raise _NotUnderstood

    visit_Nonlocal = visit_Global

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.expr):
            self._origins_of(node)
        else:
            super().generic_visit(node)

    def _assign_value(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
            plain = not any(isinstance(one, ast.Starred) for one in (*target.elts, *value.elts))
            if plain and len(target.elts) == len(value.elts):
                for one, its in zip(target.elts, value.elts, strict=True):
                    self._assign_value(one, its)
                return
        self._assign(target, self._origins_of(value))

    def _assign(self, target: ast.expr, origins: Names) -> None:
        for node in ast.walk(target):
            if isinstance(node, ast.Name):
                self._add_origins(node.id, origins)
            elif isinstance(node, ast.Call):
                self._origins_of(node)

    def _add_origins(self, name: str, origins: Names) -> None:
        self.origins[name] = self.origins.get(name, _NONE) | origins

    def _origins_of(self, node: ast.AST) -> Names:
        """The origins of the value of an expression; notes the effects of calls in it."""
        match node:
            case ast.Name(id=name):
                return self.origins.get(name, _NONE) | (
                    _NONE if name in self._bound else self._origins_of_constant(node)
                )
            case ast.Call():
                return self._visit_call(node)
            case ast.NamedExpr(target=target, value=value):
                origins = self._origins_of(value)
                self._assign(target, origins)
                return origins
            case ast.Constant():
                return _NONE
            case ast.Attribute(attr=attr, value=value):
                if self._evaluate(node) is not _UNKNOWN:
                    return self._origins_of_constant(node)
                origins = self._origins_of(value)
                return _NONE if attr in _ABOUT and not origins & _OPAQUE else origins
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                for one in node.generators:
                    self._assign(one.target, self._origins_of(one.iter))
                return _union(self._origins_of(child) for child in ast.iter_child_nodes(node))
            case _:
                return _union(self._origins_of(child) for child in ast.iter_child_nodes(node))

    def _origins_of_constant(self, node: ast.expr) -> Names:
        """The origins of a value that is known before the kernel runs."""
        value = self._evaluate(node)
        if type(value).__name__ == "pointer_type":
            return _ADDRESS
        return _NONE if _is_plain(value) else _OPAQUE

    def _visit_call(self, node: ast.Call) -> Names:
        given = [self._origins_of(one.value if isinstance(one, ast.Starred) else one) for one in node.args]
        named = {str(one.arg): self._origins_of(one.value) for one in node.keywords}
        everything = _union((*given, *named.values()))
        spread = any(isinstance(one, ast.Starred) for one in node.args) or any(one.arg is None for one in node.keywords)
        callee = self._evaluate(node.func)
        if callee is not _UNKNOWN:
            return self._visit_known_call(callee, None if spread else (given, named), everything)
        if isinstance(node.func, ast.Attribute):
            of = self._origins_of(node.func.value)
            if not of & _OPAQUE:
                if node.func.attr in _PURE:
                    return everything | of
                if self._analysis.note_access(node.func.attr, of):
                    return _LOADED
            everything |= of
        else:
            everything |= self._origins_of(node.func)
        self._analysis.note_touched(everything)
        return everything | _OPAQUE

    def _visit_known_call(
        self, callee: Any, given: tuple[list[Names], dict[str, Names]] | None, everything: Names
    ) -> Names:
        """A call of a function known before the kernel runs. given: None where the call unpacks a list or dict."""
        inner = None if isinstance(callee, MethodType) else _python_function(callee)
        name, module = getattr(inner or callee, "__name__", ""), getattr(inner or callee, "__module__", None) or ""
        if module == "triton" or module.startswith("triton."):
            if name == "pointer_type":
                return _ADDRESS
            if name in _PURE or module in _PURE_MODULES or module.endswith(".libdevice"):
                return everything
            passed = _bind_arguments(inner or callee, given, everything)
            if passed and self._analysis.note_access(name, next(iter(passed.values()))):
                return _LOADED
        elif inner is not None:
            passed = _bind_arguments(inner, given, everything)
            if passed is not None:
                return self._analysis.follow(callee, inner, passed, self._depth - 1)
        elif getattr(builtins, name, None) is callee:
            if name in _REACHING:
                raise _NotUnderstood
            if name in _BUILTINS:
                return everything
        self._analysis.note_touched(everything)
        return everything | _OPAQUE

    def _evaluate(self, node: ast.expr) -> Any:
        """The value of an expression, if it is known before the kernel runs."""
        match node:
            case ast.Name(id=name):
                if name in self._bound:
                    return self._aliases.get(name, _UNKNOWN)
                return self._scope.get(name, _UNKNOWN)
            case ast.Attribute(value=value, attr=attr):
                return _read_attribute(self._evaluate(value), attr)
            case ast.Call(func=ast.Name(id="getattr"), args=[of, ast.Constant(value=str(attr))], keywords=[]):
                return _UNKNOWN if "getattr" in self._bound else _read_attribute(self._evaluate(of), attr)
            case _:
                return _UNKNOWN

    def _find_aliases(self) -> dict[str, Any]:
        """Names that are bound once, to a function that is known before the kernel runs: `store = tl.store`."""
        counts: dict[str, int] = {}
        for node in ast.walk(self._tree):
            match node:
                case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                    counts[name] = counts.get(name, 0) + 1
        found: dict[str, Any] = {}
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                value = self._evaluate(node.value)
                if counts[node.targets[0].id] == 1 and value is not _UNKNOWN and _python_function(value) is not None:
                    found[node.targets[0].id] = value
        return found


def _parse(callee: Any, function: FunctionType) -> ast.FunctionDef:
    """The syntax tree of a function: of the text that Triton compiles, where the kernel holds one."""
    text = getattr(callee, "src", None)
    tree = ast.parse(text if isinstance(text, str) else textwrap.dedent(_source(function))).body[0]
    if not isinstance(tree, ast.FunctionDef):
        raise _NotUnderstood
    return tree


def _source(function: FunctionType) -> str:
    """`inspect.getsource`, without its search through all modules of the program, which takes a millisecond for each
    hundred of them."""
    code = function.__code__
    lines = linecache.getlines(code.co_filename, function.__globals__)
    if not lines:
        return inspect.getsource(code)
    return "".join(inspect.getblock(lines[code.co_firstlineno - 1 :]))


def _bound_names(tree: ast.FunctionDef) -> set[str]:
    """All names that a function binds anywhere."""
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
                bound.update(_pattern_names(pattern))
    return bound


def _pattern_names(pattern: ast.pattern) -> list[str]:
    """The names that a pattern binds."""
    names = [getattr(node, "name", None) or getattr(node, "rest", None) for node in ast.walk(pattern)]
    return [name for name in names if isinstance(name, str)]


def _bind_arguments(
    function: Any, given: tuple[list[Names], dict[str, Names]] | None, everything: Names
) -> dict[str, Names] | None:
    """The origins of each parameter's value, by name; None where the call does not fit the function. given: None where
    it is not known which argument goes where: every parameter may then have everything."""
    signature = _signature(function)
    if given is None:
        return dict.fromkeys(signature.parameters, everything)
    try:
        bound = signature.bind_partial(*given[0], **given[1]).arguments
    except TypeError:
        return None
    passed = dict.fromkeys(signature.parameters, _NONE)
    for name, value in bound.items():
        several = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
        passed[name] = _union(several)
    return passed


def _signature(function: Any) -> inspect.Signature:
    """The signature; of a user's function by its own source, even if it claims to wrap another one."""
    own = isinstance(function, FunctionType) and not (function.__module__ or "").startswith("triton.")
    return inspect.signature(function, follow_wrapped=not own)


def _read_attribute(owner: Any, name: str) -> Any:
    """An attribute of a module, a class or a plain object, without running any of its code."""
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
    """The attributes of an object itself, not of its class."""
    return getattr(owner, "__dict__", {})


def _is_plain(value: Any) -> bool:
    """Whether this is a number, a text, a type of the language, or a tuple or list of these."""
    if type(value).__name__ == "constexpr":
        value = value.value
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    of_language = type(value).__module__.startswith("triton.language") and type(value).__name__.endswith("type")
    return value is None or of_language or isinstance(value, bool | int | float | complex | str | bytes)


def _cell_contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return _UNKNOWN


def _python_function(callee: Any) -> FunctionType | None:
    """The Python function of a jitted one; None for other objects."""
    for _ in range(8):
        if isinstance(callee, FunctionType) or callee is None:
            return callee
        callee = getattr(callee, "fn", None)
    return None


def _union(parts: Iterable[Names]) -> Names:
    return _NONE.union(*parts)
