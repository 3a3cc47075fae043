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
    values that it names or closes over. A function without a source file counts by its byte code. An object with a
    `cache_key` (Triton's JITFunction) or an inner `fn` is taken at its word. Raises CacheError for anything else.
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
        function, bound = _unwrapped(todo.pop())
        if id(function) not in seen:
            seen.add(id(function))
            parts.add((function.__qualname__, _text(function)))
        elif not bound:
            continue
        for name, item in [*bound, *_uses(function)]:
            if _is_helper(item, function):
                todo.append(item)
            elif (plain := _plain(item)) is not None:
                parts.add((f"{function.__qualname__}: {name}", plain))
    return parts


def _unwrapped(value: Any) -> tuple[FunctionType, list[tuple[str, Any]]]:
    """The Python function inside, and the values that are bound to it."""
    bound: list[tuple[str, Any]] = []
    for _ in range(16):
        if isinstance(value, functools.partial):
            bound += [(str(i), item) for i, item in enumerate(value.args)] + sorted(value.keywords.items())
            value = value.func
        elif inspect.ismethod(value):
            value = value.__func__
        elif isinstance(value, FunctionType):
            inner = inspect.unwrap(value)
            return (inner if isinstance(inner, FunctionType) else value), bound
        elif callable(getattr(value, "fn", None)):
            value = value.fn
        elif isinstance(method := getattr(type(value), "__call__", None), FunctionType):  # noqa: B004
            bound += sorted((name, item) for name, item in vars(value).items() if _plain(item) is not None)
            value = method
        else:
            break
    raise CacheError(f"{value!r:.80} has no Python source that a cache key could be made of; pass a key of your own")


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


def _is_helper(item: Any, user: FunctionType) -> bool:
    """A function of the user's own module; libraries are told apart by their versions."""
    inner = item if isinstance(item, FunctionType) else getattr(item, "fn", None)
    return isinstance(inner, FunctionType) and inner.__module__ == user.__module__


def _plain(item: Any) -> str | None:
    """The text of a plain value, None for anything else."""
    if item is None or isinstance(item, bool | int | float | str | bytes):
        return repr(item)
    if isinstance(item, tuple):  # a list may change while the program runs
        texts = [_plain(inner) for inner in item]
        return None if None in texts else f"({', '.join(text for text in texts if text is not None)})"
    return None
