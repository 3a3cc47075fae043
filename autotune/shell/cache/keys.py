"""What a measurement belongs to. Loose: kernel, arguments, device and space. Strict: versions of the toolchain too."""

from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal

import msgspec
from msgspec import Struct

FORMAT = b"autotune-cache-key-1\n"
"""Part of every digest, so that keys of another form are other keys."""


class _ByText:
    """Parts of keys are equal when their JSON texts are, in which 1, 1.0 and True differ."""

    def __eq__(self, other: object) -> bool:
        return canonical(self) == canonical(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(canonical(self))


class Tensor(Struct, frozen=True, tag="tensor"):
    """An array argument. strides: the class of its strides, see `specializing.stride_class`; not the numbers."""

    shape: tuple[int, ...]
    dtype: str
    strides: str = "contiguous"


class Constant(_ByText, Struct, frozen=True, tag="constant"):
    """Any other argument, by its value: a number, a text, a truth value, None, or the digest of a function."""

    value: Any


Argument = Tensor | Constant


class Specialization(_ByText, Struct, frozen=True, omit_defaults=True):
    """What a kernel was specialised on: its arguments by name or position, and its compile-time constants."""

    arguments: dict[str, Argument] = {}
    constants: dict[str, Any] = {}


class Device(Struct, frozen=True, omit_defaults=True):
    """The hardware. kind: "cuda", "hip", "xpu", "cpu". units: multiprocessors or cores, which tell slices of one device
    from the whole."""

    kind: str
    name: str
    architecture: str = ""
    units: int = 0


class Versions(Struct, frozen=True, omit_defaults=True):
    """The software that turns a config into machine code; empty where it is not installed."""

    torch: str = ""
    triton: str = ""
    driver: str = ""
    autotune: str = ""


class LooseKey(_ByText, Struct, frozen=True, dict=True, omit_defaults=True):
    """kernel: its name, for people. source: the digest of its source. space: the fingerprint of its space.
    extra: whatever else makes times incomparable (an input's density, a power limit), by name."""

    kernel: str
    source: str
    specialization: Specialization
    device: Device
    space: str
    extra: dict[str, str] = {}

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits, the same in every process."""
        return digest_of(self)

    @property
    def loose(self) -> "LooseKey":
        return self


class StrictKey(_ByText, Struct, frozen=True, dict=True):
    """A loose key, and the toolchain."""

    loose: LooseKey
    versions: Versions

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits, the same in every process."""
        return digest_of(self)


Key = LooseKey | StrictKey

KeyKind = Literal["loose", "strict"]
"""The two kinds of key by a word each."""


def digest_of(value: Any) -> str:
    """A digest of the canonical JSON of plain data: names sorted, so that neither order nor hash seed matters."""
    return blake2b(FORMAT + canonical(value), digest_size=16).hexdigest()


def canonical(value: Any) -> bytes:
    """The JSON text of plain data, names sorted; 1, 1.0 and True stay apart."""
    return msgspec.json.encode(value, order="deterministic")


def fields_of(key: Key) -> dict[str, Any]:
    """Every field of a key by its dotted name, such as "specialization.arguments.x.dtype"; leaves are JSON values."""
    leaves: dict[str, Any] = {}
    parts: dict[str, Any] = {"": msgspec.to_builtins(key.loose)}
    parts["specialization"] = _specialization_fields(key.loose.specialization)
    parts[""].pop("specialization")
    if isinstance(key, StrictKey):
        parts["versions"] = {name: getattr(key.versions, name) for name in Versions.__struct_fields__}
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
