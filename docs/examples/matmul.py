"""Tune a Triton matrix product: `autotune tune docs/examples/matmul.py` (needs an NVIDIA GPU, torch and Triton).

autotune compile docs/examples/matmul.py --target sm_90 --sample 20    # no GPU: does it compile, what does it need?
autotune simulate builtin:matmul --evaluations 200                     # no GPU: search what an H200 has measured
"""

from typing import Any

import triton
import triton.language as tl

from autotune import Budget, Integer, PowerOfTwo, Problem, Space, TritonEvaluator, tune

N = 4096


# GROUP_M is an argument at run time, and one for which Triton makes no special case: configs that differ in nothing
# else share their binary, which is compiled once.
@triton.jit(do_not_specialize=["GROUP_M"])
def matmul(
    a, b, c, M, N, K, GROUP_M, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr
):  # fmt: skip
    """c[M, N] = a[M, K] @ b[K, N], row-major, each dimension a multiple of its block."""
    # Programs that run at the same time should need the same blocks of a and b: go down GROUP_M rows of blocks, then on
    # to the next column.
    program = tl.program_id(0)
    columns = tl.cdiv(N, BLOCK_N)
    group = program // (GROUP_M * columns)
    height = min(tl.cdiv(M, BLOCK_M) - group * GROUP_M, GROUP_M)
    within = program % (GROUP_M * columns)
    m = (group * GROUP_M + within % height) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = (within // height) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    a_block = a + m[:, None] * K + k[None, :]
    b_block = b + k[:, None] * N + n[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for _ in range(0, K, BLOCK_K):
        total = tl.dot(tl.load(a_block), tl.load(b_block), total)
        a_block += BLOCK_K
        b_block += BLOCK_K * N
    tl.store(c + m[:, None] * N + n[None, :], total.to(c.dtype.element_ty))


def arguments(n: int = N, device: str = "cuda", dtype: str = "bfloat16") -> dict[str, Any]:
    """Two square matrices, made in the process of the GPU. The one that searches does without torch."""
    import torch

    a, b, c = (torch.randn(n, n, device=device).to(getattr(torch, dtype)) for _ in range(3))
    return {"a": a, "b": b, "c": c, "M": n, "N": n, "K": n}


def grid(meta: Any) -> tuple[int]:
    """One program for each block of c."""
    return (triton.cdiv(meta["M"], meta["BLOCK_M"]) * triton.cdiv(meta["N"], meta["BLOCK_N"]),)


space = Space(
    {
        "BLOCK_M": PowerOfTwo(32, 256, role="block_size"),
        "BLOCK_N": PowerOfTwo(32, 256, role="block_size"),
        "BLOCK_K": PowerOfTwo(16, 128, role="block_size"),
        "GROUP_M": PowerOfTwo(1, 16),
        "num_warps": PowerOfTwo(2, 16, role="num_warps"),
        "num_stages": Integer(1, 6),
    },
    default={"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32, "GROUP_M": 8, "num_warps": 4, "num_stages": 3},
)
evaluator = TritonEvaluator(
    matmul, arguments, grid=grid, reference=lambda a, b: a @ b, outputs=("c",), reduction=N, compile_timeout_s=20.0
)
problem = Problem(space, evaluator, budget=Budget(seconds=150))

if __name__ == "__main__":
    result = tune(space, evaluator, budget=Budget(seconds=150))
    print(result.best.config, f"{result.best.time_ms:.4f} ms, {2 * N**3 / result.best.time_ms / 1e9:.0f} TFLOP/s")
