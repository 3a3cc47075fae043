"""Tune causal attention, forward, after FlashAttention-2: `autotune tune docs/examples/attention.py`."""

from math import log2, sqrt
from typing import Any

import triton
import triton.language as tl

from autotune import Boolean, Budget, Integer, PowerOfTwo, Problem, Space, TritonEvaluator, tune

HEADS, LENGTH, WIDTH = 32, 4096, 128
LOG2_E = log2(2.718281828459045)


@triton.jit
def attended(
    total, weight, top, q, k, v, first, last, rows, LENGTH, WIDTH: tl.constexpr, BLOCK_N: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    """Take in the keys from `first` to `last`: the softmax so far is total / weight, with exponents less `top`."""
    d = tl.arange(0, WIDTH)
    for start in range(first, last, BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)
        score = tl.dot(q, tl.load(k + columns[None, :] * WIDTH + d[:, None]))
        if MASKED:
            score = tl.where(rows[:, None] >= columns[None, :], score, float("-inf"))
        higher = tl.maximum(top, tl.max(score, 1))
        p = tl.exp2(score - higher[:, None])
        shrink = tl.exp2(top - higher)
        weight = weight * shrink + tl.sum(p, 1)
        total = tl.dot(
            p.to(v.dtype.element_ty), tl.load(v + columns[:, None] * WIDTH + d[None, :]), total * shrink[:, None]
        )
        top = higher
    return total, weight, top


# The last two change which program does what, not what it does: one binary serves all four orders.
@triton.jit(do_not_specialize=["heads_first", "longest_first"])
def attention(
    q, k, v, out, LENGTH, scale, heads_first, longest_first, HEADS: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """out[h] = softmax(q[h] @ k[h].T / sqrt(WIDTH), causal) @ v[h], each [HEADS, LENGTH, WIDTH]. scale: for exp2."""
    program, blocks = tl.program_id(0), LENGTH // BLOCK_M
    head = tl.where(heads_first != 0, program % HEADS, program // blocks)
    block = tl.where(heads_first != 0, program // HEADS, program % blocks)
    block = tl.where(longest_first != 0, blocks - 1 - block, block)
    offset = head.to(tl.int64) * LENGTH * WIDTH
    q, k, v, out = q + offset, k + offset, v + offset, out + offset
    rows, d = block * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, WIDTH)
    q_block = (tl.load(q + rows[:, None] * WIDTH + d[None, :]) * scale).to(q.dtype.element_ty)
    total = tl.zeros((BLOCK_M, WIDTH), tl.float32)
    weight = tl.zeros((BLOCK_M,), tl.float32)
    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    # All keys before this block of queries are seen by all of them; only those beside it need the mask.
    seen = block * BLOCK_M
    total, weight, top = attended(total, weight, top, q_block, k, v, 0, seen, rows, LENGTH, WIDTH, BLOCK_N, False)
    total, weight, top = attended(
        total, weight, top, q_block, k, v, seen, seen + BLOCK_M, rows, LENGTH, WIDTH, BLOCK_N, True
    )
    tl.store(out + rows[:, None] * WIDTH + d[None, :], (total / weight[:, None]).to(out.dtype.element_ty))


def arguments(
    heads: int = HEADS, length: int = LENGTH, width: int = WIDTH, device: str = "cuda", dtype: str = "bfloat16"
) -> dict[str, Any]:
    """One sequence."""
    import torch

    q, k, v, out = (torch.randn(heads, length, width, device=device).to(getattr(torch, dtype)) for _ in range(4))
    sizes = {"LENGTH": length, "HEADS": heads, "WIDTH": width}
    return {"q": q, "k": k, "v": v, "out": out, "scale": LOG2_E / sqrt(width), **sizes}


def reference(q: Any, k: Any, v: Any) -> Any:
    """torch's own."""
    import torch

    return torch.nn.functional.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]


def grid(meta: Any) -> tuple[int]:
    """One program for each block of queries of each head."""
    return (meta["HEADS"] * (meta["LENGTH"] // meta["BLOCK_M"]),)


space = Space(
    {
        "BLOCK_M": PowerOfTwo(32, 256, role="block_size"),
        "BLOCK_N": PowerOfTwo(16, 128, role="block_size"),
        "heads_first": Boolean(),
        "longest_first": Boolean(),
        "num_warps": PowerOfTwo(2, 16, role="num_warps"),
        "num_stages": Integer(1, 5),
    },
    constraints=["BLOCK_N <= BLOCK_M"],
    default={
        "BLOCK_M": 64, "BLOCK_N": 64, "heads_first": False, "longest_first": False, "num_warps": 4, "num_stages": 3,
    },
)  # fmt: skip
evaluator = TritonEvaluator(
    attention, arguments, grid=grid, reference=reference, outputs=("out",), rtol=3e-2, atol=3e-2, compile_timeout_s=20.0
)
problem = Problem(space, evaluator, budget=Budget(seconds=120))

if __name__ == "__main__":
    result = tune(space, evaluator, budget=Budget(seconds=120))
    rate = 2 * HEADS * LENGTH**2 * WIDTH / result.best.time_ms / 1e9
    print(result.best.config, f"{result.best.time_ms:.4f} ms, {rate:.0f} TFLOP/s")
