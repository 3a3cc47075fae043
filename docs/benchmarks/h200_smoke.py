"""A first look at the Triton evaluator on a GPU: a bf16 matmul under a budget, then a batch of planted bad configs.

    python docs/benchmarks/h200_smoke.py [seconds for the matmul]

Prints one JSON object a step. Takes about the given seconds (60) and a minute more.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import triton
import triton.language as tl

from autotune import Budget, Config, Integer, PowerOfTwo, Space, Trial, TritonEvaluator, tune
from autotune.core.search.messages import Limits, Observed
from autotune.shell.evaluators.triton.machine import compile_workers
from autotune.shell.evaluators.triton.timeline import busy_share, read_timeline

N = 4096


@triton.jit
def matmul(
    a, b, c, M, N, K, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M
):  # GROUP_M is an argument at run time: configs that differ in it share their binary
    pid = tl.program_id(0)
    across = tl.cdiv(N, BLOCK_N)
    in_group = GROUP_M * across
    first = (pid // in_group) * GROUP_M
    size = min(tl.cdiv(M, BLOCK_M) - first, GROUP_M)
    at_m = first + ((pid % in_group) % size)
    at_n = (pid % in_group) // size
    rows = at_m * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = at_n * BLOCK_N + tl.arange(0, BLOCK_N)
    steps = tl.arange(0, BLOCK_K)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in range(0, K, BLOCK_K):
        x = tl.load(a + rows[:, None] * K + (k + steps)[None, :])
        y = tl.load(b + (k + steps)[:, None] * N + columns[None, :])
        total = tl.dot(x, y, total)
    tl.store(c + rows[:, None] * N + columns[None, :], total.to(tl.bfloat16))


def arguments() -> dict[str, Any]:
    import torch

    a, b = (torch.randn(N, N, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return {"a": a, "b": b, "c": torch.empty(N, N, device="cuda", dtype=torch.bfloat16), "M": N, "N": N, "K": N}


def grid(meta: Any) -> tuple[int]:
    return (triton.cdiv(meta["M"], meta["BLOCK_M"]) * triton.cdiv(meta["N"], meta["BLOCK_N"]),)


SPACE = Space(
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


def search(seconds: float) -> None:
    """Tune the matmul, and say how busy everything was."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "timeline.jsonl"
        evaluator = TritonEvaluator(
            matmul, arguments, grid=grid, reference=lambda a, b: a @ b, outputs=("c",), timeline=path,
            compile_timeout_s=20.0, cache_dir=Path(folder) / "cache", reduction=N,
        )  # fmt: skip
        firsts: list[tuple[float, float]] = []

        def watch(search: Any, event: Any) -> None:
            best = None if search.best_ms is None else round(search.best_ms, 4)
            if isinstance(event, Observed) and best is not None and (not firsts or best < firsts[-1][1]):
                firsts.append((round(event.at, 2), best))

        began = time.monotonic()
        result = tune(SPACE, evaluator, budget=Budget(seconds=seconds), progress=watch)
        spans = read_timeline(path)
        compilers = compile_workers(1)
        last = max(span.end_s for span in spans)
        print(
            json.dumps(
                {
                    "step": "matmul", "seconds": round(time.monotonic() - began, 1), "best": dict(result.best.config),
                    "best_ms": result.best.time_ms, "default_ms": result.default and result.default.time_ms,
                    "evaluations": result.evaluations, "counts": result.counts, "improvements": firsts,
                    "first_compile_s": spans and min(span.start_s for span in spans if span.what == "compile"),
                    "first_run_s": spans and min(span.start_s for span in spans if span.what == "run"),
                    "compilers": compilers, "run_spans": sum(span.what == "run" for span in spans),
                    "gpu_busy": round(sum(s.end_s - s.start_s for s in spans if s.what == "run") / last, 3),
                    "compile_busy": round(
                        sum(s.end_s - s.start_s for s in spans if s.what == "compile") / last / max(compilers, 1), 3
                    ),
                    "busy_share": round(busy_share(spans, compilers, 0.0, last), 3),
                },
                default=str,
            )
        )  # fmt: skip


@triton.jit
def zoo(x, out, n, KIND: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < n)
    if KIND == 1:  # never ends
        while tl.load(x) < 1e30:
            value += 1
    if KIND == 2:  # far outside of any allocation
        value += tl.load(x + at.to(tl.int64) * 1000000007 * 64)
    if KIND == 3:
        value += 1
    if KIND == 4:  # a part is not written
        tl.store(out + at, value * 2, mask=(at < n) & (at % 7 != 0))
    elif KIND == 5:  # more shared memory than there is, with num_stages=8
        rows, steps = tl.arange(0, 64), tl.arange(0, 128)
        total = tl.zeros((64, 64), tl.float32)
        for k in range(0, n // 64, 128):
            p = tl.load(x + rows[:, None] * 128 + k + steps[None, :])
            q = tl.load(x + (k + steps)[:, None] * 64 + rows[None, :])
            total = tl.dot(p, q, total)
        tl.store(out + rows[:, None] * 64 + rows[None, :], total)
    else:
        tl.store(out + at, value * 2, mask=at < n)


def zoo_build(config: Config) -> Any:
    """Configs that hang and crash in Python as well."""
    import ctypes

    what = config["what"]

    def launch(x: Any, out: Any, n: int) -> None:
        if what == "host segfault" and not x.is_meta:
            ctypes.string_at(0)
        if what == "three minute compile" and x.is_meta:
            time.sleep(180)
        kind = KINDS.get(what, 0)
        zoo[(triton.cdiv(n, 1024),)](x, out, n, KIND=kind, BLOCK=1024, num_stages=8)

    return launch


KINDS = {"infinite loop": 1, "illegal address": 2, "wrong answer": 3, "unwritten": 4, "shared memory": 5}
WHAT = ["good", *KINDS, "host segfault", "three minute compile", "good again"]


def zoo_arguments() -> tuple[Any, ...]:
    import torch

    x = torch.randn(1 << 20, device="cuda")
    return x, torch.empty_like(x), 1 << 20


def survive() -> None:
    """Every planted config must get its own outcome and hurt no other."""
    space = Space({"what": __import__("autotune").Choice(WHAT)})
    evaluator = TritonEvaluator(
        arguments=zoo_arguments, build=zoo_build, reference=lambda x, out, n: x * 2, outputs=(1,),
        compile_timeout_s=20.0, run_timeout_s=5.0,
    )  # fmt: skip
    began = time.monotonic()
    with evaluator.open(space) as session:
        session.submit([Trial(i, Config(what=what)) for i, what in enumerate(WHAT)], Limits())
        found: dict[str, Any] = {}
        while len(found) < len(WHAT):
            for event in session.poll():
                assert isinstance(event, Observed)
                found[WHAT[event.trial]] = (round(time.monotonic() - began, 2), event.outcome)
    kinds = Counter(getattr(outcome, "kind", "timed") for _, outcome in found.values())
    print(json.dumps({"step": "zoo", "seconds": round(time.monotonic() - began, 1), "kinds": kinds}))
    for what, (at, outcome) in found.items():
        print(f"  {what:22} after {at:6.2f} s: {outcome}"[:400])


if __name__ == "__main__":
    search(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
    survive()
