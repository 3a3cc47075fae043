"""What a tuning leaves in Triton's cache: bytes after a search of so many configs, and what all of them would take.

    python docs/benchmarks/triton_cache_size.py [CONFIGS]

Compiles for sm_90 and needs no GPU: Triton's interpreter runs what is compiled.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
import triton.language as tl

import autotune
from autotune import Budget, Choice, Integer, Space, TritonEvaluator

N = 64


@triton.jit
def scores(x, y, out, n, ROUNDS: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    rows, columns = at[:, None], at[None, :]
    a = tl.load(x + rows * BLOCK + columns)
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for _ in tl.static_range(ROUNDS % 8 + 1):
        total = tl.dot(a, tl.load(y + rows * BLOCK + columns), total)
        total = total / (1 + tl.exp(-total)) + ROUNDS
    tl.store(out + rows * BLOCK + columns, total)


def arguments() -> dict[str, Any]:
    import torch

    half = torch.float16
    return {"x": torch.zeros(N, N, dtype=half), "y": torch.zeros(N, N, dtype=half), "out": torch.zeros(N, N), "n": N}


def size(folder: Path) -> tuple[int, int]:
    """Kernels and bytes in a cache."""
    return len(list(folder.glob("*/__grp__scores*"))), sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def main(count: int) -> None:
    """Print both sizes."""
    space = Space(
        {"ROUNDS": Integer(0, -(-count // 4) - 1), "BLOCK": Choice([16, 32]), "num_warps": Choice([2, 4])},
        default={"ROUNDS": 0, "BLOCK": 32, "num_warps": 4},
    )
    with tempfile.TemporaryDirectory() as folder:
        left, whole = Path(folder, "left"), Path(folder, "whole")
        os.environ["TRITON_CACHE_DIR"] = str(left)
        evaluator = TritonEvaluator(
            scores, arguments, grid=(1,), device="interpreter", target="sm_90", warmup_ms=0.0, target_ms=1.0,
            min_repeats=1, max_repeats=1,
        )  # fmt: skip
        result = autotune.tune(space, evaluator, "random_search", budget=Budget(evaluations=count))
        kernels, taken = size(left)
        print(f"{result.evaluations} configs: {kernels} kernels, {taken / 1e6:.2f} MB left in Triton's cache")
        from autotune.backends.triton.precompile import precompile

        some = list(space.enumerate())[:: max(1, count // 20)][:20]
        list(precompile(space, evaluator, some, "sm_90", whole))
        kernels, taken = size(whole)
        print(f"{kernels} kernels whole: {taken / 1e6:.2f} MB, {taken / 1e6 / kernels * count:.0f} MB for all")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
