"""The keys of a call: this is the cost that a tuned kernel adds to every launch.

Two keys: a raw one, exact and made in a microsecond or two, and a canonical one behind it, in which key arguments are
rounded to their buckets and strides to their classes. Many raw keys lead to one canonical key.

Everything that decides the binary is in both, and in the key on disk: the values of keys and constants; dtype, class
of strides and alignment of tensors, also of those in tuples and descriptors; the type of any other number, and whether
it is 1 or divisible by 16, as Triton compiles for these.

Buckets, which round key arguments, are at the end of the file.
"""

import inspect
import sys
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from types import FunctionType
from typing import Any, Literal, NamedTuple

from autotune.core.errors import PlanError
from autotune.core.identity import identify
from autotune.shell.cache.keys import ALIGNMENT, TYPE, Argument, Constant, Specialization, Tensor
from autotune.shell.cache.sources import (
    container_name,
    is_triton_kernel,
    jsonable_number,
    replace_known,
    source_digest,
    stride_class,
    value_digest,
)

Bucket = Literal["power_of_two"] | Sequence[int] | Callable[[Any], Any]
Buckets = Bucket | Mapping[str, Bucket]
"""Which values of a key argument share one tuning; for all arguments, or by name."""

Rule = Callable[[Any], Any]
"""Rounds the value of a key argument."""

_ALIGNMENT = 16
"""Triton compiles other code for pointers, and for whole numbers, that this divides."""

_LOW, _HIGH = -(2**31), 2**31
"""Whole numbers from _LOW on, below _HIGH, are passed in 32 bits."""


class Call(NamedTuple):
    """One call, with its arguments by name.

    named: values of the kernel's parameters, defaults included. options: of the launch, as given at the call. given:
    names that the call sets. placed: those of them that it gives by position. canonical: the canonical key. device: of
    the tensors, as torch has it.
    """

    named: dict[str, Any]
    options: dict[str, Any]
    given: frozenset[str]
    canonical: tuple[Any, ...]
    device: Any
    placed: tuple[str, ...] = ()


class Calls:
    """Reads the calls of one kernel. keys: the arguments on whose values a tuning depends, besides the kernel's
    constants. rules: how to round them, by name. unspecialised: the numbers for whose values Triton is told not to
    compile, by name.
    """

    def __init__(
        self, function: FunctionType, keys: Sequence[str], rules: Mapping[str, Rule], unspecialised: Sequence[str] = ()
    ) -> None:
        parameters = inspect.signature(function).parameters
        self.names = tuple(parameters)
        self.constants = {name for name, one in parameters.items() if "constexpr" in _annotation(one)}
        self._defaults = {n: p.default for n, p in parameters.items() if p.default is not inspect.Parameter.empty}
        self._exact = {*keys, *self.constants}
        self.keys = tuple(keys)
        self._rules = dict(rules)
        self._unspecialised = frozenset(unspecialised)
        self._plans: dict[Any, tuple[bool, ...]] = {}
        self._tensors: frozenset[type] = frozenset()

    def raw_key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The exact key: values of key arguments and constants; dtype, strides, alignment and device of tensors; the
        kind of the others. Equal only for calls with one canonical key.

        The most frequent cases are written out here, shorter than in `value_key` and `kind_key`: a truth value as a
        tuple of one, as it equals a number; a whole number as 2 where it is 1, else as whether 16 divides it.
        """
        shape: Any = len(args)
        if kwargs:
            shape = (shape, *kwargs)
            args = (*args, *kwargs.values())
        plan = self._plans.get(shape)
        if plan is None:
            plan = self._plan_form(shape)
        tensors, first = self._tensors, True
        key: list[Any] = [shape]
        add = key.append
        for value, exact in zip(args, plan, strict=False):
            kind = type(value)
            if kind is int:
                if exact:
                    add(value)
                else:
                    add(kind_key(value) if value >> 31 else 2 if value == 1 else not value & 15)
            elif kind in tensors:
                add((value.dtype, value.is_contiguous() or value.stride(), value.data_ptr() & 15))
                if first:
                    add(value.get_device())
                    first = False
                if exact:
                    add(value.shape)
            elif exact:
                add(value if kind is str else (value,) if kind is bool else value_key(value))
            else:
                add(kind_key(value))
        return tuple(key)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """The call with its values by name, and its canonical key."""
        given = {**dict(zip(self.names, args, strict=False)), **kwargs}
        options = {name: value for name, value in given.items() if name not in self.names}
        named = {name: given[name] for name in self.names if name in given}
        tensors = [value for value in named.values() if _is_tensor_like(value)]
        device = next((found for value in tensors if (found := getattr(value, "device", None)) is not None), None)
        complete = {name: named.get(name, self._defaults.get(name)) for name in self.names
                    if name in named or name in self._defaults}  # fmt: skip
        parts = [(name, self._trait(name, value)) for name, value in complete.items()]
        parts += [(name, value_key(value)) for name, value in sorted(options.items())]
        return Call(complete, options, frozenset(given), (str(device), *parts), device, self.names[: len(args)])

    def specialization(self, call: Call) -> Specialization:
        """The canonical key as the cache on disk has it."""
        arguments: dict[str, Argument] = {}
        constants: dict[str, Any] = {}
        for name, value in {**call.named, **call.options}.items():
            by_its_value = name in self._exact or name in call.options
            if by_its_value and name not in self.keys and not _is_tensor_like(value):
                constants[name] = _to_json(value)
            elif by_its_value and not _is_tensor_like(value):
                arguments[name] = Constant(_to_json(self._round(name, value)))
            else:
                shape = tuple(int(n) for n in value.shape) if by_its_value else ()
                _write(name, self._kind(name, value), value, shape, arguments)
        return Specialization(arguments, constants)

    def named_values(self, call: Call) -> tuple[Any, ...]:
        """The part of the canonical key that its user has named, and the dtypes of all tensors: keys that agree in it
        are much alike."""
        traits = [(name, self._trait(name, call.named[name])) for name in self.keys if name in call.named]
        dtypes = sorted({_dtype(value) for value in call.named.values() if _is_tensor_like(value)})
        return (str(call.device), *traits, *dtypes)

    def describe(self, call: Call) -> str:
        """The key for people, such as "M=4096, N=4096, float16"."""
        named = call.named
        values = [f"{name}={self._round(name, named[name])}" for name in self.keys
                  if name in named and not _is_tensor_like(named[name])]  # fmt: skip
        dtypes = dict.fromkeys(_dtype(value) for value in named.values() if _is_tensor_like(value))
        return ", ".join([*values, *dtypes])

    def _trait(self, name: str, value: Any) -> Any:
        """An argument as a part of the canonical key."""
        if name not in self._exact:
            return self._kind(name, value)
        if _is_tensor_like(value):
            return kind_key(value), tuple(value.shape)
        return value_key(self._round(name, value))

    def _kind(self, name: str, value: Any) -> Any:
        kind = kind_key(value)
        return kind.partition(",")[0] if name in self._unspecialised and isinstance(kind, str) else kind

    def _round(self, name: str, value: Any) -> Any:
        rule = self._rules.get(name)
        return value if rule is None else rule(value)

    def _plan_form(self, shape: Any) -> tuple[bool, ...]:
        """Which arguments of a call of this form count by value; computed once for each form."""
        torch = sys.modules.get("torch")
        if torch is not None:
            self._tensors = frozenset({torch.Tensor, torch.nn.Parameter})
        count, names = (shape, ()) if isinstance(shape, int) else (shape[0], shape[1:])
        by_name = (*self.names[:count], *names)
        plan = tuple(name in self._exact or name not in self.names for name in by_name)
        self._plans[shape] = plan
        return plan


class IdentityKey:
    """An object as a part of a key, equal to itself only; it is kept as long as the key is."""

    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdentityKey) and other.held is self.held

    def __hash__(self) -> int:
        return id(self.held)


def value_key(value: Any) -> Any:
    """A value as a part of a key: hashable, and equal only to values that do the same in a kernel. NaN equals NaN."""
    kind = type(value)
    if value is None or kind is int or kind is bool or kind is str:
        return kind, value
    if kind is float:
        return kind, value.hex()  # signs of zero stay apart
    if isinstance(value, tuple | list):
        return container_name(value), *map(value_key, value)
    if kind.__name__ == "constexpr":
        return "constexpr", value_key(value.value)
    if kind.__name__ == "dtype":
        return f"{kind.__module__}.dtype", str(value)
    if is_triton_kernel(value) or isinstance(value, FunctionType | type | Enum):
        return IdentityKey(value)
    found = identify(value, replace_known)
    return ("object", found.digest) if found.portable else IdentityKey(value)


def kind_key(value: Any) -> Any:
    """Everything for which Triton compiles, of an argument that is neither key nor constant, as a part of a key."""
    if _is_tensor_like(value):
        return "tensor", _dtype(value), _strides(value), _is_aligned(value)
    if value is None:
        return "none"
    if isinstance(value, bool | float | str):
        return type(value).__name__
    if isinstance(value, int):
        return _integer_kind(value)
    if isinstance(value, tuple):
        return "tuple", container_name(value), *map(kind_key, value)
    if _is_tensor_like(getattr(value, "base", None)):
        return "descriptor", type(value).__name__, kind_key(value.base), *_descriptor_parts(value)
    return "value", value_key(value)


def _integer_kind(value: int) -> str:
    """The type in which a whole number is passed, and its specialisation: "i32, divisible by 16", for example."""
    width = "i32" if _LOW <= value < _HIGH else "i64" if -(2**63) <= value < 2**63 else "u64"
    return f"{width}, 1" if value == 1 else f"{width}, divisible by {_ALIGNMENT}" if value % _ALIGNMENT == 0 else width


def _descriptor_parts(value: Any) -> tuple[Any, ...]:
    """The class of the strides of a descriptor, and its settings without the shape, which kernels get at run time."""
    given = {name: one for name, one in sorted(vars(value).items()) if name not in ("base", "shape", "strides")}
    strides = stride_class(tuple(map(int, value.shape)), tuple(map(int, value.strides)))
    return strides, *((name, value_key(one)) for name, one in given.items())


def _is_tensor_like(value: Any) -> bool:
    """Whether a kernel can use this as a tensor: it has a dtype and memory."""
    return hasattr(value, "dtype") and hasattr(value, "data_ptr")


def _write(name: str, trait: Any, value: Any, shape: tuple[int, ...], into: dict[str, Argument]) -> None:
    """Add everything for which an argument is compiled to the arguments of a key on disk."""
    match trait:
        case "tensor", dtype, strides, aligned:
            into[name] = Tensor(shape, dtype, strides)
            if not aligned:
                into[f"{name}{ALIGNMENT}"] = Constant(f"not divisible by {_ALIGNMENT}")
        case "none":
            into[name] = Constant(None)
        case "tuple", container, *items:
            into[name] = Constant({container: len(items)})
            for i, (item, one) in enumerate(zip(items, value, strict=True)):
                _write(f"{name}.{i}", item, one, (), into)
        case "descriptor", kind, base, strides, *settings:
            _write(name, base, value.base, (), into)
            into[f"{name}.descriptor"] = Constant(
                {kind: strides, **{setting: _to_json(getattr(value, setting)) for setting, _ in settings}}
            )
        case "value", _:
            into[name] = Constant(_to_json(value))
        case _:
            into[f"{name}{TYPE}"] = Constant(trait)


def _to_json(value: Any) -> Any:
    """A value as a key on disk has it: JSON values as they are, other values in a form that no JSON value has.

    Raises CacheError for a value without a stable digest.
    """
    kind = type(value)
    if value is None or kind is bool or kind is str or kind is int or kind is float:
        return jsonable_number(value)
    if isinstance(value, tuple | list):
        return {container_name(value): [_to_json(one) for one in value]}
    if kind.__name__ == "constexpr":
        return {"constexpr": _to_json(value.value)}
    if kind.__name__ == "dtype":
        return {f"{kind.__module__}.dtype": str(value)}
    if callable(value):
        inner = getattr(value, "fn", value)
        name = getattr(inner, "__qualname__", kind.__qualname__)
        return {f"{getattr(inner, '__module__', kind.__module__)}.{name}": source_digest(value)}
    return {f"{kind.__module__}.{kind.__qualname__}": value_digest(value)}


def _annotation(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _dtype(value: Any) -> str:
    return str(value.dtype).rpartition(".")[2]


def _strides(value: Any) -> str:
    is_contiguous: Callable[[], bool] | None = getattr(value, "is_contiguous", None)
    if is_contiguous is None or is_contiguous():
        return "contiguous"
    return stride_class(tuple(map(int, value.shape)), tuple(map(int, value.stride())))


def _is_aligned(value: Any) -> bool:
    """Whether a tensor begins where Triton may load several elements at once; one without memory counts as such."""
    with suppress(Exception):  # tensors of a tracer have no memory, and raise many kinds of errors
        return bool(value.data_ptr() % _ALIGNMENT == 0)
    return True


def rounding_rules(bucket: Buckets | None, keys: Sequence[str]) -> dict[str, Rule]:
    """The rule of each key argument that is rounded, by its name. Raises PlanError for a value that is no bucket."""
    if bucket is None:
        return {}
    if not isinstance(bucket, Mapping):
        return {name: _rule(bucket) for name in keys}
    odd = [name for name in bucket if name not in keys]
    if odd:
        raise PlanError(f"bucket has {', '.join(map(repr, odd))}, which key does not name; add it to key")
    return {name: _rule(one) for name, one in bucket.items()}


def _rule(bucket: Bucket) -> Rule:
    if bucket == "power_of_two":
        return power_of_two
    if callable(bucket):
        return bucket
    edges = list(bucket) if isinstance(bucket, Sequence) and not isinstance(bucket, str) else []
    if not edges or edges != sorted(edges) or not all(isinstance(edge, int) for edge in edges):
        raise PlanError(
            f"{bucket!r} is no bucket; use 'power_of_two', a rising list of whole numbers, or a function of the value"
        )
    return partial(_round_to_edge, edges)


def power_of_two(value: Any) -> Any:
    """The least power of two that is not below a whole number; other values as they are."""
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return 1 << (value - 1).bit_length() if value > 0 else value


def _round_to_edge(edges: list[int], value: Any) -> Any:
    """The first edge that is not below the value; a value above all edges belongs to the last."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return edges[min(bisect_left(edges, value), len(edges) - 1)]


def describe_bucket(bucket: Buckets) -> str:
    """A bucket as a part of a cache key: a function by the digest of everything that it reaches.

    Raises CacheError for a function that reaches an object without a digest.
    """
    if isinstance(bucket, Mapping):
        return "; ".join(f"{name}: {describe_bucket(one)}" for name, one in bucket.items())
    if callable(bucket):
        return f"function {source_digest(bucket)}"
    return bucket if isinstance(bucket, str) else str([*map(int, bucket)])
