"""Four Helion kernels as its own examples compute them (matmul, rms_norm, softmax, attention), with their arguments."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import helion
import helion.language as hl
import torch
from torch import Tensor


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The product of [m, k] and [k, n], accumulated in float32."""
    m, k = a.size()
    _, n = b.size()
    c = torch.empty([m, n], dtype=a.dtype, device=a.device)
    for rows, columns in hl.tile([m, n]):
        total = hl.zeros([rows, columns], dtype=torch.float32)
        for inner in hl.tile(k):
            total = torch.addmm(total, a[rows, inner], b[inner, columns])
        c[rows, columns] = total.to(c.dtype)
    return c


def rms_norm(x: Tensor, scale: Tensor) -> Tensor:
    """Each row of [m, n] divided by its root mean square, times `scale` [n]."""
    y = torch.empty_like(x)
    for rows in hl.tile(x.size(0)):
        wide = x[rows, :].to(torch.float32)
        inverse = torch.rsqrt((wide * wide).mean(-1) + 1e-5)
        y[rows, :] = (wide * inverse[:, None] * scale[:].to(torch.float32)).to(x.dtype)
    return y


def softmax(x: Tensor) -> Tensor:
    """Softmax of each row of [m, n] in two passes: the maximum and the sum, then the quotients."""
    m, n = x.size()
    y = torch.empty_like(x)
    row_block, column_block = hl.register_block_size(m), hl.register_block_size(n)
    for rows in hl.tile(m, block_size=row_block):
        top = hl.full([rows], float("-inf"), dtype=torch.float32)
        total = hl.zeros([rows], dtype=torch.float32)
        for columns in hl.tile(n, block_size=column_block):
            part = x[rows, columns].to(torch.float32)
            higher = torch.maximum(top, part.amax(dim=1))
            total = total * torch.exp(top - higher) + torch.exp(part - higher[:, None]).sum(dim=1)
            top = higher
        for columns in hl.tile(n, block_size=column_block):
            part = x[rows, columns].to(torch.float32)
            y[rows, columns] = (torch.exp(part - top[:, None]) / total[:, None]).to(x.dtype)
    return y


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention over [heads, length, width] with a running softmax."""
    heads, length, width = q.size(0), q.size(1), hl.specialize(q.size(2))
    y = torch.empty_like(q)
    scale = 1.0 / math.sqrt(width) * math.log2(math.e)
    for head, queries in hl.tile([heads, length]):
        top = hl.full([head, queries], float("-inf"), dtype=torch.float32)
        total = torch.full_like(top, 1.0)
        mixed = hl.zeros([head, queries, width], dtype=torch.float32)
        query = q[head, queries, :]
        for keys in hl.tile(k.size(1)):
            score = torch.bmm(query * scale, k[head, keys, :].transpose(1, 2), torch.float32)
            higher = torch.maximum(top, torch.amax(score, -1))
            weight = torch.exp2(score - higher[:, :, None])
            shrink = torch.exp2(top - higher)
            total = total * shrink + weight.sum(-1)
            mixed = torch.baddbmm(mixed * shrink[:, :, None], weight.to(v.dtype), v[head, keys, :])
            top = higher
        y[head, queries, :] = (mixed / total[:, :, None]).to(y.dtype)
    return y


class Kernel(NamedTuple):
    """A function in Helion's language, and what to call it with: sizes on a GPU, small ones where there is none."""

    function: Callable[..., Tensor]
    large: tuple[tuple[int, ...], ...]
    small: tuple[tuple[int, ...], ...]
    settings: dict[str, Any]

    def make(self, **settings: Any) -> Any:
        """The Helion kernel with these settings, which go before its own."""
        return helion.kernel(self.function, **{"static_shapes": True, **self.settings, **settings})

    def arguments(self, device: str) -> tuple[Tensor, ...]:
        """Normally distributed float16 tensors, the same each time."""
        shapes = self.large if device != "cpu" else self.small
        generator = torch.Generator(device=device).manual_seed(0)
        return tuple(torch.randn(s, device=device, dtype=torch.float16, generator=generator) for s in shapes)


KERNELS: dict[str, Kernel] = {
    "matmul": Kernel(
        matmul, ((4096, 4096), (4096, 4096)), ((64, 32), (32, 64)),
        {"autotune_config_overrides": {"range_unroll_factors": [0, 0], "range_num_stages": [0, 0]}},
    ),
    "rms_norm": Kernel(rms_norm, ((8192, 8192), (8192,)), ((64, 256), (256,)), {}),
    "softmax": Kernel(softmax, ((8192, 8192),), ((64, 256),), {}),
    "attention": Kernel(attention, ((32, 4096, 64),) * 3, ((2, 64, 64),) * 3, {}),
}  # fmt: skip
