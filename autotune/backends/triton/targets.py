"""Targets: the architectures that Triton compiles for, and what one multiprocessor of each has."""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from autotune.backends.triton.messages import Gpu
from autotune.core.errors import EvaluatorError

KIB = 1024


@dataclass(frozen=True, kw_only=True)
class Target:
    """An architecture. backend, arch, warp_size: as in Triton's `GPUTarget`; AMD's wavefronts are warps here."""

    name: str
    backend: Literal["cuda", "hip"]
    arch: int | str
    warp_size: int

    def as_triton(self) -> Any:
        """Triton's `GPUTarget`; imports Triton."""
        from triton.backends.compiler import GPUTarget

        return GPUTarget(self.backend, self.arch, self.warp_size)


@dataclass(frozen=True, kw_only=True)
class Multiprocessor:
    """What the blocks on one multiprocessor (AMD: compute unit) share; None where it is not known.

    shared_bytes: of shared memory (AMD: local data share, LDS), the most that one block may have. shared_grain: it is
    handed out in multiples of so many bytes. shared_reserved: bytes that the system takes of each block. schedulers:
    parts with registers of their own (AMD: SIMD units). lane_registers: of one lane, the registers of one such part.
    register_grain: a warp gets registers in multiples of so many a lane. warps: the most on one such part. blocks: the
    most of more than one warp.
    """

    shared_bytes: int | None = None
    shared_grain: int = 1
    shared_reserved: int = 0
    schedulers: int = 1
    lane_registers: int | None = None
    register_grain: int = 1
    warps: int | None = None
    blocks: int | None = None


def _nvidia(shared_kib: int | None) -> Multiprocessor:
    """Shared memory by compute capability; 64 Ki registers, in multiples of 256 a warp, on all of these devices; the
    system takes a KiB of each block (CUDA C++ programming guide, technical specifications)."""
    return Multiprocessor(
        shared_bytes=None if shared_kib is None else shared_kib * KIB,
        shared_reserved=KIB,
        lane_registers=65536 // 32,
        register_grain=256 // 32,
    )


def _cdna(shared_kib: int, shared_grain: int, lane_registers: int, register_grain: int, warps: int) -> Multiprocessor:
    """Four SIMD units, and 16 barriers for blocks of more than one wavefront (CDNA 3 instruction set architecture;
    LLVM, AMDGPUBaseInfo.cpp: getMaxWorkGroupsPerCU, getTotalNumVGPRs, getVGPRAllocGranule, getMaxWavesPerEU)."""
    return Multiprocessor(
        shared_bytes=shared_kib * KIB,
        shared_grain=shared_grain,
        schedulers=4,
        lane_registers=lane_registers,
        register_grain=register_grain,
        warps=warps,
        blocks=16,
    )


_RDNA = Multiprocessor(shared_bytes=64 * KIB)
"""One block may have 64 KiB (RDNA 3 instruction set architecture). How many fit together depends on the mode in which
two compute units work as one."""

_NVIDIA: Mapping[str, Multiprocessor] = {
    f"sm_{arch}": _nvidia(kib)
    for arch, kib in {
        70: 96, 72: 96, 75: 64, 80: 163, 86: 99, 87: 163, 88: 99, 89: 99, 90: 227, 100: 227, 101: 227, 103: 227,
        110: 227, 120: 99, 121: 99,
    }.items()
}  # fmt: skip
_AMD: Mapping[str, Multiprocessor] = {
    "gfx908": _cdna(64, 512, 256, 4, 10),  # MI100: the accumulation registers are apart, and as many again
    "gfx90a": _cdna(64, 512, 512, 8, 8),  # MI200: from here on, both kinds come from the same 512
    "gfx942": _cdna(64, 512, 512, 8, 8),  # MI300
    "gfx950": _cdna(160, 1280, 512, 8, 8),  # MI350
    **{f"gfx{n}": _RDNA for n in (1030, 1100, 1101, 1102, 1103, 1150, 1151, 1152, 1153, 1200, 1201)},
}
_KNOWN = {**_NVIDIA, **_AMD}


def parse_target(name: str) -> Target:
    """The target of this name, known or not; raises EvaluatorError for a text that names none.

    The suffix of "sm_90a" and the features of "gfx942:sramecc+:xnack-" are left out, as Triton leaves them out.
    """
    if found := re.fullmatch(r"sm_(\d{2,3})[af]?", name):
        return Target(name=f"sm_{found[1]}", backend="cuda", arch=int(found[1]), warp_size=32)
    if found := re.fullmatch(r"(gfx(\d{1,2})[0-9a-f]{2})(:[a-z]+[+-])*", name):
        # Wavefronts have 64 lanes up to generation 9, and 32 from 10 on (Triton's backend has the same rule).
        lanes = 64 if int(found[2]) < 10 else 32
        return Target(name=found[1], backend="hip", arch=found[1], warp_size=lanes)
    raise EvaluatorError(f"target is {name!r}, which names no architecture; {_known_names()}")


def check_target(name: str) -> Target:
    """The known target of this name; raises EvaluatorError for another one, with the names of all."""
    target = parse_target(name)
    if target.name not in _KNOWN:
        raise EvaluatorError(f"target is {name!r}, which is not known; {_known_names()}")
    return target


def _known_names() -> str:
    return f"give one of {', '.join(_NVIDIA)} (NVIDIA) or {', '.join(_AMD)} (AMD)"


def multiprocessor_of(target: str) -> Multiprocessor:
    """The limits of this target, as far as they are known."""
    parsed = parse_target(target)
    return _KNOWN.get(parsed.name) or (_nvidia(None) if parsed.backend == "cuda" else Multiprocessor())


def gpu_of_target(name: str) -> Gpu:
    """The device that a target names, without one being there; raises EvaluatorError for a text that names none."""
    target, limits = parse_target(name), multiprocessor_of(name)
    registers = limits.lane_registers
    return Gpu(
        name=name,
        target=target.name,
        shared_bytes=limits.shared_bytes,
        registers=None if registers is None else limits.schedulers * registers * target.warp_size,
    )


def target_of_make() -> str:
    """A target of the make of GPU that the installed torch is built for, for code that asks for it when it is imported
    and the real target is not known yet. Where torch is not imported, NVIDIA's."""
    return "gfx942" if is_rocm() else "sm_90"


def is_rocm() -> bool:
    """Whether the torch of this process is built for AMD's GPUs, which it calls "cuda" as well."""
    version = getattr(sys.modules.get("torch"), "version", None)
    return getattr(version, "hip", None) is not None


def target_of_properties(properties: Any) -> str:
    """The target of a GPU by its properties as torch gives them; raises EvaluatorError for an unknown one of AMD's."""
    return parse_target(properties.gcnArchName).name if is_rocm() else f"sm_{properties.major}{properties.minor}"
