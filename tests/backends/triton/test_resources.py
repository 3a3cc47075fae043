"""The resources of a device and the needs of kernels: whether they fit, before anything runs."""

import os
import struct

import pytest

from autotune import EvaluatorError
from autotune.backends.triton import resources as limits
from autotune.backends.triton.messages import CompiledKernel
from autotune.backends.triton.resources import read_cubin


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


H200 = limits.gpu_of_target("sm_90")


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
    failed = limits.find_misfit(figures, H200)
    assert (failed and failed.kind) == kind
    assert failed is None or (words in failed.message and failed.message.endswith(": not run"))


def test_blocks_at_once() -> None:
    """128 registers and 256 threads are 32768 registers: two blocks; 100 KiB of shared memory: two blocks as well."""
    assert limits.blocks_at_once(compiled(0, 256, 128, 0), H200) == 2
    assert limits.blocks_at_once(compiled(100 * 1024, 128, 32, 0), H200) == 2
    assert limits.blocks_at_once(compiled(0, 256), H200) is None


def test_details_are_the_most_that_any_kernel_needs() -> None:
    kernels = (compiled(10, 128, 40, 0, name="a"), compiled(5, 128, 90, 16, name="b"))
    assert limits.resource_details(kernels, H200) == {
        "shared_bytes": 10, "registers": 90, "spill_bytes": 16, "blocks_per_multiprocessor": 5, "kernels": 2,
    }  # fmt: skip
    assert limits.resource_details((), H200) == {}


@pytest.mark.parametrize("target", ["90", "sm90", "gfx942", "sm_9", ""])
def test_targets_are_named_as_nvidia_does(target: str) -> None:
    with pytest.raises(EvaluatorError, match="give an NVIDIA architecture such as 'sm_90'"):
        limits.gpu_of_target(target)


def test_a_binary_that_is_not_understood_has_no_figures() -> None:
    for blob in (b"", b"\x7fELF\x02", b"\x7fELF\x02" + bytes(200), b"\x7fELF\x01" + bytes(200), os.urandom(4096)):
        assert read_cubin(blob, "k") is None
    assert read_cubin(b"\x7fELF\x02" + bytes(35) + struct.pack("<Q", 10**9) + bytes(40), "k") is None
