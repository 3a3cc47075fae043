"""Kernels and planted faults for the tests of the Triton evaluator; workers import this module by its name."""

import ctypes
import os
import time
from typing import Any

import triton
import triton.language as tl

from autotune import Config

N = 1000


@triton.jit
def doubled(x):
    return x * 2


@triton.jit
def add(a, b, c, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, doubled(tl.load(a + at, mask=at < n)) + tl.load(b + at, mask=at < n), mask=at < n)


@triton.jit(do_not_specialize=["plain"])
def scaled(a, c, n, factor, plain, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) * factor * plain, mask=at < n)


def scaled_arguments() -> dict[str, Any]:
    import torch

    return {"a": torch.empty(N, device="meta"), "c": torch.empty(N, device="meta"), "n": N}


@triton.jit
def tiles(x, y, out, N: tl.constexpr):
    at = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
    tl.store(out + at, tl.dot(tl.load(x + at), tl.load(y + at)))


@triton.jit
def zoo(x, out, n, KIND: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < n)
    if KIND == 1:
        while tl.load(x) < 1e30:
            value += 1
    if KIND == 2:
        value += 1
    if KIND == 3:
        tl.store(out + at, value * 2, mask=(at < n) & (at % 7 != 0))
    elif KIND == 4:
        rows, steps = tl.arange(0, 64), tl.arange(0, 128)
        total = tl.zeros((64, 64), tl.float32)
        for k in range(0, n // 64, 128):
            p = tl.load(x + rows[:, None] * 128 + k + steps[None, :])
            q = tl.load(x + (k + steps)[:, None] * 64 + rows[None, :])
            total = tl.dot(p, q, total)
        tl.store(out + rows[:, None] * 64 + rows[None, :], total)
    elif KIND == 5:
        tl.store(out + at, value * not_a_function(value))  # noqa: F821
    else:
        tl.store(out + at, value * 2, mask=at < n)
    if KIND == 6:
        tl.store(x + at, value + 1, mask=at < n)


KINDS = {"infinite loop": 1, "wrong": 2, "unwritten": 3, "shared memory": 4, "compile error": 5, "mutates": 6}


def zoo_build(config: Config) -> Any:
    what = config["what"]

    def launch(x: Any, out: Any, n: int) -> None:
        compiling = x.is_meta
        if what == "compile hangs" and compiling:
            os.system("sleep 1000")
        if what == "compiler crashes" and compiling:
            ctypes.string_at(0)
        if what == "crashes" and not compiling:
            ctypes.string_at(0)
        if what == "raises" and not compiling:
            raise RuntimeError("planted")
        if what == "is slow" and not compiling:
            time.sleep(0.05)
        zoo[(triton.cdiv(n, 256),)](x, out, n, KIND=KINDS.get(what, 0), BLOCK=256, num_stages=8)

    return launch


def zoo_arguments() -> tuple[Any, ...]:
    import torch

    x = torch.randn(N)
    return x, torch.empty_like(x), N


def add_arguments() -> dict[str, Any]:
    import torch

    return {"a": torch.randn(N), "b": torch.randn(N + 1)[1:], "c": torch.empty(N), "n": N}


def add_arguments_that_need_data() -> dict[str, Any]:
    """They cannot be made without memory: a number is read from a tensor."""
    named = add_arguments()
    return {**named, "n": int((named["a"] * 0).sum().item()) + N}


def add_grid(meta: Any) -> tuple[int]:
    return (triton.cdiv(meta["n"], meta["BLOCK"]),)


def add_reference(a: Any, b: Any) -> Any:
    return 2 * a + b
