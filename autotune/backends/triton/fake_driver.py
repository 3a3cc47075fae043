"""A GPU on paper: Triton's own dispatcher runs as on a real one, compiles, and launches nothing.

So what is compiled is what the process with the GPU will ask for, down to the hash: signatures, which integers are 1
or divisible by 16, alignments, options and their defaults are all decided by Triton's code, not by a copy of it.
Tensors are on torch's "meta" device, which has shapes, strides and addresses but no memory.

What torch's functions give for tensors without memory, where it can be told without torch's own account of it.

That account is written in Python, and its first use imports hundreds of modules, a compiler and an algebra system among
them, for seconds in which nothing is compiled yet. The arguments of kernels are made with few functions: random
numbers, others like them, arithmetic. Of these only dtype and shape are asked for; the dtype is found with tensors of
one element, on the CPU, by the function itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from autotune.backends.triton.messages import CompiledKernel
from autotune.backends.triton.resources import WARP, arch_of, resources

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


PLENTY = 1 << 30
"""Of what a device has: whether a kernel fits is decided by who asked, from its figures."""


class CompilerRefused(Exception):
    """Triton did not compile it; the cause is its own error."""


class Utilities:
    """The part of a driver that loads binaries and knows the device."""

    def __init__(self, load: Callable[[str, bytes], None]) -> None:
        self._load = load

    def get_device_properties(self, device: int) -> dict[str, int]:
        """A device that has enough of everything."""
        return {
            "max_shared_mem": PLENTY, "max_num_regs": 65536, "multiprocessor_count": 132, "warpSize": WARP,
            "sm_clock_rate": 1, "mem_clock_rate": 1, "mem_bus_width": 1,
        }  # fmt: skip

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> tuple[int, int, int, int, int]:
        """Module, function, registers, spills and threads; nothing is loaded."""
        self._load(name, binary)
        return 1, 1, 0, 0, PLENTY

    def unload_module(self, module: int) -> None:
        """Nothing was loaded."""


class FakeDriver:
    """What Triton takes for its driver. `launched` collects the figures of all that is launched."""

    def __init__(self, target: str) -> None:
        self.utils = Utilities(self._loaded)
        self.launched: list[CompiledKernel] = []
        self._arch = arch_of(target)
        self._metadata: Any = None
        self._figures: dict[str, CompiledKernel] = {}

    def get_current_target(self) -> Any:
        """What to compile for."""
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self._arch, WARP)

    def get_current_device(self) -> int:
        """The only one."""
        return 0

    def set_current_device(self, device: int) -> None:
        """There is only one."""

    def get_current_stream(self, device: int | None = None) -> int:
        """The default stream."""
        return 0

    def get_active_torch_device(self) -> Any:
        """What kernels' files ask for when they are imported."""
        import torch

        return torch.device("cuda", 0)

    def get_device_interface(self) -> Any:
        """As above."""
        import torch

        return torch.cuda

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        """A launcher that writes down what it is told to launch."""
        self._metadata = metadata

        def launch(*_: Any, **__: Any) -> None:
            self.launched.append(self._figures[metadata.hash])

        return launch

    def _loaded(self, name: str, binary: bytes) -> None:
        of, found = self._metadata, resources(binary, name)
        threads, blocks = of.num_warps * of.warp_size, getattr(of, "num_ctas", 1)
        registers, spilled = (None, None) if found is None else found
        self._figures[of.hash] = CompiledKernel(name, of.hash, of.shared, threads, registers, spilled, blocks)


def install(target: str) -> FakeDriver:
    """Make Triton compile for `target`, and tell its errors from those of the code around it."""
    import triton.compiler
    from triton.runtime.driver import driver

    paper = FakeDriver(target)
    driver.set_active(paper)
    compile_ = triton.compiler.compile
    if getattr(compile_, "by_autotune", False):
        return paper

    def compiled(*args: Any, **kwargs: Any) -> Any:
        try:
            return compile_(*args, **kwargs)
        except Exception as error:
            raise CompilerRefused from error

    compiled.by_autotune = True  # type: ignore[attr-defined]
    triton.compiler.compile = compiled
    return paper


@contextmanager
def no_memory() -> Iterator[None]:
    """While it lasts, tensors are made without memory, wherever the code says they should be."""
    import torch
    from torch.overrides import TorchFunctionMode

    meta, cuda = torch.device("meta"), torch.device("cuda", 0)
    drawn = (torch.randn, torch.rand)

    def is_device(value: Any) -> bool:
        return isinstance(value, torch.device) or (
            isinstance(value, str) and value.partition(":")[0] in ("cuda", "cpu")
        )

    class Meta(TorchFunctionMode):  # type: ignore[misc]
        """torch's own way to see every call."""

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            of = getattr(function, "__self__", None)
            if function.__name__ == "__get__" and of in (torch.Tensor.device, torch.Tensor.is_cuda):
                return cuda if of is torch.Tensor.device else True
            if function is torch.Tensor.cuda:
                return args[0].to(meta)
            moved = tuple(meta if is_device(value) else value for value in args)
            named = {n: meta if is_device(v) else v for n, v in (kwargs or {}).items()}
            if function in drawn:  # torch would import an algebra system for these, for half a second
                function = torch.empty
                named = {n: v for n, v in named.items() if n not in ("generator", "pin_memory")}
            made = lightly(function, moved, named)
            return function(*moved, **named) if made is None else made

    with meta, Meta():
        yield
