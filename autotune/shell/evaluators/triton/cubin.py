"""Registers and spills of the kernels in a cubin, read off the binary: no GPU and no other program is needed.

A cubin is an ELF file. Its section `.nv.info` lists attributes: a format byte, an attribute byte, and for the formats
that matter here a 16-bit size and a payload of two words, the symbol and the value. The numbers of the attributes are
those that `cuobjdump --dump-elf` prints names for.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

SVAL = 4
"""The format whose payload follows, after its size."""
REGISTERS = 0x2F
FRAME = 0x11

SYMBOLS = 2
"""The type of a section that is a symbol table."""


class Resources(NamedTuple):
    """Of one thread. local_bytes: its frame in local memory, which for Triton's kernels is what did not fit: spills."""

    registers: int
    local_bytes: int


class _Section(NamedTuple):
    name: str
    kind: int
    link: int
    body: bytes


def resources(cubin: bytes, kernel: str) -> Resources | None:
    """What a thread of `kernel` needs; None where the file is not understood."""
    try:
        sections = _sections(cubin)
        symbol = _symbol(sections, kernel)
        info = next(section.body for section in sections if section.name == ".nv.info")
        found = {attribute: value for attribute, about, value in _attributes(info) if about == symbol}
    except (struct.error, StopIteration, IndexError, ValueError):
        return None
    return Resources(found[REGISTERS], found.get(FRAME, 0)) if REGISTERS in found else None


def _sections(cubin: bytes) -> list[_Section]:
    if cubin[:5] != b"\x7fELF\x02":
        raise ValueError("not a 64-bit ELF file")
    (table,) = struct.unpack_from("<Q", cubin, 0x28)
    size, count, names = struct.unpack_from("<HHH", cubin, 0x3A)
    heads = [struct.unpack_from("<IIQQQQI", cubin, table + i * size) for i in range(count)]
    texts = _body(cubin, heads[names])
    return [_Section(_text(texts, head[0]), head[1], head[6], _body(cubin, head)) for head in heads]


def _body(cubin: bytes, head: tuple[int, ...]) -> bytes:
    return cubin[head[4] : head[4] + head[5]]


def _text(texts: bytes, start: int) -> str:
    return texts[start : texts.index(b"\0", start)].decode()


def _symbol(sections: list[_Section], name: str) -> int:
    """The number of the symbol of this name."""
    table = next(section for section in sections if section.kind == SYMBOLS)
    texts = sections[table.link].body
    starts = (start for (start, *_) in struct.iter_unpack("<IBBHQQ", table.body))
    return next(i for i, start in enumerate(starts) if _text(texts, start) == name)


def _attributes(info: bytes) -> Iterator[tuple[int, int, int]]:
    """(attribute, symbol, value) of those that have a symbol."""
    at = 0
    while at + 4 <= len(info):
        kind, attribute, size = struct.unpack_from("<BBH", info, at)
        at += 4
        if kind != SVAL:
            continue
        if size >= 8:
            symbol, value = struct.unpack_from("<II", info, at)
            yield attribute, symbol, value
        at += size
