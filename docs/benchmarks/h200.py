"""What the Triton evaluator reaches on an NVIDIA GPU, beside Helion's external API and @triton.autotune.

    python docs/benchmarks/h200.py RESULTS.jsonl [--within SECONDS] [--side I/N] [--rehearse] STEP...

    tune:KERNEL:SECONDS     our search; KERNEL is a file of docs/examples: matmul, rms_norm, attention, splitk_matmul
    helion:KERNEL:SECONDS   Helion's, LFBOTreeSearch, with the same kernel, space and seconds (pip install '.[helion]')
    triton_autotune:matmul  @triton.autotune over the configs that its tutorial lists
    compare:KERNEL          all picks so far and the best of the recording, timed again together, interleaved
    clocks:KERNEL           the recording's best config in bursts and for seconds on end, with clock and power
    starting:KERNEL         where the seconds before the first compile go
    zoo                     a batch with planted bad configs
    gpus:COUNT:SECONDS      configs a second on so many GPUs, where timing is what takes long

Each step is a process of its own with a hard time limit, writes one line to RESULTS.jsonl, a search of ours its journal
beside that, and is left out if it is there already; with --within, so is what cannot be over by then. At the end, a
table of all that RESULTS.jsonl holds.

Two searches side by side on a machine with two GPUs, each with one of them and half of the cores:

    python docs/benchmarks/h200.py R --side 0/2 tune:matmul:150 & python docs/benchmarks/h200.py R --side 1/2 \\
        helion:matmul:150 & wait; python docs/benchmarks/h200.py R --side 0/2 compare:matmul

--rehearse runs small problems with Triton's interpreter where there is no GPU: no figure of that means anything.
See README.md for the figures.
"""

import argparse
import importlib
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from h200_common import REHEARSING, begin_share
from h200_results import journal_of, read, table, write

SPARE_S = {
    "tune": 45.0, "helion": 75.0, "triton_autotune": 120.0, "compare": 75.0, "clocks": 45.0, "starting": 45.0,
    "zoo": 90.0, "gpus": 60.0,
}  # fmt: skip
"""How long a step may take beyond the seconds that it is given."""
LEAST_S = 15.0


def done(step: str, path: Path) -> dict[str, Any]:
    """One step, in this process."""

    def late(result: dict[str, Any]) -> None:
        write(path, {"step": step, **result})
        os._exit(0)

    ours, peers = (lambda: importlib.import_module("h200_ours")), (lambda: importlib.import_module("h200_peers"))
    match step.split(":"):
        case ["tune", kernel, seconds]:
            return ours().tuned(kernel, float(seconds), journal_of(path, step))
        case ["compare", kernel]:
            return importlib.import_module("h200_compare").compared(kernel, read(path), partial(journal_of, path))
        case ["gpus", count, seconds]:
            return ours().on_gpus(int(count), float(seconds))
        case ["clocks", kernel]:
            return importlib.import_module("h200_clocks").clocked(kernel)
        case ["starting", kernel]:
            return importlib.import_module("h200_clocks").started(kernel)
        case ["helion", kernel, seconds]:
            return peers().helion(kernel, float(seconds), late)
        case ["triton_autotune", "matmul"]:
            return peers().triton_autotune()
        case ["zoo"]:
            return importlib.import_module("h200_zoo").survived()
    raise SystemExit(f"the step {step!r} is not complete; see the head of this file")


def is_there(step: str, results: list[dict[str, Any]]) -> bool:
    """Whether a step need not be run; a comparison must be, where there are picks that the last has not seen."""
    known = [result for result in results if result["step"] == step and "killed_after_s" not in result]
    if not step.startswith("compare:"):
        return bool(known)
    picked = {r["step"] for r in results if r.get("pick") and r["step"].split(":")[1:2] == step.split(":")[1:]}
    return not picked or any(picked <= set(result["covers"]) for result in known)


def limit(step: str) -> float:
    """Seconds that a step may take."""
    kind, *rest = step.split(":")
    if kind not in SPARE_S:
        raise SystemExit(f"there is no step {step!r}; see the head of this file")
    return SPARE_S[kind] + (float(rest[-1]) if kind in ("tune", "helion", "gpus") else 0.0)


def run(step: str, path: Path, allowed: float) -> None:
    """One step in a process of its own, killed with its children when its time is over."""
    print(f"== {step}, at most {allowed:.0f} s", flush=True)
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, __file__, str(path), "--alone", step], start_new_session=True)
    try:
        if status := process.wait(allowed):
            print(f"== {step}: ended with status {status}", flush=True)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        write(path, {"step": step, "killed_after_s": round(time.monotonic() - began, 1)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("steps", nargs="*")
    parser.add_argument("--within", type=float, default=float("inf"))
    parser.add_argument("--side", type=side, help="which GPU, and which share of the cores: 0/2 or 1/2")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_intermixed_args()
    if given.rehearse:
        os.environ |= REHEARSING
    if given.side is not None:
        begin_share(*given.side)
    began = time.monotonic()
    if given.alone:
        (step,) = given.steps
        result = done(step, given.results)
        write(given.results, {"step": step, **result, "step_s": round(time.monotonic() - began, 1)})
        return
    for step in given.steps:
        left = given.within - (time.monotonic() - began)
        if is_there(step, read(given.results)):
            print(f"== {step}: nothing to do", flush=True)
        elif left < (least := limit(step) - SPARE_S[step.split(":")[0]] + LEAST_S):
            print(f"== {step}: left out, {left:.0f} s are left and it needs {least:.0f}", flush=True)
        else:
            run(step, given.results, min(limit(step), left))
    table(read(given.results))


def side(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is no side; give 0/2 or 1/2, for example")
    return int(number), int(count)


if __name__ == "__main__":
    main()
