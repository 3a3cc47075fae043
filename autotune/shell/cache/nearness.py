"""How far apart two keys are, and in which fields: for warm starts, nearest first, and to explain a miss."""

from math import log2
from typing import Any, NamedTuple

from autotune.shell.cache.keys import Argument, Constant, Device, Key, LooseKey, Tensor, Versions, fields_of

OTHER_KERNEL, OTHER_SOURCE, OTHER_SPACE, OTHER_EXTRA, OTHER_VERSION = 100.0, 1.0, 2.0, 1.0, 0.1
OTHER_ARCHITECTURE, OTHER_NAME, OTHER_KIND = 4.0, 1.0, 8.0
OTHER_DTYPE, OTHER_STRIDES, OTHER_FORM, OTHER_VALUE = 3.0, 1.0, 4.0, 1.0


class Difference(NamedTuple):
    """A field in which two keys differ, by its dotted name; None where one of them lacks it."""

    field: str
    wanted: Any
    found: Any


def differences(wanted: Key, found: Key) -> tuple[Difference, ...]:
    """The fields in which two keys differ, in the order of the fields."""
    a, b = fields_of(wanted), fields_of(found)
    names = [*a, *(name for name in b if name not in a)]
    return tuple(
        Difference(name, a.get(name), b.get(name))
        for name in names
        if (name in a) != (name in b) or repr(a.get(name)) != repr(b.get(name))
    )


def distance(a: LooseKey, b: LooseKey) -> float:
    """0 for equal keys, more the less the times of one say about the other: in doublings of sizes, roughly."""
    apart = OTHER_KERNEL * (a.kernel != b.kernel) + OTHER_SOURCE * (a.source != b.source)
    apart += OTHER_SPACE * (a.space != b.space) + OTHER_EXTRA * len(_changed(a.extra, b.extra))
    apart += OTHER_VALUE * len(_changed(a.specialization.constants, b.specialization.constants))
    return apart + _devices(a.device, b.device) + _arguments(a, b)


def changed_versions(a: Versions, b: Versions) -> list[str]:
    """The parts of the toolchain that differ."""
    return [name for name in Versions.__struct_fields__ if getattr(a, name) != getattr(b, name)]


def _changed(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    return [name for name in {**a, **b} if name not in a or name not in b or repr(a[name]) != repr(b[name])]


def _devices(a: Device, b: Device) -> float:
    if a == b:
        return 0.0
    apart = OTHER_KIND * (a.kind != b.kind) + OTHER_ARCHITECTURE * (a.architecture != b.architecture)
    return apart + OTHER_NAME * (a.name != b.name) + (_octaves(a.units, b.units) if a.units and b.units else 0.0)


def _arguments(a: LooseKey, b: LooseKey) -> float:
    ours, theirs = a.specialization.arguments, b.specialization.arguments
    return sum(_argument(ours.get(name), theirs.get(name)) for name in {**ours, **theirs})


def _argument(a: Argument | None, b: Argument | None) -> float:
    match a, b:
        case Tensor(), Tensor():
            if len(a.shape) != len(b.shape):
                return OTHER_FORM
            sizes = sum(_octaves(n, m) for n, m in zip(a.shape, b.shape, strict=True))
            return sizes + OTHER_DTYPE * (a.dtype != b.dtype) + OTHER_STRIDES * (a.strides != b.strides)
        case Constant(value=int() as n), Constant(value=int() as m) if n > 0 and m > 0:
            return _octaves(n, m)
        case Constant(), Constant():
            return OTHER_VALUE * (repr(a.value) != repr(b.value))
    return OTHER_FORM


def _octaves(n: int, m: int) -> float:
    """How many doublings lie between two sizes."""
    return abs(log2((n + 1) / (m + 1))) if n != m else 0.0
