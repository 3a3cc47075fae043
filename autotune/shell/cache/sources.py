"""The source of a kernel as a digest: its own text, and that of the functions and constants it uses from its module."""

import builtins
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

from autotune.core.errors import CacheError
from autotune.shell.cache.keys import digest_of


def source_digest(source: str | Callable[..., Any]) -> str:
    """32 hexadecimal digits of a kernel's source: the text itself, or what a Python function and its helpers say.

    Helpers are the functions of the same module that it names, directly or through others; constants are the plain
    values that it names or closes over. A function without a source file counts by its byte code, one that was not
    written in Python by its name. An object with a `cache_key` (Triton's JITFunction) is taken at its word. Raises
    CacheError for what has neither source nor name.
    """
    if isinstance(source, str):
        return digest_of(["text", source])
    ready = getattr(source, "cache_key", None)
    if isinstance(ready, str):
        return digest_of(["key", ready])
    return digest_of(["function", sorted(_parts(source))])


def _parts(source: Any) -> set[tuple[str, str]]:
    """(name, text) of a function, its helpers and the values they use."""
    parts: set[tuple[str, str]] = set()
    seen: set[int] = set()
    todo = [source]
    while todo:
        value, bound = _unwrapped(todo.pop())
        name = _named(value)
        parts |= {(f"{name}: {used}", plain) for used, item in bound if (plain := _plain(item)) is not None}
        if id(value) in seen:
            continue
        seen.add(id(value))
        if not isinstance(value, FunctionType):
            parts.add((name, "not written in Python"))
            continue
        parts.add((name, _text(value)))
        for used, item in _uses(value):
            if _is_helper(item, value):
                todo.append(item)
            elif (plain := _plain(item)) is not None:
                parts.add((f"{name}: {used}", plain))
        todo += [item for _, item in bound if _is_helper(item, value)]
    return parts


def _named(value: Any) -> str:
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if isinstance(name, str):
        return f"{getattr(value, '__module__', None) or type(value).__module__}.{name}"
    raise CacheError(f"{value!r:.80} has no source that a cache key could be made of; pass a key of your own")


def _unwrapped(value: Any) -> tuple[Any, list[tuple[str, Any]]]:
    """The function inside, and the values that are bound to it."""
    bound: list[tuple[str, Any]] = []
    for _ in range(16):
        if isinstance(value, functools.partial):
            bound += [(str(i), item) for i, item in enumerate(value.args)] + sorted(value.keywords.items())
            value = value.func
        elif inspect.ismethod(value):
            bound += _attributes(value.__self__)
            value = value.__func__
        elif isinstance(value, FunctionType):
            inner = inspect.unwrap(value)
            return (inner if isinstance(inner, FunctionType) else value), bound
        elif (inner := _inner(value)) is not None:
            value = inner
        elif isinstance(method := getattr(type(value), "__call__", None), FunctionType):  # noqa: B004
            bound += _attributes(value)
            value = method
        else:
            break
    return value, bound


def _inner(value: Any) -> FunctionType | None:
    """The Python function that a compiler's object was made of, where it keeps it."""
    if isinstance(value, FunctionType):
        return value
    for name in ("fn", "py_func", "__wrapped__"):
        found = getattr(value, name, None)
        if isinstance(found, FunctionType):
            return found
    return None


def _attributes(owner: Any) -> list[tuple[str, Any]]:
    return sorted((name, item) for name, item in getattr(owner, "__dict__", {}).items() if _plain(item) is not None)


def _text(function: FunctionType) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return _code_text(function.__code__)


def _code_text(code: CodeType) -> str:
    """Byte code and what it names, without line numbers."""
    constants = [_code_text(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return repr((code.co_code.hex(), constants, code.co_names, code.co_varnames))


def _uses(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The values that a function closes over, has as defaults, or names in its module."""
    closure = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, closure, strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__ and not hasattr(builtins, name):
            yield name, function.__globals__[name]


def _names(code: CodeType) -> set[str]:
    inner = [_names(c) for c in code.co_consts if isinstance(c, CodeType)]
    return set(code.co_names).union(*inner)


def _is_helper(item: Any, user: Any) -> bool:
    """A function of the user's own module; libraries are told apart by their versions."""
    inner = _inner(item)
    return inner is not None and inner.__module__ == getattr(user, "__module__", None)


def _plain(item: Any) -> str | None:
    """The text of a plain value, None for anything else."""
    if item is None or isinstance(item, bool | int | float | str | bytes):
        return repr(item)
    if isinstance(item, tuple):  # a list may change while the program runs
        texts = [_plain(inner) for inner in item]
        return None if None in texts else f"({', '.join(text for text in texts if text is not None)})"
    return None
