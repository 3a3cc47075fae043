"""A batch of configs most of which are bad, each in its own way, for h200.py: every one must cost itself alone."""

import ctypes
import time
from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

from autotune import Choice, Config, Failed, Outcome, Space, Timed, Trial, TritonEvaluator
from autotune.core.search.messages import Limits, Observed

N = 1 << 20
BLOCK = 1024
KINDS = {"infinite loop": 1, "illegal address": 2, "wrong answer": 3, "unwritten": 4, "shared memory": 5}
EXPECTED = {
    "good": "timed", "infinite loop": "run_timeout", "illegal address": "run_error", "wrong answer": "wrong_answer",
    "unwritten": "wrong_answer", "shared memory": "out_of_memory", "host segfault": "crash",
    "three minute compile": "compile_timeout", "good again": "timed",
}  # fmt: skip


@triton.jit
def zoo(x, out, n, KIND: tl.constexpr, BLOCK: tl.constexpr):
    """out = 2 * x, if nothing is planted."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < n)
    if KIND == 1:
        while tl.load(x) < 1e30:
            value += 1
    if KIND == 2:  # far outside of any allocation
        value += tl.load(x + at.to(tl.int64) * 1000000007 * 64)
    if KIND == 3:
        value += 1
    if KIND == 4:
        tl.store(out + at, value * 2, mask=(at < n) & (at % 7 != 0))
    elif KIND == 5:  # with eight stages
        rows, steps = tl.arange(0, 64), tl.arange(0, 128)
        total = tl.zeros((64, 64), tl.float32)
        for k in range(0, n // 64, 128):
            p = tl.load(x + rows[:, None] * 128 + k + steps[None, :])
            q = tl.load(x + (k + steps)[:, None] * 64 + rows[None, :])
            total = tl.dot(p, q, total)
        tl.store(out + rows[:, None] * 64 + rows[None, :], total)
    else:
        tl.store(out + at, value * 2, mask=at < n)


def build(config: Config) -> Callable[..., Any]:
    """Some of it goes wrong in Python."""
    what = config["what"]

    def launch(x: Any, out: Any, n: int) -> None:
        if what == "host segfault" and not x.is_meta:
            ctypes.string_at(0)
        if what == "three minute compile" and x.is_meta:
            time.sleep(180)
        zoo[(triton.cdiv(n, BLOCK),)](x, out, n, KIND=KINDS.get(what, 0), BLOCK=BLOCK, num_stages=8)

    return launch


def arguments() -> tuple[Any, ...]:
    """Made on the GPU."""
    import torch

    x = torch.randn(N, device="cuda")
    return x, torch.empty_like(x), N


def survived() -> dict[str, Any]:
    """What became of each, when, and what was said of it."""
    names = list(EXPECTED)
    space = Space({"what": Choice(names)})
    evaluator = TritonEvaluator(
        arguments=arguments, build=build, reference=lambda x, out, n: x * 2, outputs=(1,), compile_timeout_s=20.0,
        run_timeout_s=5.0,
    )  # fmt: skip
    found: dict[str, tuple[float, Outcome]] = {}
    with evaluator.open(space) as session:
        session.submit([Trial(i, Config(what=what)) for i, what in enumerate(names)], Limits())
        while len(found) < len(names):
            for event in session.poll():
                assert isinstance(event, Observed)
                found[names[event.trial]] = (round(event.at, 2), event.outcome)
    kinds = {what: outcome.kind if isinstance(outcome, Failed) else "timed" for what, (_, outcome) in found.items()}
    said = {what: o.message[:200] if isinstance(o, Failed) else f"{o.time_ms:.4f} ms" for what, (_, o) in found.items()}
    good = [o.time_ms for _, o in found.values() if isinstance(o, Timed)]
    return {
        "as_planted": kinds == EXPECTED, "kinds": kinds, "after_s": {what: at for what, (at, _) in found.items()},
        "said": said, "good_ms": good,
    }  # fmt: skip
