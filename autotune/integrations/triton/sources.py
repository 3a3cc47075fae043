"""What a kernel is known by: its text and that of the functions it calls, wherever they are, without their decorators.

Triton's own key counts the line that a kernel begins in; a result should outlive a line added above it.
"""

import inspect
import re
import textwrap
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from autotune.shell.cache.keys import digest_of
from autotune.shell.evaluators.triton.shipping import is_kernel


def kernel_digest(kernel: Any) -> str:
    """32 hexadecimal digits for a `@triton.jit` function: of its source, its helpers', and the constants they name."""
    parts: dict[str, Any] = {}
    todo: list[FunctionType] = [kernel.fn]
    while todo:
        function = todo.pop()
        name = f"{function.__module__}.{function.__qualname__}"
        if name in parts:
            continue
        used: dict[str, str] = {}
        for label, value in _used(function):
            inner = value.fn if is_kernel(value) else None
            if isinstance(inner, FunctionType):
                if not inner.__module__.startswith("triton."):
                    todo.append(inner)
            elif (plain := _plain(value)) is not None:
                used[label] = plain
        parts[name] = [source_text(function), used]
    return digest_of(parts)


def source_text(function: FunctionType) -> str:
    """Its source from the `def` on; the byte code where there is no source."""
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return function.__code__.co_code.hex()
    begins = re.search(r"^(async )?def\s", text, re.MULTILINE)
    return text if begins is None else text[begins.start() :]


def _used(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function names in its module, in modules named there, and around it."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    names = sorted(_names(function.__code__))
    for name in names:
        value = function.__globals__.get(name)
        if isinstance(value, ModuleType) and not value.__name__.startswith("triton"):
            for attribute in names:
                if attribute in vars(value):
                    yield f"{name}.{attribute}", vars(value)[attribute]
        elif name in function.__globals__:
            yield name, value


def _names(code: CodeType) -> set[str]:
    return set(code.co_names).union(*(_names(c) for c in code.co_consts if isinstance(c, CodeType)))


def _plain(value: Any) -> str | None:
    """The text of a constant, also in Triton's wrapping."""
    if type(value).__name__ == "constexpr":
        value = value.value
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    if isinstance(value, tuple):
        texts = [_plain(item) for item in value]
        return None if None in texts else repr(texts)
    return None
