"""Tune a product with few rows: `autotune tune docs/examples/splitk_matmul.py`.

Such are those of a language model that writes one token at a time. There are too few blocks of the output to keep all
multiprocessors busy, so the sum over k is shared out as well.
"""

from typing import Any

import triton
import triton.language as tl

from autotune import Budget, Integer, PowerOfTwo, Problem, Space, TritonEvaluator, tune

M, N, K = 16, 8192, 8192


@triton.jit(do_not_specialize=["SPLIT_K"])
def splitk_matmul(
    x, w, y, N, K, SPLIT_K, M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr
):  # fmt: skip
    """y[M, N] += x[M, K] @ w[N, K].T, row-major, N and K multiples of their blocks. SPLIT_K programs share a block."""
    m = tl.arange(0, M)
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    share = tl.cdiv(K // BLOCK_K, SPLIT_K)
    first = tl.program_id(1) * share
    total = tl.zeros((M, BLOCK_N), tl.float32)
    for step in range(first, min(first + share, K // BLOCK_K)):
        k = step * BLOCK_K + tl.arange(0, BLOCK_K)
        x_block = tl.load(x + m[:, None] * K + k[None, :])
        w_block = tl.load(w + n[None, :] * K + k[:, None])
        total = tl.dot(x_block, w_block, total)
    tl.atomic_add(y + m[:, None] * N + n[None, :], total, sem="relaxed")


def arguments(m: int = M, n: int = N, k: int = K, device: str = "cuda", dtype: str = "bfloat16") -> dict[str, Any]:
    """Few rows of activations, the weights of a layer, and an output in float32, for it is added up."""
    import torch

    x, w = (torch.randn(rows, k, device=device).to(getattr(torch, dtype)) for rows in (m, n))
    return {"x": x, "w": w, "y": torch.empty(m, n, device=device), "N": n, "K": k, "M": m}


def reference(x: Any, w: Any) -> Any:
    """In float32, as the kernel adds up."""
    return x.float() @ w.float().T


def grid(meta: Any) -> tuple[int, int]:
    """One program for each block of columns and share of the sum."""
    return triton.cdiv(meta["N"], meta["BLOCK_N"]), meta["SPLIT_K"]


space = Space(
    {
        "BLOCK_N": PowerOfTwo(16, 256, role="block_size"),
        "BLOCK_K": PowerOfTwo(32, 512, role="block_size"),
        "SPLIT_K": PowerOfTwo(1, 16),
        "num_warps": PowerOfTwo(1, 8, role="num_warps"),
        "num_stages": Integer(2, 6),
    },
    constraints=["BLOCK_N * BLOCK_K <= 65536"],
    default={"BLOCK_N": 64, "BLOCK_K": 128, "SPLIT_K": 1, "num_warps": 4, "num_stages": 3},
)
# The output is added to, so it must be zero before every run; that is not timed.
evaluator = TritonEvaluator(
    splitk_matmul, arguments, grid=grid, reference=reference, outputs=("y",), reset_to_zero=("y",), rtol=2e-2, atol=0.5,
    compile_timeout_s=20.0,
)  # fmt: skip
problem = Problem(space, evaluator, budget=Budget(seconds=60))

if __name__ == "__main__":
    result = tune(space, evaluator, budget=Budget(seconds=60))
    print(result.best.config, f"{result.best.time_ms:.4f} ms, {2 * N * K / result.best.time_ms / 1e9:.2f} TB/s")
