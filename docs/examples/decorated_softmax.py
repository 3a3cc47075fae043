"""A row softmax that tunes itself at its first call: `python docs/examples/decorated_softmax.py`.

Without a GPU, Triton's interpreter runs the kernel on the CPU (TRITON_INTERPRET=1): the times then say nothing about
any GPU, but all else happens as it would there. The second run finds what the first one has left in the cache.
"""

import os
import sys

import torch

GPU = torch.cuda.is_available()
if not GPU:
    os.environ["TRITON_INTERPRET"] = "1"

import triton  # noqa: E402 (it reads the environment when it is imported)
import triton.language as tl  # noqa: E402

import autotune  # noqa: E402
from autotune import PowerOfTwo, Space  # noqa: E402

space = Space(
    {
        "BLOCK_ROWS": PowerOfTwo(1, 16, role="block_size"),
        "BLOCK": PowerOfTwo(64, 8192, role="block_size"),
        "num_warps": PowerOfTwo(1, 16, role="num_warps"),
    },
    ["BLOCK_ROWS * BLOCK <= 16384"],
    default={"BLOCK_ROWS": 1, "BLOCK": 1024, "num_warps": 4},
)


@autotune.triton(
    space,
    key=["columns"],
    bucket="power_of_two",  # 1000 and 1024 columns are tuned once
    budget=None if GPU else 5,  # seconds
    reference=lambda x: torch.softmax(x, -1),
)
@triton.jit
def softmax_kernel(x, y, rows, columns, BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None]
    at = tl.arange(0, BLOCK)[None, :]
    highest = tl.full((BLOCK_ROWS, 1), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_ROWS, 1), tl.float32)
    for start in range(0, columns, BLOCK):  # one pass: the sum is scaled down whenever a greater element turns up
        inside = (row < rows) & (start + at < columns)
        value = tl.load(x + row * columns + start + at, mask=inside, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(highest, tl.max(value, 1)[:, None])
        higher = tl.where(row < rows, higher, 0.0)
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(value - higher), 1)[:, None]
        highest = higher
    for start in range(0, columns, BLOCK):
        inside = (row < rows) & (start + at < columns)
        value = tl.load(x + row * columns + start + at, mask=inside, other=float("-inf")).to(tl.float32)
        tl.store(y + row * columns + start + at, (tl.exp(value - highest) / total).to(y.dtype.element_ty), mask=inside)


def softmax(x: torch.Tensor) -> torch.Tensor:
    """Over the last dimension of x[rows, columns]."""
    rows, columns = x.shape
    y = torch.empty_like(x)
    softmax_kernel[lambda meta: (triton.cdiv(rows, meta["BLOCK_ROWS"]),)](x, y, rows, columns)
    return y


def main() -> None:
    rows, device = (8192, "cuda") if GPU else (32, "cpu")
    for columns in (1000, 1024, 3000):
        x = torch.randn(rows, columns, device=device)
        found = softmax(x)
        torch.testing.assert_close(found, torch.softmax(x, -1), rtol=1e-4, atol=1e-6)
        print(f"{columns} columns: {softmax_kernel.best_config}")
    print(softmax_kernel, file=sys.stderr)


if __name__ == "__main__":
    main()
