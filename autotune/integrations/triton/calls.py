"""The arguments of a call, told apart as cheaply as can be: this is what every later call pays for.

Two keys: a raw one, exact and made in a microsecond or two, and a canonical one behind it, in which key arguments are
rounded to their buckets and strides to their classes. Many raw keys lead to one canonical key.
"""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, NamedTuple

from autotune.core.config import freeze
from autotune.integrations.triton.bucketing import Rule
from autotune.shell.cache.keys import Argument, Constant, Specialization, Tensor
from autotune.shell.cache.specializing import stride_class

PLAIN = frozenset({int, float, bool, str})


class Call(NamedTuple):
    """named: values of the kernel's parameters, defaults included. options: of the launch, as given at the call.

    given: names that the call sets; placed: those of them that it gives by position. canonical: what a tuning belongs
    to, hashable. device: where the tensors are, as torch says.
    """

    named: dict[str, Any]
    options: dict[str, Any]
    given: frozenset[str]
    canonical: tuple[Any, ...]
    device: Any
    placed: tuple[str, ...] = ()


class Calls:
    """Of one kernel. keys: the arguments that a tuning depends on by value, besides the kernel's constants."""

    def __init__(self, function: FunctionType, keys: Sequence[str], rules: Mapping[str, Rule]) -> None:
        parameters = inspect.signature(function).parameters
        self.names = tuple(parameters)
        self.constants = {name for name, one in parameters.items() if "constexpr" in _annotation(one)}
        self._defaults = {n: p.default for n, p in parameters.items() if p.default is not inspect.Parameter.empty}
        self._exact = {*keys, *self.constants}
        self.keys = tuple(keys)
        self._rules = dict(rules)
        self._plans: dict[Any, tuple[bool, ...]] = {}
        self._tensors: frozenset[type] = frozenset()

    def raw(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The exact values of key arguments and constants; dtype, strides and device of tensors."""
        shape: Any = len(args)
        if kwargs:
            shape = (shape, *kwargs)
            args = (*args, *kwargs.values())
        plan = self._plans.get(shape)
        if plan is None:
            plan = self._planned(shape)
        tensors, first = self._tensors, True
        key: list[Any] = [shape]
        for value, exact in zip(args, plan, strict=False):
            kind = type(value)
            if kind in tensors:
                key.append(value.dtype)
                key.append(value.is_contiguous() or value.stride())
                if first:
                    key.append(value.get_device())
                    first = False
                if exact:
                    key.append(value.shape)
            elif exact:
                key.append(value)
            elif kind not in PLAIN:
                key.append(_odd(value))
        return tuple(key)

    def bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """The call with its values by name, and its canonical key."""
        given = {**dict(zip(self.names, args, strict=False)), **kwargs}
        options = {name: value for name, value in given.items() if name not in self.names}
        named = {name: given[name] for name in self.names if name in given}
        device: Any = None
        parts: list[Any] = []
        for name, value in named.items():
            if is_tensor_like(value):
                device = getattr(value, "device", None) if device is None else device
                parts.append((name, _dtype(value), _strides(value)))
                if name in self._exact:
                    parts.append((name, "shape", tuple(value.shape)))
            elif name in self._exact:
                parts.append((name, *_hashable(self._rounded(name, value))))
            elif value is None or isinstance(value, tuple):
                parts.append((name, _odd(value)))
        parts += [(name, *_hashable(value)) for name, value in sorted(options.items())]
        complete = {name: named.get(name, self._defaults.get(name)) for name in self.names
                    if name in named or name in self._defaults}  # fmt: skip
        return Call(complete, options, frozenset(given), (str(device), *parts), device, self.names[: len(args)])

    def specialization(self, call: Call) -> Specialization:
        """The same as the canonical key for the cache on disk."""
        arguments: dict[str, Argument] = {}
        constants: dict[str, Any] = {}
        for name, value in {**call.named, **call.options}.items():
            if is_tensor_like(value):
                shape = tuple(int(n) for n in value.shape) if name in self._exact else ()
                arguments[name] = Tensor(shape, _dtype(value), _strides(value))
            elif name in self.keys:
                arguments[name] = Constant(_written(self._rounded(name, value)))
            elif name in self.constants or name in call.options:
                constants[name] = _written(value)
            elif value is None:
                arguments[name] = Constant(None)
        return Specialization(arguments, constants)

    def shown(self, call: Call) -> str:
        """The key in words, such as "M=4096, N=4096, x: float16"."""
        named = call.named
        values = [f"{name}={self._rounded(name, named[name])}" for name in self.keys
                  if name in named and not is_tensor_like(named[name])]  # fmt: skip
        dtypes = dict.fromkeys(_dtype(value) for value in named.values() if is_tensor_like(value))
        return ", ".join([*values, *dtypes])

    def _rounded(self, name: str, value: Any) -> Any:
        rule = self._rules.get(name)
        return value if rule is None else rule(value)

    def _planned(self, shape: Any) -> tuple[bool, ...]:
        """Which values of a call of this form count exactly; made once for each form."""
        torch = sys.modules.get("torch")
        if torch is not None:
            self._tensors = frozenset({torch.Tensor, torch.nn.Parameter})
        count, names = (shape, ()) if isinstance(shape, int) else (shape[0], shape[1:])
        by_name = (*self.names[:count], *names)
        plan = tuple(name in self._exact or name not in self.names for name in by_name)
        self._plans[shape] = plan
        return plan


def is_tensor_like(value: Any) -> bool:
    """Whether this has a dtype, shape and memory, as far as a kernel is concerned."""
    return hasattr(value, "dtype") and hasattr(value, "data_ptr")


def _annotation(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _odd(value: Any) -> Any:
    """What distinguishes any other argument: a kind of tensor, a descriptor, a tuple of numbers, None."""
    if value is None:
        return None
    if isinstance(value, tuple):
        return tuple(map(_odd, value))
    if is_tensor_like(value):
        return type(value), _dtype(value), _strides(value)
    return type(value)


def _dtype(value: Any) -> str:
    return str(value.dtype).rpartition(".")[2]


def _strides(value: Any) -> str:
    is_contiguous: Callable[[], bool] | None = getattr(value, "is_contiguous", None)
    if is_contiguous is None or is_contiguous():
        return "contiguous"
    return stride_class(tuple(map(int, value.shape)), tuple(map(int, value.stride())))


def _hashable(value: Any) -> tuple[str, Any]:
    """A value that can be looked up; 1 and True stay apart."""
    try:
        hash(value)
    except TypeError:
        value = repr(value)
    return type(value).__name__, value


def _written(value: Any) -> Any:
    """A constant as it is written into a key: as it is, or what it is called."""
    try:
        return freeze(value)
    except TypeError:
        inner = getattr(value, "fn", value)
        name = getattr(inner, "__qualname__", None)
        return f"{inner.__module__}.{name}" if isinstance(name, str) else str(value)
