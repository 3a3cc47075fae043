"""Tensors without memory are what torch makes of them, and are made without what takes seconds to import."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autotune.backends.triton.meta_tensors import without_memory  # noqa: E402

CALLS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "scaled": lambda x, h, i: x * 0.1,
    "divided": lambda x, h, i: torch.randn(64, 64) / 30,
    "whole numbers divided": lambda x, h, i: i / 3,
    "divided down": lambda x, h, i: i // 3,
    "rounding": lambda x, h, i: torch.div(i, 3, rounding_mode="floor"),
    "the other way round": lambda x, h, i: 1 / (2 - x) ** 2,
    "a power of a number": lambda x, h, i: 2**x,
    "two types": lambda x, h, i: x + h,
    "with whole numbers": lambda x, h, i: h * i,
    "broadcast": lambda x, h, i: x[:, :1] * h[0],
    "one number": lambda x, h, i: torch.tensor(2.0, dtype=torch.float64) * h,
    "compared": lambda x, h, i: (x > 0) & (h == 1),
    "chosen": lambda x, h, i: torch.where(x > 0, x, h),
    "masked": lambda x, h, i: x.masked_fill(x > 1, 1.0),
    "between": lambda x, h, i: h.clamp(-1, 1) + torch.clamp(x, min=0),
    "shifted": lambda x, h, i: (i >> 1) & 3,
    "exponential": lambda x, h, i: torch.exp(h).sqrt(),
    "of whole numbers": lambda x, h, i: i.float().exp() + i.sqrt(),
    "activated": lambda x, h, i: torch.nn.functional.gelu(torch.nn.functional.silu(h)),
    "like": lambda x, h, i: torch.empty_like(h, dtype=torch.float32),
    "random like": lambda x, h, i: torch.randn_like(x) + torch.rand_like(h),
    "zeros like": lambda x, h, i: torch.zeros_like(i),
    "drawn": lambda x, h, i: torch.randint(0, 9, (3, 5)),
    "drawn up to": lambda x, h, i: torch.randint(9, size=(4,), dtype=torch.int32),
    "counted": lambda x, h, i: torch.arange(2, 17, 3),
    "counted in halves": lambda x, h, i: torch.arange(0.0, 2.0, 0.5),
    "in place": lambda x, h, i: torch.empty(7, 9).normal_().mul_(2).clamp_(0, 1),
    "turned over": lambda x, h, i: x.T * 2 + x.T,
    "like what is turned over": lambda x, h, i: torch.empty_like(x.T),
    "with gaps": lambda x, h, i: x[:, ::2] * 2,
    "added up": lambda x, h, i: (x * h).sum(-1, keepdim=True),
    "together": lambda x, h, i: torch.cat([x, x * 2]),
    "nothing": lambda x, h, i: x[:0] * 2,
    "complex": lambda x, h, i: x * 1j,
}


def three() -> tuple[Any, Any, Any]:
    return torch.randn(64, 64), torch.randn(64, 64).half(), torch.ones(64, 64, dtype=torch.int32)


@pytest.mark.parametrize("call", CALLS)
def test_it_is_what_torch_makes_of_it(call: str) -> None:
    real = CALLS[call](*three())
    with without_memory():
        seen = CALLS[call](*three())
        assert seen.is_meta
    assert (seen.shape, seen.dtype, seen.stride()) == (real.shape, real.dtype, real.stride())


def test_what_torch_refuses_is_refused() -> None:
    with without_memory(), pytest.raises(RuntimeError, match="broadcast"):
        torch.randn(3, 4) * torch.randn(3, 5)
    with without_memory(), pytest.raises(TypeError):
        torch.randn(3) + "x"


def test_usual_arguments_do_not_import_what_takes_seconds() -> None:
    usual = (
        "import sys, torch; from autotune.backends.triton.meta_tensors import without_memory\n"
        "with without_memory():\n"
        "    x = (torch.randn(64, 64, device='cuda') / 8).to(torch.bfloat16)\n"
        "    w = torch.randint(-127, 128, (64, 64), device='cuda', dtype=torch.int8) * torch.rand(64, 1)\n"
        "    y = torch.zeros_like(x); s = torch.rand(64, device='cuda') * 0.01 + 1; torch.arange(64, device='cuda')\n"
        "    y.normal_(); z = torch.empty(3, 3).uniform_(-1, 1)\n"
        "print(*(name for name in ('sympy', 'torch._dynamo', 'torch._inductor') if name in sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", usual], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


@pytest.mark.parametrize("device", [("cuda", 0), ("cuda:0",), ("cuda",), ("cpu",)])
def test_devices_can_be_named_in_every_way(device: tuple[Any, ...]) -> None:
    """Triton's driver answers `get_active_torch_device` with a number."""
    with without_memory():
        assert torch.empty(3, device=torch.device(*device)).device == torch.device("cuda", 0)
        assert torch.device(type="cuda", index=0) == torch.device("cuda", 0)
