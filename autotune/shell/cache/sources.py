"""Digests of kernels and of values, and the specialization of arguments: the parts of a cache key.

A kernel's digest covers its text, or the Python function with everything that it reaches, or a Triton kernel with its
helpers. Arguments are specialised as Triton does: tensors by shape, dtype and class of strides, all else by value.
"""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from itertools import pairwise
from math import isfinite
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from autotune.core.errors import CacheError
from autotune.core.identity import identify
from autotune.shell.cache.keys import Argument, Constant, Specialization, Tensor, compute_digest

_JIT_SETTINGS = ("do_not_specialize", "do_not_specialize_on_alignment", "debug", "noinline", "version")
"""Arguments of `@triton.jit` that change the compiled code."""


def source_digest(source: str | Callable[..., Any]) -> str:
    """32 hexadecimal digits of a kernel's source: the text itself, or all that a Python function reaches.

    A function counts with everything that `core.identity` finds, Triton kernels by their source, tensors by their
    content, an object with a `cache_key` by that. Raises CacheError for a value that is not callable, and for a
    function that reaches an object without a digest.
    """
    if isinstance(source, str):
        return compute_digest(["text", source])
    known = replace_known(source)
    if known is not None:
        return compute_digest(["key", *known])
    if not callable(source):
        raise CacheError(f"{source!r:.80} has no source that a cache key could be made of; pass a key of your own")
    return compute_digest(["function", value_digest(source)])


def value_digest(value: Any) -> str:
    """32 hexadecimal digits of any value by its content; raises CacheError if a part of it has no digest."""
    found = identify(value, replace_known)
    if not found.portable:
        name = getattr(value, "__qualname__", type(value).__qualname__)
        raise CacheError(
            f"{name} reaches {found.opaque[0]}, of which no cache key can be made; hand that over as an argument, or "
            "pass a key of your own"
        )
    return found.digest


def code_digest(evaluator: object) -> str | None:
    """32 hexadecimal digits of the functions and kernels among the fields of an evaluator, by their code alone: values
    in their closures count by their types. None if there are none, or their code has no digest."""
    if not is_dataclass(evaluator) or isinstance(evaluator, type):
        return None
    parts = {one.name: getattr(evaluator, one.name) for one in fields(evaluator)}
    given = {name: part for name, part in parts.items() if callable(part) or is_triton_kernel(part)}
    try:
        found = {name: identify(part, _kernels_alone, contents=False) for name, part in given.items()}
    except Exception:  # a foreign object may raise anything
        return None
    known = [(name, one.digest) for name, one in found.items() if one.portable]
    return compute_digest(known) if known else None


def _kernels_alone(value: Any) -> Any:
    return ("kernel", kernel_digest(value)) if is_triton_kernel(value) else None


def replace_known(value: Any) -> Any:
    """Plain data that stands for a kernel, a tensor or a compiled function in a digest; None for other values."""
    if isinstance(value, type | FunctionType | ModuleType):
        wrapped = value.__dict__.get("_torchdynamo_orig_callable")  # the argument of torch.compile
        return None if wrapped is None else ("compiled", wrapped)
    if is_triton_kernel(value):
        return "kernel", kernel_digest(value)
    kind = type(value)
    if hasattr(kind, "data_ptr") and hasattr(kind, "untyped_storage"):
        return "tensor", *tensor_content(value)
    key = function = None
    with suppress(Exception):  # a foreign object may raise anything
        key, function = getattr(value, "cache_key", None), getattr(value, "py_func", None)
    if isinstance(key, str):
        return "cache_key", key
    return ("compiled", kind.__qualname__, function) if isinstance(function, FunctionType) else None


def tensor_content(tensor: Any) -> tuple[str, tuple[int, ...], str, str]:
    """The dtype, shape, kind of device and digest of the bits of a torch tensor."""
    import torch

    held = tensor.detach().resolve_conj().resolve_neg() if tensor.is_complex() else tensor.detach()
    data = held.cpu().contiguous().flatten()
    raw = data.view(torch.uint8).numpy().tobytes() if data.numel() else b""
    return str(tensor.dtype), tuple(tensor.shape), str(tensor.device.type), blake2b(raw, digest_size=16).hexdigest()


def kernel_digest(kernel: Any) -> str:
    """32 hexadecimal digits of a `@triton.jit` function: its source without comments, its helpers, the values they
    name.

    Triton's own key counts the line in which a kernel begins; a result should outlive a line added above it.
    """
    places: dict[int, int] = {id(kernel): 0}
    todo, parts = [kernel], []
    while todo:
        one = todo.pop(0)
        used: list[Any] = []
        for label, value in _list_used_values(one.fn):
            if not _is_compiled_function(value):
                used.append((label, identify(_unwrap(value), replace_known).digest))
            elif not value.fn.__module__.startswith("triton."):
                if id(value) not in places:
                    places[id(value)] = len(places)
                    todo.append(value)
                used.append((label, places[id(value)]))
        parts.append((one.fn.__qualname__, source_text(one), used, _settings(one)))
    return identify(parts).digest


def source_text(kernel: Any) -> str:
    """The source that Triton compiles, without comments and line breaks; a digest of an interpreted kernel's code."""
    text = getattr(kernel, "src", None)
    if isinstance(text, str):
        with suppress(SyntaxError):
            return ast.unparse(ast.parse(text))
    return text if isinstance(text, str) else identify((kernel.fn.__code__, kernel.fn.__defaults__)).digest


def _settings(kernel: Any) -> list[tuple[str, str]]:
    given = {**getattr(kernel, "kwargs", {}), **vars(kernel)}
    return [(name, repr(given[name])) for name in _JIT_SETTINGS if given.get(name)]


def _is_compiled_function(value: Any) -> bool:
    """Whether this is a kernel, or another function that Triton evaluates while it compiles one."""
    return is_triton_kernel(value) or (
        type(value).__module__.startswith("triton.") and isinstance(getattr(value, "fn", None), FunctionType)
    )


def _unwrap(value: Any) -> Any:
    """The value of a `tl.constexpr`; other values as they are."""
    return ("constexpr", value.value) if type(value).__name__ == "constexpr" else value


def _list_used_values(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The values that a function names: in its closure, in its module, and in modules that it names."""
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


_DIVISOR = 16
"""Strides that are multiples of it form a class: Triton specialises on it, to vectorise."""


def specialization_of(args: Sequence[Any] | Mapping[str, Any]) -> Specialization:
    """The specialization of a call, its positional arguments named "0", "1", … unless they come with names.

    A tensor is any object with `shape` and `dtype`, and `stride()` in elements or `strides` in bytes. Lists, tuples and
    dicts are traversed; scalars of numpy count by value. Raises CacheError for a value that is neither a tensor nor
    representable in JSON.
    """
    named = args if isinstance(args, Mapping) else {str(i): value for i, value in enumerate(args)}
    arguments: dict[str, Argument] = {}
    for name, value in named.items():
        _collect(str(name), value, arguments)
    return Specialization(arguments)


def _collect(name: str, value: Any, into: dict[str, Argument]) -> None:
    """Put the leaves of one argument into a dict, by their dotted names."""
    if isinstance(value, np.generic):
        into[name] = Constant({str(value.dtype): str(value)})
    elif hasattr(value, "shape") and hasattr(value, "dtype"):
        into[name] = tensor_of(value)
    elif value is None or isinstance(value, bool | int | float | str):
        into[name] = Constant(jsonable_number(value))
    elif isinstance(value, list | tuple):
        into[name] = Constant({container_name(value): len(value)})
        for i, item in enumerate(value):
            _collect(f"{name}.{i}", item, into)
    elif isinstance(value, Mapping):
        into[name] = Constant({"dict": len(value)})
        for key, item in value.items():
            _collect(f"{name}.{_written_name(key)}", item, into)
    elif isinstance(value, Callable):  # type: ignore[arg-type]
        into[name] = Constant(source_digest(value))
    else:
        raise CacheError(
            f"the argument {name} is of type {type(value).__name__}, of which no cache key can be made; "
            "pass a key of your own"
        )


def jsonable_number(value: Any) -> Any:
    """A value as JSON can hold it: numbers that JSON lacks as texts, and texts that read like these marked."""
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, float) and not isfinite(value):
        return repr(float(value))
    if isinstance(value, str) and (value in ("nan", "inf", "-inf") or value.removeprefix("-").isdecimal()):
        return {"str": value}
    return value


def container_name(value: Any) -> str:
    """The type of a list or tuple by name, with the fields of a named tuple."""
    fields = getattr(value, "_fields", None)
    return type(value).__name__ if fields is None else f"{type(value).__name__}({', '.join(fields)})"


def _written_name(key: Any) -> str:
    """The name of an entry of a dict, with dots escaped, so that no other name is the same."""
    return key.replace("\\", "\\\\").replace(".", "\\.") if isinstance(key, str) else f"\\{key!r}"


def tensor_of(value: Any) -> Tensor:
    """Shape, dtype and stride class of an array of numpy, torch or a similar library."""
    shape = tuple(int(n) for n in value.shape)
    return Tensor(shape, str(value.dtype).rpartition(".")[2], stride_class(shape, _strides(value, shape)))


def _strides(value: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements; an object without strides counts as a contiguous array."""
    stride = getattr(value, "stride", None)
    if isinstance(stride, Callable):  # type: ignore[arg-type]
        return tuple(int(s) for s in stride())  # type: ignore[misc]
    strides = getattr(value, "strides", None)
    if strides is None:
        return contiguous_strides(shape)
    size = max(int(getattr(value, "itemsize", 1)), 1)
    return tuple(int(s) // size for s in strides)


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a row-major array without gaps."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def stride_class(shape: Sequence[int], strides: Sequence[int]) -> str:
    """ "contiguous"; "dense:1,0" if the dimensions are only permuted; else a letter for each dimension.

    The letters: 0 broadcast, 1 adjacent, d divisible by 16, - backwards, s any other stride, . one element, whose
    stride is never used. The order of the dimensions follows if the strides do not fall.
    """
    used = [i for i, n in enumerate(shape) if n > 1]
    if all(strides[i] == c for i, c in zip(used, _packed_strides(shape, used), strict=True)):
        return "contiguous"
    order = sorted(used, key=lambda i: (-strides[i], i))
    if all(strides[i] == c for i, c in zip(order, _packed_strides(shape, order), strict=True)):
        return "dense:" + ",".join(map(str, order))
    outermost = all(strides[a] >= strides[b] for a, b in pairwise(used))
    letters = "".join(_letter(strides[i]) if i in used else "." for i in range(len(shape)))
    return f"strided:{letters}" if outermost else f"strided:{letters}:{','.join(map(str, order))}"


def _packed_strides(shape: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    return contiguous_strides([shape[i] for i in order])


def _letter(stride: int) -> str:
    if stride in (0, 1):
        return str(stride)
    return "-" if stride < 0 else "d" if stride % _DIVISOR == 0 else "s"


def is_triton_kernel(value: Any) -> bool:
    """Whether this is a function of `@triton.jit` or `@gluon.jit`, compiled or interpreted. Nothing is imported."""
    return any(
        kind.__name__ in ("JITFunction", "InterpretedFunction") and kind.__module__.startswith("triton.")
        for kind in type(value).__mro__
    )
