"""Tune a row kernel that is bound by memory, the RMS norm: `autotune tune docs/examples/rms_norm.py`."""

from typing import Any

import triton
import triton.language as tl

from autotune import Budget, Integer, PowerOfTwo, Problem, Space, TritonEvaluator, tune

ROWS, N = 16384, 5120
EPS = 1e-6


@triton.jit(do_not_specialize=["STEPS"])
def rms_norm(
    x, w, y, ROWS, eps, STEPS, N: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """y = x / sqrt(mean(x**2) + eps) * w for each row of x[ROWS, N]. A program does STEPS times BLOCK_ROWS rows.

    Where a whole row fits into BLOCK it is read once; else it is read BLOCK columns at a time, and twice.
    """
    for step in range(STEPS):
        row = (tl.program_id(0) * STEPS + step) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None]
        if BLOCK >= N:
            n = tl.arange(0, BLOCK)[None, :]
            mask = (row < ROWS) & (n < N)
            value = tl.load(x + row * N + n, mask=mask, other=0.0).to(tl.float32)
            scale = tl.rsqrt(tl.sum(value * value, 1)[:, None] / N + eps)
            scaled = value * scale * tl.load(w + n, mask=n < N, other=0.0).to(tl.float32)
            tl.store(y + row * N + n, scaled.to(y.dtype.element_ty), mask=mask)
        else:
            squares = tl.zeros((BLOCK_ROWS, BLOCK), tl.float32)
            for start in range(0, N, BLOCK):
                n = start + tl.arange(0, BLOCK)[None, :]
                value = tl.load(x + row * N + n, mask=(row < ROWS) & (n < N), other=0.0).to(tl.float32)
                squares += value * value
            scale = tl.rsqrt(tl.sum(squares, 1)[:, None] / N + eps)
            for start in range(0, N, BLOCK):
                n = start + tl.arange(0, BLOCK)[None, :]
                mask = (row < ROWS) & (n < N)
                value = tl.load(x + row * N + n, mask=mask, other=0.0).to(tl.float32)
                scaled = value * scale * tl.load(w + n, mask=n < N, other=0.0).to(tl.float32)
                tl.store(y + row * N + n, scaled.to(y.dtype.element_ty), mask=mask)


def arguments(rows: int = ROWS, n: int = N, device: str = "cuda") -> dict[str, Any]:
    """Activations of so many tokens."""
    import torch

    x, y = (torch.randn(rows, n, device=device).to(torch.bfloat16) for _ in range(2))
    w = torch.randn(n, device=device).to(torch.bfloat16)
    return {"x": x, "w": w, "y": y, "ROWS": rows, "eps": EPS, "N": n}


def reference(x: Any, w: Any, eps: float) -> Any:
    """In float32, rounded at the end."""
    wide = x.float()
    return (wide * (wide.square().mean(1, keepdim=True) + eps).rsqrt() * w.float()).to(x.dtype)


def grid(meta: Any) -> tuple[int]:
    """So many programs that all rows are done."""
    return (triton.cdiv(meta["ROWS"], meta["BLOCK_ROWS"] * meta["STEPS"]),)


space = Space(
    {
        "BLOCK_ROWS": PowerOfTwo(1, 4),
        "BLOCK": PowerOfTwo(512, 8192, role="block_size"),
        "STEPS": PowerOfTwo(1, 8),
        "num_warps": PowerOfTwo(1, 16, role="num_warps"),
        "num_stages": Integer(1, 3),
    },
    constraints=["BLOCK_ROWS * BLOCK <= 16384"],
    default={"BLOCK_ROWS": 1, "BLOCK": 1024, "STEPS": 1, "num_warps": 4, "num_stages": 1},
)
evaluator = TritonEvaluator(rms_norm, arguments, grid=grid, reference=reference, outputs=("y",), compile_timeout_s=20.0)
problem = Problem(space, evaluator, budget=Budget(seconds=60))

if __name__ == "__main__":
    result = tune(space, evaluator, budget=Budget(seconds=60))
    print(result.best.config, f"{result.best.time_ms:.4f} ms, {4 * ROWS * N / result.best.time_ms / 1e9:.2f} TB/s")
