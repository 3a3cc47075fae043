"""Cache keys: the problem that a measurement belongs to, and the distance between two keys. Pure.

A loose key names kernel, arguments, device and space; a strict key the versions of the toolchain as well. The distance
of two keys orders warm starts, nearest first, and `differences` explains a miss.
"""

from functools import cached_property
from hashlib import blake2b
from math import log2
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

FORMAT = b"autotune-cache-key-1\n"
"""Begins the text of every digest, so that keys of another form have other digests."""


class _ByText:
    """Equality by the JSON text, in which 1, 1.0 and True differ."""

    def __eq__(self, other: object) -> bool:
        return canonical_json(self) == canonical_json(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(canonical_json(self))


class Tensor(Struct, frozen=True, tag="tensor"):
    """An array argument. strides: their class (see `sources.stride_class`), not the numbers."""

    shape: tuple[int, ...]
    dtype: str
    strides: str = "contiguous"


class Constant(_ByText, Struct, frozen=True, tag="constant"):
    """Any other argument, by its value: a number, a text, a truth value, None, or the digest of a function."""

    value: Any


Argument = Tensor | Constant


class Specialization(_ByText, Struct, frozen=True, omit_defaults=True):
    """The arguments that a kernel is specialised on, by name or position, and its compile-time constants."""

    arguments: dict[str, Argument] = {}
    constants: dict[str, Any] = {}


class Device(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The hardware. kind: "cuda", "hip", "xpu" or "cpu". units: multiprocessors or cores, fewer in a slice of it."""

    kind: str
    name: str
    architecture: str = ""
    units: int = 0


class Versions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Versions of the software that turns a config into machine code; empty if it is not installed."""

    torch: str = ""
    triton: str = ""
    driver: str = ""
    autotune: str = ""


class LooseKey(_ByText, Struct, frozen=True, kw_only=True, dict=True, omit_defaults=True):
    """A key without the toolchain.

    kernel: its name, for people. source: the digest of its source. space: the fingerprint of its space. extra: other
    conditions that make times incomparable (the density of an input, a power limit), by name.
    """

    kernel: str
    source: str
    specialization: Specialization
    device: Device
    space: str
    extra: dict[str, str] = {}

    @cached_property
    def digest(self) -> str:
        return compute_digest(self)

    @property
    def loose(self) -> "LooseKey":
        return self


class StrictKey(_ByText, Struct, frozen=True, dict=True):
    """A loose key and the toolchain."""

    loose: LooseKey
    versions: Versions

    @cached_property
    def digest(self) -> str:
        return compute_digest(self)


Key = LooseKey | StrictKey

TYPE, ALIGNMENT = ".type", ".alignment"
"""End the names of the arguments of a key that say how another argument is passed, not its value: the type of a number,
and whether a tensor begins at a round address."""

KeyKind = Literal["loose", "strict"]
"""The two kinds of key, as `tune` takes them."""


def compute_digest(value: Any) -> str:
    """32 hexadecimal digits of the canonical JSON of plain data, the same in every process."""
    return blake2b(FORMAT + canonical_json(value), digest_size=16).hexdigest()


def canonical_json(value: Any) -> bytes:
    """The JSON text of plain data, with sorted names; 1, 1.0 and True differ."""
    return msgspec.json.encode(value, order="deterministic")


def fields_of(key: Key) -> dict[str, Any]:
    """Every field of a key by its dotted name, such as "specialization.arguments.x.dtype"; leaves are JSON values."""
    leaves: dict[str, Any] = {}
    parts: dict[str, Any] = {"": msgspec.to_builtins(key.loose)}
    parts["specialization"] = _specialization_fields(key.loose.specialization)
    parts[""].pop("specialization")
    if isinstance(key, StrictKey):
        parts["versions"] = msgspec.structs.asdict(key.versions)
    for prefix, tree in parts.items():
        _flatten(prefix, tree, leaves)
    return leaves


def _specialization_fields(specialization: Specialization) -> dict[str, Any]:
    arguments = {
        name: {"shape": a.shape, "dtype": a.dtype, "strides": a.strides} if isinstance(a, Tensor) else a.value
        for name, a in specialization.arguments.items()
    }
    return {"arguments": arguments, "constants": dict(specialization.constants)}


def _flatten(prefix: str, tree: Any, leaves: dict[str, Any]) -> None:
    if not isinstance(tree, dict):
        leaves[prefix] = tree
        return
    for name, value in tree.items():
        _flatten(f"{prefix}.{name}" if prefix else str(name), value, leaves)


OTHER_KERNEL, OTHER_SOURCE, OTHER_SPACE, OTHER_EXTRA, OTHER_VERSION = 100.0, 1.0, 2.0, 1.0, 0.1
OTHER_ARCHITECTURE, OTHER_NAME, OTHER_KIND = 4.0, 1.0, 8.0
OTHER_DTYPE, OTHER_STRIDES, OTHER_FORM, OTHER_VALUE = 3.0, 1.0, 4.0, 1.0
"""Parts of a distance, in doublings of a size. They only have to order entries sensibly: another kernel is farther than
any sizes, another kind of device farther than another architecture, another version nearly nothing."""


class Difference(NamedTuple):
    """A field in which two keys differ, by its dotted name, and its values; None for a key that lacks the field."""

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
    """How little the times of one key say about the other, 0 for equal keys, roughly in doublings of sizes."""
    apart = OTHER_KERNEL * (a.kernel != b.kernel) + OTHER_SOURCE * (a.source != b.source)
    apart += OTHER_SPACE * (a.space != b.space) + OTHER_EXTRA * len(_list_changed(a.extra, b.extra))
    apart += OTHER_VALUE * len(_list_changed(a.specialization.constants, b.specialization.constants))
    return apart + _devices(a.device, b.device) + _arguments(a, b)


def only_sizes_differ(a: LooseKey, b: LooseKey) -> bool:
    """Whether two keys are of one kernel, device and set of arguments that differ in sizes alone.

    Sizes: positive whole numbers, real numbers, the lengths of arrays, and what follows from sizes (whether 16 divides
    a number, a stride or an address). All else must agree: the kernel's source, dtypes, ranks, orders of strides,
    texts, truth values, zeros, None, and the constants of the compilation. The spaces may differ.
    """
    if (a.kernel, a.source, a.device, a.extra) != (b.kernel, b.source, b.device, b.extra):
        return False
    if _list_changed(a.specialization.constants, b.specialization.constants):
        return False
    ours, theirs = a.specialization.arguments, b.specialization.arguments
    return all(
        name.endswith(ALIGNMENT) or _same_but_for_sizes(name, ours.get(name), theirs.get(name))
        for name in {**ours, **theirs}
    )


def _same_but_for_sizes(name: str, a: Argument | None, b: Argument | None) -> bool:
    match a, b:
        case Tensor(), Tensor():
            return a.dtype == b.dtype and len(a.shape) == len(b.shape) and _same_layout(a.strides, b.strides)
        case Constant(value=str() as one), Constant(value=str() as other) if name.endswith(TYPE):
            return one == other or (one.startswith(_INTEGERS) and other.startswith(_INTEGERS))
        case Constant(value=one), Constant(value=other):
            return repr(one) == repr(other) or (_is_size(one) and _is_size(other))
    return False


_INTEGERS = ("i32", "i64", "u64")
"""Begin the type of a whole number, which depends on its size."""


def _is_size(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and value > 0)


def _same_layout(a: str, b: str) -> bool:
    """Whether two classes of strides are the same but for dimensions of one element, and for whether 16 divides."""
    if not (a.startswith("strided:") and b.startswith("strided:")):
        return a == b
    pairs = zip(a, b, strict=False)
    return len(a) == len(b) and all(n == m or "." in (n, m) or {n, m} == {"d", "s"} for n, m in pairs)


def changed_versions(a: Versions, b: Versions) -> list[str]:
    """The parts of the toolchain that differ."""
    return [name for name in Versions.__struct_fields__ if getattr(a, name) != getattr(b, name)]


def _list_changed(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
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
    """The number of doublings between two sizes."""
    return abs(log2((n + 1) / (m + 1))) if n != m else 0.0
