"""What a device can hold, and whether a compiled kernel fits: decided before anything is run."""

import re

from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Detail, Failed, FailureKind
from autotune.shell.evaluators.triton.wire import Figures, Gpu

KIB = 1024
SHARED_KIB = {
    70: 96, 72: 96, 75: 64, 80: 163, 86: 99, 87: 163, 88: 99, 89: 99, 90: 227, 100: 227, 101: 227, 103: 227,
    110: 227, 120: 99, 121: 99,
}  # fmt: skip
"""Shared memory that one block may have, by compute capability (CUDA C++ programming guide)."""
REGISTERS = 65536
"""Of one multiprocessor, and the most that one block can have, on all of the above."""
MOST_REGISTERS_EACH = 255
WARP = 32
WARP_GRAIN = 256
"""Registers are handed to warps in multiples of this."""
MOST_BLOCKS_IN_CLUSTER = 16


def gpu_for(target: str) -> Gpu:
    """The device that "sm_90" means, without one being there; raises EvaluatorError for what is no such name."""
    arch = arch_of(target)
    shared = SHARED_KIB.get(arch)
    return Gpu(target, f"sm_{arch}", None if shared is None else shared * KIB, REGISTERS)


def arch_of(target: str) -> int:
    """90 for "sm_90"; raises EvaluatorError."""
    found = re.fullmatch(r"sm_(\d{2,3})a?", target)
    if found is None:
        raise EvaluatorError(f"target is {target!r}; give an NVIDIA architecture such as 'sm_90'")
    return int(found[1])


def misfit(kernel: Figures, gpu: Gpu) -> Failed | None:
    """Why this kernel cannot be launched on this device; None where nothing speaks against it."""
    where = f"{kernel.name} needs"
    if gpu.shared_bytes is not None and kernel.shared_bytes > gpu.shared_bytes:
        return _refused(
            "out_of_memory", f"{where} {kernel.shared_bytes} bytes of shared memory; {gpu.name} has {gpu.shared_bytes}"
        )
    if kernel.threads > gpu.threads:
        return _refused("run_error", f"{where} {kernel.threads} threads in a block; {gpu.name} allows {gpu.threads}")
    if kernel.blocks > MOST_BLOCKS_IN_CLUSTER:
        return _refused(
            "run_error", f"{where} clusters of {kernel.blocks} blocks; at most {MOST_BLOCKS_IN_CLUSTER} can be"
        )
    if gpu.registers is not None and (needed := registers_of_block(kernel)) > gpu.registers:
        return _refused(
            "run_error",
            f"{where} {needed} registers for one block ({kernel.registers} a thread, {kernel.threads} threads), so that"
            f" none fits; {gpu.name} has {gpu.registers}",
        )
    return None


def registers_of_block(kernel: Figures) -> int:
    """Registers that the hardware sets aside for one block; 0 where the figure of a thread is not known."""
    if kernel.registers is None:
        return 0
    of_warp = -(-kernel.registers * WARP // WARP_GRAIN) * WARP_GRAIN
    return of_warp * -(-kernel.threads // WARP)


def blocks_at_once(kernel: Figures, gpu: Gpu) -> int | None:
    """Blocks that fit on one multiprocessor by registers and shared memory; None where that is not known."""
    if gpu.registers is None or gpu.shared_bytes is None or not registers_of_block(kernel):
        return None
    by_registers = gpu.registers // registers_of_block(kernel)
    by_shared = (gpu.shared_bytes + KIB) // (kernel.shared_bytes + KIB)  # a KiB of each block is the system's
    return min(by_registers, by_shared)


def details_of(kernels: tuple[Figures, ...], gpu: Gpu | None) -> dict[str, Detail]:
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


def _refused(kind: FailureKind, message: str) -> Failed:
    return Failed(kind, message + ": not run")
