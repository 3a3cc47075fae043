"""The resources of a device and the needs of a compiled kernel: whether it fits is decided before anything runs.

The needs of a thread are read off the binary (a cubin), without a GPU and without another program. A cubin is an ELF
file. Its section `.nv.info` lists attributes: a format byte, an attribute byte, and for the formats that matter here a
16-bit size and a payload of two words, the symbol and the value. `cuobjdump --dump-elf` prints the names of the
attributes.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from autotune.backends.triton.messages import CompiledKernel, Gpu
from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Detail, Failed, FailureKind

KIB = 1024
_SHARED_KIB = {
    70: 96, 72: 96, 75: 64, 80: 163, 86: 99, 87: 163, 88: 99, 89: 99, 90: 227, 100: 227, 101: 227, 103: 227,
    110: 227, 120: 99, 121: 99,
}  # fmt: skip
"""Shared memory that one block may have, by compute capability (CUDA C++ programming guide)."""
_REGISTERS = 65536
"""Registers of one multiprocessor, and the most that one block can have, on all of these devices (same source)."""
WARP = 32
_WARP_GRAIN = 256
"""The hardware hands registers to warps in multiples of this (same source)."""
_MOST_BLOCKS_IN_CLUSTER = 16
"""On Hopper, with the opt-in for clusters that are not portable (same source)."""


def gpu_of_target(target: str) -> Gpu:
    """The device that "sm_90" names, without one being there; raises EvaluatorError for another text."""
    arch = arch_of(target)
    shared = _SHARED_KIB.get(arch)
    return Gpu(
        name=target, target=f"sm_{arch}", shared_bytes=None if shared is None else shared * KIB, registers=_REGISTERS
    )


def arch_of(target: str) -> int:
    """90 for "sm_90"; raises EvaluatorError for another text."""
    found = re.fullmatch(r"sm_(\d{2,3})a?", target)
    if found is None:
        raise EvaluatorError(f"target is {target!r}; give an NVIDIA architecture such as 'sm_90'")
    return int(found[1])


def find_misfit(kernel: CompiledKernel, gpu: Gpu) -> Failed | None:
    """Why this kernel cannot be launched on this device; None where nothing speaks against it."""
    needs = f"{kernel.name} needs"
    if gpu.shared_bytes is not None and kernel.shared_bytes > gpu.shared_bytes:
        return _refuse(
            "out_of_memory", f"{needs} {kernel.shared_bytes} bytes of shared memory; {gpu.name} has {gpu.shared_bytes}"
        )
    if kernel.threads > gpu.threads:
        return _refuse("run_error", f"{needs} {kernel.threads} threads in a block; {gpu.name} allows {gpu.threads}")
    if kernel.blocks > _MOST_BLOCKS_IN_CLUSTER:
        return _refuse(
            "run_error", f"{needs} clusters of {kernel.blocks} blocks; at most {_MOST_BLOCKS_IN_CLUSTER} can be"
        )
    if gpu.registers is not None and (needed := registers_of_block(kernel)) > gpu.registers:
        return _refuse(
            "run_error",
            f"{needs} {needed} registers for one block ({kernel.registers} a thread, {kernel.threads} threads), so that"
            f" none fits; {gpu.name} has {gpu.registers}",
        )
    return None


def _refuse(kind: FailureKind, message: str) -> Failed:
    return Failed(kind, message + ": not run")


def registers_of_block(kernel: CompiledKernel) -> int:
    """Registers that the hardware sets aside for one block; 0 where a thread's registers are not known."""
    if kernel.registers is None:
        return 0
    of_warp = -(-kernel.registers * WARP // _WARP_GRAIN) * _WARP_GRAIN
    return of_warp * -(-kernel.threads // WARP)


def blocks_at_once(kernel: CompiledKernel, gpu: Gpu) -> int | None:
    """Blocks that fit on one multiprocessor by registers and shared memory; None where these are not known."""
    if gpu.registers is None or gpu.shared_bytes is None or not registers_of_block(kernel):
        return None
    by_registers = gpu.registers // registers_of_block(kernel)
    by_shared = (gpu.shared_bytes + KIB) // (kernel.shared_bytes + KIB)  # the system takes a KiB of each block
    return min(by_registers, by_shared)


def resource_details(kernels: tuple[CompiledKernel, ...], gpu: Gpu | None) -> dict[str, Detail]:
    """The figures that an outcome keeps: of several kernels, the most that any of them needs."""
    if not kernels:
        return {}
    details: dict[str, Detail] = {"shared_bytes": max(kernel.shared_bytes for kernel in kernels)}
    registers = [kernel.registers for kernel in kernels if kernel.registers is not None]
    spilled = [kernel.spill_bytes for kernel in kernels if kernel.spill_bytes is not None]
    if registers:
        details["registers"] = max(registers)
    if spilled:
        details["spill_bytes"] = max(spilled)
    at_once = [] if gpu is None else [n for k in kernels if (n := blocks_at_once(k, gpu)) is not None]
    if at_once:
        details["blocks_per_multiprocessor"] = min(at_once)
    if len(kernels) > 1:
        details["kernels"] = len(kernels)
    return details


_SVAL = 4
"""The format whose payload follows after its size (EIFMT_SVAL)."""
_REGISTER_COUNT = 0x2F
"""EIATTR_REGCOUNT."""
_FRAME_SIZE = 0x11
"""EIATTR_FRAME_SIZE."""
_SYMBOL_TABLE = 2
"""The type of a section that is a symbol table (SHT_SYMTAB)."""


class KernelResources(NamedTuple):
    """The needs of one thread. local_bytes: its frame in local memory, which in Triton's kernels holds the spills."""

    registers: int
    local_bytes: int


class _Section(NamedTuple):
    name: str
    kind: int
    link: int
    body: bytes


def read_cubin(cubin: bytes, kernel: str) -> KernelResources | None:
    """The needs of a thread of `kernel`; None where the file is not understood."""
    try:
        sections = _sections(cubin)
        symbol = _symbol(sections, kernel)
        info = next(section.body for section in sections if section.name == ".nv.info")
        found = {attribute: value for attribute, about, value in _attributes(info) if about == symbol}
    except (struct.error, StopIteration, IndexError, ValueError):
        return None
    return KernelResources(found[_REGISTER_COUNT], found.get(_FRAME_SIZE, 0)) if _REGISTER_COUNT in found else None


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
