"""The specialization of real arguments: tensors by shape, dtype and stride class, all else by value."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Any

import numpy as np

from autotune.core.errors import CacheError
from autotune.shell.cache.keys import Argument, Constant, Specialization, Tensor
from autotune.shell.cache.sources import source_digest

DIVISOR = 16
"""Strides that this divides are a class of their own: compilers vectorise on it."""


def specialization_of(
    args: Sequence[Any] | Mapping[str, Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    constants: Mapping[str, Any] | None = None,
) -> Specialization:
    """The specialization of a call, its positional arguments named "0", "1", … unless they come with names.

    A tensor is whatever has `shape` and `dtype`, and `stride()` in elements or `strides` in bytes. Lists, tuples and
    dicts are walked through; scalars of numpy count by value. Raises CacheError for a value that is no tensor and that
    JSON cannot hold.
    """
    named = args if isinstance(args, Mapping) else {str(i): value for i, value in enumerate(args)}
    arguments: dict[str, Argument] = {}
    for name, value in {**named, **(kwargs or {})}.items():
        _collect(str(name), value, arguments)
    plain: dict[str, Argument] = {}
    for name, value in (constants or {}).items():
        _collect(str(name), value, plain)
    return Specialization(arguments, {name: _constant(name, argument) for name, argument in plain.items()})


def _constant(name: str, argument: Argument) -> Any:
    if isinstance(argument, Tensor):
        raise CacheError(f"the constant {name} is a tensor, whose values are no part of a key; pass it as an argument")
    return argument.value


def _collect(name: str, value: Any, into: dict[str, Argument]) -> None:
    """The leaves of one argument."""
    if isinstance(value, np.generic):
        into[name] = Constant({str(value.dtype): str(value)})
    elif hasattr(value, "shape") and hasattr(value, "dtype"):
        into[name] = tensor_of(value)
    elif value is None or isinstance(value, bool | int | float | str):
        into[name] = Constant(written_number(value))
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


def written_number(value: Any) -> Any:
    """A number as JSON has it, one that JSON lacks as its text; a text that reads like one of those is marked."""
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, float) and not isfinite(value):
        return repr(float(value))
    if isinstance(value, str) and (value in ("nan", "inf", "-inf") or value.removeprefix("-").isdecimal()):
        return {"str": value}
    return value


def container_name(value: Any) -> str:
    """list, tuple, or the name of a named tuple with those of its fields."""
    fields = getattr(value, "_fields", None)
    return type(value).__name__ if fields is None else f"{type(value).__name__}({', '.join(fields)})"


def _written_name(key: Any) -> str:
    """The name of an entry of a dict, which neither dots nor names of other types can be mixed up with."""
    return key.replace("\\", "\\\\").replace(".", "\\.") if isinstance(key, str) else f"\\{key!r}"


def tensor_of(value: Any) -> Tensor:
    """Shape, dtype and stride class of an array of numpy, torch or anything alike."""
    shape = tuple(int(n) for n in value.shape)
    return Tensor(shape, str(value.dtype).rpartition(".")[2], stride_class(shape, _strides(value, shape)))


def _strides(value: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements; those of a contiguous array where it has none."""
    stride = getattr(value, "stride", None)
    if isinstance(stride, Callable):  # type: ignore[arg-type]
        return tuple(int(s) for s in stride())  # type: ignore[misc]
    strides = getattr(value, "strides", None)
    if strides is None:
        return contiguous_strides(shape)
    size = max(int(getattr(value, "itemsize", 1)), 1)
    return tuple(int(s) // size for s in strides)


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of an array without gaps, the last dimension next to itself in memory."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def stride_class(shape: Sequence[int], strides: Sequence[int]) -> str:
    """ "contiguous"; "dense:1,0" where the dimensions are only permuted; else a letter a dimension from the outermost.

    The letters: 0 broadcast, 1 next to each other, d divisible by 16, - backwards, s any other. Dimensions of one
    element do not count, as their stride is never used.
    """
    used = [i for i, n in enumerate(shape) if n > 1]
    if all(strides[i] == c for i, c in zip(used, _packed(shape, used), strict=True)):
        return "contiguous"
    order = sorted(used, key=lambda i: (-strides[i], i))
    if all(strides[i] == c for i, c in zip(order, _packed(shape, order), strict=True)):
        return "dense:" + ",".join(map(str, order))
    outermost = all(strides[a] >= strides[b] for a, b in pairwise(used))
    letters = "".join(_letter(strides[i]) if i in used else "." for i in range(len(shape)))
    return f"strided:{letters}" if outermost else f"strided:{letters}:{','.join(map(str, order))}"


def _packed(shape: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    return contiguous_strides([shape[i] for i in order])


def _letter(stride: int) -> str:
    if stride in (0, 1):
        return str(stride)
    return "-" if stride < 0 else "d" if stride % DIVISOR == 0 else "s"
