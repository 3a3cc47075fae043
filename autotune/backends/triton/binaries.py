"""The needs of a compiled kernel, read off its binary without a GPU and without another program.

Both kinds are ELF files. NVIDIA's (a cubin) lists attributes in its section `.nv.info`: a format byte, an attribute
byte, and for the formats that matter here a 16-bit size and a payload of two words, the symbol and the value.
`cuobjdump --dump-elf` prints the names of the attributes. AMD's (an hsaco) has a note with a map in MessagePack, which
`readelf -n` prints (LLVM, User Guide for AMDGPU Backend, code object metadata).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct, field


@dataclass(frozen=True, kw_only=True)
class KernelResources:
    """The needs of one thread.

    registers: on AMD, the vector registers, from gfx90a on with the accumulation registers (LLVM, getTotalNumVGPRs).
    local_bytes: its frame in local memory (AMD: scratch), which in Triton's kernels holds the spills. agprs, sgprs:
    AMD's accumulation registers, and its scalar registers, which the threads of a warp share. shared_bytes: of one
    block, the shared memory that is fixed in the binary.
    """

    registers: int
    local_bytes: int
    agprs: int | None = None
    sgprs: int | None = None
    shared_bytes: int = 0


def read_binary(backend: Literal["cuda", "hip"], binary: bytes, kernel: str) -> KernelResources | None:
    """The needs of a thread of `kernel`; None where the file is not understood."""
    try:
        sections = _sections(binary)
        return _read_cubin(sections, kernel) if backend == "cuda" else _read_hsaco(sections, kernel)
    except (struct.error, StopIteration, IndexError, ValueError, msgspec.DecodeError):
        return None


_SVAL = 4
"""The format whose payload follows after its size (EIFMT_SVAL)."""
_REGISTER_COUNT = 0x2F
"""EIATTR_REGCOUNT."""
_FRAME_SIZE = 0x11
"""EIATTR_FRAME_SIZE."""
_SYMBOL_TABLE, _NOTES = 2, 7
"""Types of sections (SHT_SYMTAB, SHT_NOTE)."""


class _Section(NamedTuple):
    name: str
    kind: int
    link: int
    body: bytes


def _read_cubin(sections: list[_Section], kernel: str) -> KernelResources | None:
    symbol = _symbol(sections, kernel)
    info = next(section.body for section in sections if section.name == ".nv.info")
    found = {attribute: value for attribute, about, value in _attributes(info) if about == symbol}
    if _REGISTER_COUNT not in found:
        return None
    return KernelResources(registers=found[_REGISTER_COUNT], local_bytes=found.get(_FRAME_SIZE, 0))


def _symbol(sections: list[_Section], name: str) -> int:
    """The number of the symbol of this name."""
    table = next(section for section in sections if section.kind == _SYMBOL_TABLE)
    texts = sections[table.link].body
    starts = (start for (start, *_) in struct.iter_unpack("<IBBHQQ", table.body))
    return next(i for i, start in enumerate(starts) if _text(texts, start) == name)


def _attributes(info: bytes) -> Iterator[tuple[int, int, int]]:
    """(attribute, symbol, value) of the attributes that belong to a symbol."""
    at = 0
    while at + 4 <= len(info):
        kind, attribute, size = struct.unpack_from("<BBH", info, at)
        at += 4
        if kind != _SVAL:
            continue
        if size >= 8:
            symbol, value = struct.unpack_from("<II", info, at)
            yield attribute, symbol, value
        at += size


_METADATA, _OWNER = 32, b"AMDGPU\0"
"""The type (NT_AMDGPU_METADATA) and the owner of AMD's note."""
_Count = Annotated[int, Meta(ge=0)]


class _KernelMetadata(Struct, frozen=True, kw_only=True):
    """One kernel in AMD's note."""

    name: str = field(name=".name")
    vgprs: _Count = field(name=".vgpr_count")
    sgprs: _Count = field(name=".sgpr_count")
    agprs: _Count | None = field(name=".agpr_count", default=None)
    scratch_bytes: _Count = field(name=".private_segment_fixed_size")
    lds_bytes: _Count = field(name=".group_segment_fixed_size")


class _Metadata(Struct, frozen=True):
    kernels: tuple[_KernelMetadata, ...] = field(name="amdhsa.kernels")


_metadata = msgspec.msgpack.Decoder(_Metadata)


def _read_hsaco(sections: list[_Section], kernel: str) -> KernelResources:
    notes = (note for section in sections if section.kind == _NOTES for note in _notes(section.body))
    body = next(body for owner, kind, body in notes if owner == _OWNER and kind == _METADATA)
    found = next(one for one in _metadata.decode(body).kernels if one.name == kernel)
    return KernelResources(
        registers=found.vgprs,
        local_bytes=found.scratch_bytes,
        agprs=found.agprs,
        sgprs=found.sgprs,
        shared_bytes=found.lds_bytes,
    )


def _notes(body: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """(owner, type, content) of each note."""
    at = 0
    while at + 12 <= len(body):
        owner_size, size, kind = struct.unpack_from("<III", body, at)
        start = at + 12 + _padded(owner_size)
        yield body[at + 12 : at + 12 + owner_size], kind, body[start : start + size]
        at = start + _padded(size)


def _padded(size: int) -> int:
    return -(-size // 4) * 4


def _sections(binary: bytes) -> list[_Section]:
    if binary[:5] != b"\x7fELF\x02":
        raise ValueError("not a 64-bit ELF file")
    (table,) = struct.unpack_from("<Q", binary, 0x28)
    size, count, names = struct.unpack_from("<HHH", binary, 0x3A)
    heads = [struct.unpack_from("<IIQQQQI", binary, table + i * size) for i in range(count)]
    texts = _body(binary, heads[names])
    return [_Section(_text(texts, head[0]), head[1], head[6], _body(binary, head)) for head in heads]


def _body(binary: bytes, head: tuple[int, ...]) -> bytes:
    return binary[head[4] : head[4] + head[5]]


def _text(texts: bytes, start: int) -> str:
    return texts[start : texts.index(b"\0", start)].decode()
