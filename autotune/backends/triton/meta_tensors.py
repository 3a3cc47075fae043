"""Tensors without memory: while `without_memory` lasts, everything that torch makes is on its "meta" device.

Such tensors have dtypes, shapes, strides and addresses, which is all that Triton's dispatcher looks at.

torch's own rules for them are written in Python, and their first use imports some 900 modules, a compiler and an
algebra system among them: over three seconds in which nothing is compiled yet (figures in docs/design/fake_driver.md).
Arguments of kernels are made with few functions: random numbers, tensors like others, arithmetic. For these only dtype
and shape matter, and the tables below tell how to find them without torch's rules. The dtype of arithmetic comes from
the function itself, called with tensors of one element on the CPU.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

_LIKE = frozenset({"empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "randint_like"})
"""Functions that make a tensor of the same shape as another."""

_FILLING = frozenset(
    {
        "normal_", "uniform_", "random_", "exponential_", "log_normal_", "bernoulli_", "fill_", "zero_", "copy_",
        "mul_", "add_", "sub_", "div_", "clamp_",
    }
)  # fmt: skip
"""Methods that change a tensor and return it."""

_BY_ELEMENT = frozenset(
    {
        "add", "sub", "mul", "div", "true_divide", "remainder", "fmod", "pow", "neg", "abs", "sign", "floor", "ceil",
        "round", "trunc", "exp", "exp2", "log", "log2", "sqrt", "rsqrt", "square", "reciprocal", "sin", "cos", "tanh",
        "sigmoid", "relu", "gelu", "silu", "clamp", "clip", "minimum", "maximum", "where", "masked_fill", "eq", "ne",
        "lt", "le", "gt", "ge", "logical_not", "logical_and", "logical_or", "bitwise_and", "bitwise_or", "bitwise_xor",
        "bitwise_not", "__eq__", "__rdiv__", "__rsub__", "__rpow__", "__floordiv__", "__rfloordiv__", "__lshift__",
        "__rshift__", "__and__", "__or__", "__xor__", "__invert__",
    }
)  # fmt: skip
"""Functions whose result takes each element from the same place of every tensor."""

_PLACEMENT = frozenset({"dtype", "device"})


@contextmanager
def without_memory() -> Iterator[None]:
    """While it lasts, tensors are made without memory, whatever device the code names, and claim to be on a GPU."""
    import torch
    from torch.overrides import TorchFunctionMode

    meta, cuda = torch.device("meta"), torch.device("cuda", 0)
    drawing = (torch.randn, torch.rand)

    def is_device(value: Any) -> bool:
        return isinstance(value, torch.device) or (
            isinstance(value, str) and value.partition(":")[0] in ("cuda", "cpu")
        )

    class WithoutMemory(TorchFunctionMode):  # type: ignore[misc]
        """torch's own way to see every call."""

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            of = getattr(function, "__self__", None)
            if function.__name__ == "__get__" and of in (torch.Tensor.device, torch.Tensor.is_cuda):
                return cuda if of is torch.Tensor.device else True
            if function is torch.Tensor.cuda:
                return args[0].to(meta)
            if function is torch.device:  # it is replaced where it is used
                return function(*args, **(kwargs or {}))
            moved = tuple(meta if is_device(value) else value for value in args)
            named = {n: meta if is_device(v) else v for n, v in (kwargs or {}).items()}
            if function in drawing:  # torch would import an algebra system for these
                function = torch.empty
                named = {n: v for n, v in named.items() if n not in ("generator", "pin_memory")}
            result = _infer_result(function, moved, named)
            return function(*moved, **named) if result is None else result

    with meta, WithoutMemory():
        yield


def _infer_result(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The result of a call, without memory; None where torch's own rules are needed."""
    name = getattr(function, "__name__", "")
    with suppress(Exception):  # torch says what is wrong with a call
        if name in _LIKE and kwargs.keys() <= _PLACEMENT:
            return _infer_like(args[0], kwargs.get("dtype"))
        if name == "randint" and kwargs.keys() <= _PLACEMENT | {"high", "size", "generator"}:
            return _infer_randint(args, kwargs)
        if name == "arange" and kwargs.keys() <= _PLACEMENT:
            return _infer_arange(args, kwargs.get("dtype"))
        if name in _FILLING:
            return args[0] if _is_contiguous_meta(args[0]) else None
        if name in _BY_ELEMENT and kwargs.keys() <= {"rounding_mode", "approximate", "min", "max", "alpha"}:
            return _infer_by_element(function, args, kwargs)
    return None


def _is_contiguous_meta(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.is_meta and value.is_contiguous()


def _empty(shape: Sequence[int], dtype: Any) -> Any:
    import torch

    return torch.empty(tuple(shape), dtype=dtype, device="meta")


def _infer_like(other: Any, dtype: Any) -> Any:
    return _empty(other.shape, dtype or other.dtype) if _is_contiguous_meta(other) else None


def _infer_randint(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    import torch

    size = kwargs["size"] if "size" in kwargs else args[-1]
    return _empty(size, kwargs.get("dtype") or torch.int64) if isinstance(size, tuple | list) else None


def _infer_arange(args: Sequence[Any], dtype: Any) -> Any:
    """Whole numbers only: the length of other ranges depends on rounding."""
    import torch

    if not all(type(one) is int for one in args):
        return None
    return _empty((len(range(*args)),), dtype or torch.int64)


def _infer_by_element(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    import torch

    tensors = [one for one in args if isinstance(one, torch.Tensor)]
    if not tensors or not all(map(_is_contiguous_meta, tensors)):
        return None
    if any(not isinstance(one, int | float | complex | str | torch.Tensor) for one in (*args, *kwargs.values())):
        return None
    probes = [
        torch.ones([1] * one.dim(), dtype=one.dtype, device="cpu") if isinstance(one, torch.Tensor) else one
        for one in args
    ]
    found = function(*probes, **kwargs)
    shape = np.broadcast_shapes(*(tuple(one.shape) for one in tensors))
    return _empty(shape, found.dtype) if found.dim() == len(shape) else None
