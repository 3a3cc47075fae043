"""The resources of a device and the needs of kernels: whether they fit, before anything runs."""

import pytest

from autotune.backends.triton import resources as limits
from autotune.backends.triton.messages import CompiledKernel, Gpu
from autotune.backends.triton.targets import gpu_of_target


def compiled(
    shared_bytes: int,
    threads: int,
    registers: int | None = None,
    spill_bytes: int | None = None,
    blocks: int = 1,
    name: str = "k",
) -> CompiledKernel:
    return CompiledKernel(
        name=name, hash="", shared_bytes=shared_bytes, threads=threads, registers=registers, spill_bytes=spill_bytes,
        blocks=blocks,
    )  # fmt: skip


H200, MI300, MI100 = map(gpu_of_target, ("sm_90", "gfx942", "gfx908"))


@pytest.mark.parametrize(
    ("figures", "kind", "words"),
    [
        (compiled(232448, 128, 64, 0), None, ""),
        (
            compiled(232449, 128, 64, 0),
            "out_of_memory",
            "232449 bytes of shared memory; sm_90 has 232448",
        ),
        (compiled(0, 2048, 16, 0), "run_error", "2048 threads in a block; sm_90 allows 1024"),
        (compiled(0, 1024, 64, 0), None, ""),
        (
            compiled(0, 1024, 65, 0),
            "run_error",
            "73728 registers for one block (65 a thread, 1024 threads)",
        ),
        (compiled(0, 128, 64, 0, 32), "run_error", "clusters of 32 blocks"),
        (compiled(0, 1024), None, ""),
    ],
)
def test_what_cannot_be_launched_is_known_before(figures: CompiledKernel, kind: str | None, words: str) -> None:
    check_misfit(figures, H200, kind, words)


@pytest.mark.parametrize(
    ("figures", "gpu", "kind", "words"),
    [
        (compiled(65536, 1024, 128), MI300, None, ""),
        (compiled(65537, 256, 64), MI300, "out_of_memory", "65537 bytes of shared memory; gfx942 has 65536"),
        (compiled(0, 2048, 64), MI300, "run_error", "2048 threads in a block; gfx942 allows 1024"),
        # 16 wavefronts, four on each SIMD unit, of 512 registers a lane in multiples of 8.
        (compiled(0, 1024, 129), MI300, "run_error", "139264 registers for one block (129 a thread, 1024 threads)"),
        (compiled(0, 256, 512), MI300, None, ""),
        (compiled(0, 1024, 65), MI100, "run_error", "gfx908 has 65536"),
        (compiled(160 * 1024, 256, 64), gpu_of_target("gfx950"), None, ""),
        (compiled(65537, 256, 64), gpu_of_target("gfx1100"), "out_of_memory", "gfx1100 has 65536"),
        (compiled(0, 1024, 256), gpu_of_target("gfx1100"), None, ""),
        (compiled(10**6, 1024, 255), Gpu(name="a device that tells nothing"), None, ""),
    ],
)
def test_limits_of_amd(figures: CompiledKernel, gpu: Gpu, kind: str | None, words: str) -> None:
    check_misfit(figures, gpu, kind, words)


def check_misfit(figures: CompiledKernel, gpu: Gpu, kind: str | None, words: str) -> None:
    failed = limits.find_misfit(figures, gpu)
    assert (failed and failed.kind) == kind
    assert failed is None or (words in failed.message and failed.message.endswith(": not run"))


def test_blocks_at_once() -> None:
    """128 registers and 256 threads are 32768 registers: two blocks; 100 KiB of shared memory: two blocks as well."""
    assert limits.blocks_at_once(compiled(0, 256, 128, 0), H200) == 2
    assert limits.blocks_at_once(compiled(100 * 1024, 128, 32, 0), H200) == 2
    assert limits.blocks_at_once(compiled(0, 256), H200) is None


def test_blocks_at_once_on_amd() -> None:
    """151 registers a lane are 152 of 512: three wavefronts on each of four SIMD units, as LLVM says of such a kernel
    (its "Occupancy"); the local data share is handed out in pieces of 512 bytes."""
    assert limits.blocks_at_once(compiled(0, 256, 151), MI300) == 3
    assert limits.blocks_at_once(compiled(0, 64, 151), MI300) == 12
    assert limits.blocks_at_once(compiled(20 * 1024 + 1, 256, 64), MI300) == 3
    assert limits.blocks_at_once(compiled(0, 64, 8), MI300) == 32, "eight wavefronts on each unit"
    assert limits.blocks_at_once(compiled(0, 128, 8), MI300) == 16, "and sixteen barriers"
    assert limits.blocks_at_once(compiled(0, 64, 8), MI100) == 40
    assert limits.blocks_at_once(compiled(0, 256, 64), gpu_of_target("gfx1100")) is None


def test_details_are_the_most_that_any_kernel_needs() -> None:
    kernels = (compiled(10, 128, 40, 0, name="a"), compiled(5, 128, 90, 16, name="b"))
    assert limits.resource_details(kernels, H200) == {
        "shared_bytes": 10, "registers": 90, "spill_bytes": 16, "blocks_per_multiprocessor": 5, "kernels": 2,
    }  # fmt: skip
    assert limits.resource_details((), H200) == {}
    amd = CompiledKernel(
        name="k", hash="", shared_bytes=0, threads=256, registers=512, spill_bytes=0, agprs=256, sgprs=80
    )
    assert limits.resource_details((amd,), MI300) == {
        "shared_bytes": 0, "registers": 512, "agprs": 256, "sgprs": 80, "spill_bytes": 0,
        "blocks_per_multiprocessor": 1,
    }  # fmt: skip
