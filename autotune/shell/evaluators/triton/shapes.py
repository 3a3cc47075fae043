"""What torch's functions give for tensors without memory, where it can be told without torch's own account of it.

That account is written in Python, and its first use imports hundreds of modules, a compiler and an algebra system among
them, for seconds in which nothing is compiled yet. The arguments of kernels are made with few functions: random
numbers, others like them, arithmetic. Of these only dtype and shape are asked for; the dtype is found with tensors of
one element, on the CPU, by the function itself.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

ALIKE = frozenset({"empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "randint_like"})

FILLING = frozenset(
    {
        "normal_", "uniform_", "random_", "exponential_", "log_normal_", "bernoulli_", "fill_", "zero_", "copy_",
        "mul_", "add_", "sub_", "div_", "clamp_",
    }
)  # fmt: skip
"""Change a tensor and return it."""

BY_ELEMENT = frozenset(
    {
        "add", "sub", "mul", "div", "true_divide", "remainder", "fmod", "pow", "neg", "abs", "sign", "floor", "ceil",
        "round", "trunc", "exp", "exp2", "log", "log2", "sqrt", "rsqrt", "square", "reciprocal", "sin", "cos", "tanh",
        "sigmoid", "relu", "gelu", "silu", "clamp", "clip", "minimum", "maximum", "where", "masked_fill", "eq", "ne",
        "lt", "le", "gt", "ge", "logical_not", "logical_and", "logical_or", "bitwise_and", "bitwise_or", "bitwise_xor",
        "bitwise_not", "__eq__", "__rdiv__", "__rsub__", "__rpow__", "__floordiv__", "__rfloordiv__", "__lshift__",
        "__rshift__", "__and__", "__or__", "__xor__", "__invert__",
    }
)  # fmt: skip
"""Each element of the result comes from the same place of every tensor."""

PLAIN = frozenset({"dtype", "device"})


def lightly(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The result of a call, without memory; None where it has to be made in torch's own way."""
    name = getattr(function, "__name__", "")
    with suppress(Exception):  # it is torch that says what is wrong with a call
        if name in ALIKE and kwargs.keys() <= PLAIN:
            return _alike(args[0], kwargs.get("dtype"))
        if name == "randint" and kwargs.keys() <= PLAIN | {"high", "size", "generator"}:
            return _drawn(args, kwargs)
        if name == "arange" and kwargs.keys() <= PLAIN:
            return _counted(args, kwargs.get("dtype"))
        if name in FILLING:
            return args[0] if _lies_plainly(args[0]) else None
        if name in BY_ELEMENT and kwargs.keys() <= {"rounding_mode", "approximate", "min", "max", "alpha"}:
            return _by_element(function, args, kwargs)
    return None


def _lies_plainly(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.is_meta and value.is_contiguous()


def _made(shape: Sequence[int], dtype: Any) -> Any:
    import torch

    return torch.empty(tuple(shape), dtype=dtype, device="meta")


def _alike(other: Any, dtype: Any) -> Any:
    return _made(other.shape, dtype or other.dtype) if _lies_plainly(other) else None


def _drawn(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    import torch

    size = kwargs["size"] if "size" in kwargs else args[-1]
    return _made(size, kwargs.get("dtype") or torch.int64) if isinstance(size, tuple | list) else None


def _counted(args: Sequence[Any], dtype: Any) -> Any:
    """Of whole numbers only: with others it depends on how they are rounded."""
    import torch

    if not all(type(one) is int for one in args):
        return None
    return _made((len(range(*args)),), dtype or torch.int64)


def _by_element(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    import torch

    tensors = [one for one in args if isinstance(one, torch.Tensor)]
    if not tensors or not all(map(_lies_plainly, tensors)):
        return None
    if any(not isinstance(one, int | float | complex | str | torch.Tensor) for one in (*args, *kwargs.values())):
        return None
    probes = [
        torch.ones([1] * one.dim(), dtype=one.dtype, device="cpu") if isinstance(one, torch.Tensor) else one
        for one in args
    ]
    found = function(*probes, **kwargs)
    shape = np.broadcast_shapes(*(tuple(one.shape) for one in tensors))
    return _made(shape, found.dtype) if found.dim() == len(shape) else None
