"""The source of a kernel as a digest: a text, a Python function with all that it reaches, or a Triton kernel."""

import ast
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from types import CodeType, FunctionType, ModuleType
from typing import Any

from autotune.core.errors import CacheError
from autotune.core.identity import identity
from autotune.shell.cache.keys import digest_of
from autotune.shell.evaluators.triton.shipping import is_kernel

JIT_SETTINGS = ("do_not_specialize", "do_not_specialize_on_alignment", "debug", "noinline", "version")
"""What `@triton.jit` was told that decides what is compiled."""


def source_digest(source: str | Callable[..., Any]) -> str:
    """32 hexadecimal digits of a kernel's source: the text itself, or what a Python function reaches.

    A function counts with all that `core.identity` finds, Triton kernels by their source, tensors by their content. An
    object with a `cache_key` is taken at its word. Raises CacheError for what is no function, and for a function that
    reaches an object of which no digest can be made.
    """
    if isinstance(source, str):
        return digest_of(["text", source])
    known = stand_in(source)
    if known is not None:
        return digest_of(["key", *known])
    if not callable(source):
        raise CacheError(f"{source!r:.80} has no source that a cache key could be made of; pass a key of your own")
    return digest_of(["function", value_digest(source)])


def value_digest(value: Any) -> str:
    """32 hexadecimal digits of any value by its content; CacheError where a part of it has none."""
    found = identity(value, stand_in)
    if not found.portable:
        name = getattr(value, "__qualname__", type(value).__qualname__)
        raise CacheError(
            f"{name} reaches {found.opaque[0]}, of which no cache key can be made; hand that over as an argument, or "
            "pass a key of your own"
        )
    return found.digest


def code_digest(evaluator: object) -> str | None:
    """32 hexadecimal digits of the functions and kernels that an evaluator was given, by their code alone: what they
    close over counts by its type. None where it has none, or their code has no digest."""
    if not is_dataclass(evaluator) or isinstance(evaluator, type):
        return None
    parts = {one.name: getattr(evaluator, one.name) for one in fields(evaluator)}
    given = {name: part for name, part in parts.items() if callable(part) or is_kernel(part)}
    try:
        found = {name: identity(part, _kernels_alone, contents=False) for name, part in given.items()}
    except Exception:  # a foreign object may do anything when it is asked
        return None
    known = [(name, one.digest) for name, one in found.items() if one.portable]
    return digest_of(known) if known else None


def _kernels_alone(value: Any) -> Any:
    return ("kernel", kernel_digest(value)) if is_kernel(value) else None


def stand_in(value: Any) -> Any:
    """Plain data for what says more than its attributes: kernels, tensors, compiled functions; None for all else."""
    if isinstance(value, type | FunctionType | ModuleType):
        wrapped = value.__dict__.get("_torchdynamo_orig_callable")  # what torch.compile was given
        return None if wrapped is None else ("compiled", wrapped)
    if is_kernel(value):
        return "kernel", kernel_digest(value)
    kind = type(value)
    if hasattr(kind, "data_ptr") and hasattr(kind, "untyped_storage"):
        return "tensor", *tensor_content(value)
    key = function = None
    with suppress(Exception):  # a foreign object may do anything when it is asked
        key, function = getattr(value, "cache_key", None), getattr(value, "py_func", None)
    if isinstance(key, str):
        return "cache_key", key
    return ("compiled", kind.__qualname__, function) if isinstance(function, FunctionType) else None


def tensor_content(tensor: Any) -> tuple[str, tuple[int, ...], str, str]:
    """The dtype, shape, device and content of a tensor of torch; bits, whatever the dtype."""
    held = tensor.detach().resolve_conj().resolve_neg() if tensor.is_complex() else tensor.detach()
    data = held.cpu().contiguous().flatten()
    raw = data.view(_torch().uint8).numpy().tobytes() if data.numel() else b""
    return str(tensor.dtype), tuple(tensor.shape), str(tensor.device.type), blake2b(raw, digest_size=16).hexdigest()


def _torch() -> Any:
    import torch

    return torch


def kernel_digest(kernel: Any) -> str:
    """32 hexadecimal digits for a `@triton.jit` function: its source without comments, its helpers', what they name.

    Triton's own key counts the line that a kernel begins in; a result should outlive a line added above it.
    """
    places: dict[int, int] = {id(kernel): 0}
    todo, parts = [kernel], []
    while todo:
        one = todo.pop(0)
        used: list[Any] = []
        for label, value in _used(one.fn):
            if not _is_jitted(value):
                used.append((label, identity(_unwrapped(value), stand_in).digest))
            elif not value.fn.__module__.startswith("triton."):
                if id(value) not in places:
                    places[id(value)] = len(places)
                    todo.append(value)
                used.append((label, places[id(value)]))
        parts.append((one.fn.__qualname__, source_text(one), used, _settings(one)))
    return identity(parts).digest


def source_text(kernel: Any) -> str:
    """What Triton compiles, without comments and line breaks; of an interpreted kernel the digest of its byte code."""
    text = getattr(kernel, "src", None)
    if isinstance(text, str):
        with suppress(SyntaxError):
            return ast.unparse(ast.parse(text))
    return text if isinstance(text, str) else identity((kernel.fn.__code__, kernel.fn.__defaults__)).digest


def _settings(kernel: Any) -> list[tuple[str, str]]:
    given = {**getattr(kernel, "kwargs", {}), **vars(kernel)}
    return [(name, repr(given[name])) for name in JIT_SETTINGS if given.get(name)]


def _is_jitted(value: Any) -> bool:
    """Whether this is a kernel, or another function that Triton evaluates when it compiles one."""
    return is_kernel(value) or (
        type(value).__module__.startswith("triton.") and isinstance(getattr(value, "fn", None), FunctionType)
    )


def _unwrapped(value: Any) -> Any:
    """A constant out of Triton's wrapping."""
    return ("constexpr", value.value) if type(value).__name__ == "constexpr" else value


def _used(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function names in its module, in modules named there, and around it."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # not assigned yet
            yield name, cell.cell_contents
    names = sorted(_names(function.__code__))
    for name in names:
        value = function.__globals__.get(name)
        if isinstance(value, ModuleType):
            if not value.__name__.startswith("triton"):
                for attribute in names:
                    if attribute in vars(value):
                        yield f"{name}.{attribute}", vars(value)[attribute]
        elif name in function.__globals__:
            yield name, value


def _names(code: CodeType) -> set[str]:
    return set(code.co_names).union(*(_names(c) for c in code.co_consts if isinstance(c, CodeType)))
