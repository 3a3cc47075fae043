"""A kernel is known by its text and that of its helpers."""

from pathlib import Path
from typing import Any

import pytest

from autotune.shell.cache.sources import kernel_digest

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")


KERNEL = """
import triton
import triton.language as tl
{above}
SCALE: tl.constexpr = {scale}
@triton.jit
def helper(x):
    return x * {factor}
{decorators}
@triton.jit
def kernel(a, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(a + at, helper(tl.load(a + at)) * SCALE)
"""


def digest(folder: Path, name: str, **parts: Any) -> str:
    path = folder / f"{name}.py"
    path.write_text(KERNEL.format(**{"above": "", "scale": 2, "factor": 3, "decorators": "", **parts}))
    scope: dict[str, Any] = {"__name__": "kernels"}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    kernel = scope["kernel"]
    while not hasattr(kernel, "signature"):
        kernel = kernel.fn
    return kernel_digest(kernel)


def test_a_kernel_is_known_by_its_text_and_that_of_its_helpers(tmp_path: Path) -> None:
    first = digest(tmp_path, "first")
    assert digest(tmp_path, "lower", above="# a comment\n\n\n") == first
    heuristics = "@triton.heuristics({'BLOCK': lambda args: 16})"
    assert digest(tmp_path, "decorated", decorators=heuristics) == first
    assert digest(tmp_path, "helper", factor=4) != first
    assert digest(tmp_path, "constant", scale=5) != first
