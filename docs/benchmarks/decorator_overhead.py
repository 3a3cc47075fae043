"""What a later call of a decorated kernel costs the host, `autotune.triton` beside `triton.autotune`; and a kernel of
`triton.autotune` where `autotune.triton.install()` was called.

    python docs/benchmarks/decorator_overhead.py [--launch]

Both decorators have found their config. Then the same call is made many times with each, in turn, over the very same
kernel object, whose launch is left out: what remains is what the decorators themselves take. With --launch (on a GPU)
real launches are timed as well, and the launch of the bare kernel with the config written out. Microseconds of one
call; the least and the median of the rounds. Exits with 1 where autotune.triton adds 20 us or more to triton.autotune.
"""

# ruff: noqa: E402 (what the environment says is read when Triton is imported)
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns
from typing import Any

os.environ.setdefault("AUTOTUNE_CACHE_DIR", tempfile.mkdtemp(prefix="autotune-"))
os.environ["AUTOTUNE_PROGRESS"] = "0"

import torch

GPU = torch.cuda.is_available()
if not GPU:
    os.environ["TRITON_INTERPRET"] = "1"

import triton
import triton.language as tl
from triton.runtime.autotuner import Autotuner

import autotune

ROUNDS, CALLS, LAUNCHES = 41, 2000, 400
LIMIT_US = 20.0
DEVICE = "cuda" if GPU else "cpu"
N = 1 << 12


class Installed(Autotuner):
    """A kernel of `triton.autotune` where `autotune.triton` is installed: only its own `run` is replaced here."""


TRITONS_RUN = Autotuner.run
autotune.triton.install()
Installed.run, Autotuner.run = Autotuner.run, TRITONS_RUN


def add(a, b, c, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) + tl.load(b + at, mask=at < n), mask=at < n)


def matmul_like(  # type: ignore[no-untyped-def]
    a, b, c, bias, M, N, K, sam, sak, sbk, sbn, scm, scn, EVEN: tl.constexpr, ACT: tl.constexpr, BLOCK: tl.constexpr
):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < M) + tl.load(b + at, mask=at < M), mask=at < M)


def grid(meta: Any) -> tuple[int]:
    return (triton.cdiv(N, meta["BLOCK"]),)


def configs() -> list[Any]:
    return [triton.Config({"BLOCK": block}, num_warps=4) for block in (256, 1024)]


def do_bench(call: Callable[[], Any], quantiles: Any) -> list[float]:
    call()
    return [1.0, 1.0, 1.0]


def tensors() -> list[Any]:
    return [torch.ones(N, device=DEVICE) for _ in range(4)]


def cases() -> dict[str, tuple[Any, list[str], tuple[Any, ...], dict[str, Any]]]:
    a, b, c, d = tensors()
    return {
        "4 arguments, 1 key": (add, ["n"], (a, b, c, N), {}),
        "13 arguments, 3 keys, 2 constants": (
            matmul_like, ["M", "N", "K"], (a, b, c, d, N, N, N, N, 1, N, 1, N, 1), {"EVEN": True, "ACT": "relu"},
        ),
    }  # fmt: skip


def decorated(function: Any, key: list[str]) -> dict[str, Any]:
    kernel = triton.jit(function)
    return {
        "triton.autotune": triton.autotune(configs(), key=key, do_bench=do_bench)(kernel),
        "autotune.triton": autotune.triton(configs(), key=key, do_bench=do_bench)(kernel),
        "triton.autotune, installed": Installed(
            kernel, kernel.arg_names, configs(), key, None, None, do_bench=do_bench
        ),
    }


def microseconds(call: Callable[[], Any], count: int) -> float:
    begin = perf_counter_ns()
    for _ in range(count):
        call()
    return (perf_counter_ns() - begin) / count / 1e3


def rounds(calls: dict[str, Callable[[], Any]], count: int) -> dict[str, list[float]]:
    """In turn, so that whatever else the machine does falls on all alike."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            found[name].append(microseconds(call, count))
            if GPU:
                torch.cuda.synchronize()
    return found


def show(title: str, found: dict[str, list[float]]) -> float:
    print(title)
    for name, times in found.items():
        print(f"    {name:34} least {min(times):7.2f}  median {statistics.median(times):7.2f}")
    added = statistics.median(found["autotune.triton"]) - statistics.median(found["triton.autotune"])
    print(f"    autotune.triton adds {added:+.2f} us to triton.autotune")
    return added


def nothing(*_: Any, **__: Any) -> None:
    """In place of the launch."""


def measured(title: str, function: Any, key: list[str], args: tuple[Any, ...], options: dict[str, Any]) -> float:
    """The most that autotune.triton adds."""
    kernels = decorated(function, key)
    calls: dict[str, Callable[[], Any]] = {}
    for name, kernel in kernels.items():
        calls[name] = partial(launch, kernel, args, options)
        calls[name]()
    bare, worst = kernels["triton.autotune"].fn, 0.0
    if GPU and "--launch" in sys.argv:
        plain = partial(launch, bare, args, {**options, "BLOCK": 256, "num_warps": 4})
        every = {**calls, "the kernel with a config written out": plain}
        worst = show(f"{title}: with the launch, us", rounds(every, LAUNCHES))
    bare.run = nothing  # the same object is below both
    return max(worst, show(f"{title}: without the launch, us", rounds(calls, CALLS)))


def launch(kernel: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    kernel[grid](*args, **options)


def main() -> int:
    print(f"torch {torch.__version__}, triton {triton.__version__}, python {sys.version.split()[0]}, on {DEVICE}")
    return int(max(measured(title, *case) for title, case in cases().items()) >= LIMIT_US)


if __name__ == "__main__":
    sys.exit(main())
