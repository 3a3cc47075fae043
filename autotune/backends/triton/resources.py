"""Whether a compiled kernel fits on a device, and how often: decided before anything runs."""

from autotune.backends.triton.messages import CompiledKernel, Gpu
from autotune.backends.triton.targets import Multiprocessor, multiprocessor_of, parse_target
from autotune.core.outcomes import Detail, Failed, FailureKind

_MOST_BLOCKS_IN_CLUSTER = 16
"""On Hopper, with the opt-in for clusters that are not portable (CUDA C++ programming guide)."""


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
    room = _blocks_by_registers(kernel, gpu)
    if room == 0:
        return _refuse(
            "run_error",
            f"{needs} {_registers_of_block(kernel, gpu)} registers for one block ({kernel.registers} a thread,"
            f" {kernel.threads} threads), so that none fits; {gpu.name} has {gpu.registers}",
        )
    return None


def _refuse(kind: FailureKind, message: str) -> Failed:
    return Failed(kind, message + ": not run")


def _limits(gpu: Gpu) -> tuple[Multiprocessor, int]:
    """The limits of the device's multiprocessors, and the lanes of a warp."""
    return multiprocessor_of(gpu.target), parse_target(gpu.target).warp_size


def _registers_of_block(kernel: CompiledKernel, gpu: Gpu) -> int:
    """Registers that the hardware sets aside for one block."""
    assert kernel.registers is not None, "they are known"
    limits, lanes = _limits(gpu)
    return _rounded_up(kernel.registers, limits.register_grain) * lanes * -(-kernel.threads // lanes)


def _blocks_by_registers(kernel: CompiledKernel, gpu: Gpu) -> int | None:
    """Blocks for whose warps there are registers on one multiprocessor; None where that is not known."""
    if gpu.registers is None or not gpu.target or not kernel.registers:
        return None
    limits, lanes = _limits(gpu)
    registers = gpu.registers // (limits.schedulers * lanes)
    warps = registers // _rounded_up(kernel.registers, limits.register_grain)
    return limits.schedulers * min(warps, limits.warps or warps) // -(-kernel.threads // lanes)


def blocks_at_once(kernel: CompiledKernel, gpu: Gpu) -> int | None:
    """Blocks that fit on one multiprocessor by registers and shared memory; None where these are not known."""
    by_registers = _blocks_by_registers(kernel, gpu)
    if by_registers is None or gpu.shared_bytes is None:
        return None
    limits, lanes = _limits(gpu)
    bounds = [by_registers]
    if each := _rounded_up(kernel.shared_bytes, limits.shared_grain) + limits.shared_reserved:
        bounds.append((gpu.shared_bytes + limits.shared_reserved) // each)
    if limits.blocks is not None and kernel.threads > lanes:
        bounds.append(limits.blocks)
    return min(bounds)


def _rounded_up(amount: int, grain: int) -> int:
    return -(-amount // grain) * grain


def resource_details(kernels: tuple[CompiledKernel, ...], gpu: Gpu | None) -> dict[str, Detail]:
    """The figures that an outcome keeps: of several kernels, the most that any of them needs."""
    if not kernels:
        return {}
    details: dict[str, Detail] = {"shared_bytes": max(kernel.shared_bytes for kernel in kernels)}
    needs = {
        "registers": [kernel.registers for kernel in kernels],
        "agprs": [kernel.agprs for kernel in kernels],
        "sgprs": [kernel.sgprs for kernel in kernels],
        "spill_bytes": [kernel.spill_bytes for kernel in kernels],
    }
    for name, each in needs.items():
        if known := [need for need in each if need is not None]:
            details[name] = max(known)
    at_once = [] if gpu is None else [n for k in kernels if (n := blocks_at_once(k, gpu)) is not None]
    if at_once:
        details["blocks_per_multiprocessor"] = min(at_once)
    if len(kernels) > 1:
        details["kernels"] = len(kernels)
    return details
