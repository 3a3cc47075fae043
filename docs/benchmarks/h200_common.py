"""What the scripts of h200.py share: the problems, small ones where there is no GPU, and a share of the machine."""

import importlib
import os
import re
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from autotune.shell.timeline import Activity, Span

HERE = Path(__file__).parent
REHEARSING = {"AUTOTUNE_H200_REHEARSAL": "1"}
SMALL: dict[str, dict[str, Any]] = {
    "matmul": {"n": 256, "dtype": "float16"},
    "splitk_matmul": {"n": 256, "k": 512, "dtype": "float16"},
    "attention": {"heads": 2, "length": 256, "width": 32, "dtype": "float16"},
    "rms_norm": {"rows": 4, "n": 700},
}
"""Arguments that the interpreter is done with in milliseconds, of half precision: it has no bfloat16 products."""
sys.path[:0] = [str(HERE), str(HERE.parent / "examples")]


def rehearsing() -> bool:
    """Whether there is no GPU, and small problems are run by the interpreter."""
    return REHEARSING.items() <= os.environ.items()


def problem_of(kernel: str) -> Any:
    """The problem of an example."""
    from autotune import Problem

    problem = importlib.import_module(kernel).problem
    assert isinstance(problem, Problem)
    return problem


def evaluator_of(kernel: str, **settings: Any) -> Any:
    """Its evaluator, with other settings."""
    from autotune import TritonEvaluator

    evaluator = problem_of(kernel).evaluator
    assert isinstance(evaluator, TritonEvaluator)
    if rehearsing():
        settings = {"arguments": arguments_of(kernel), "device": "interpreter", "target": "sm_90", **settings}
        settings.pop("devices", None)
    return replace(evaluator, **settings)


def arguments_of(kernel: str) -> Any:
    """What makes the arguments."""
    make = importlib.import_module(kernel).arguments
    return partial(make, device="cpu", **SMALL[kernel]) if rehearsing() else make


def begin_share(number: int, count: int) -> None:
    """Let this process and its children have one GPU, and one of `count` equal shares of the cores."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = [name for name in seen.split(",") if name] if seen is not None else []
    os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number] if gpus else str(number)
    cores = cores_in_order()
    mine = cores[number * len(cores) // count : (number + 1) * len(cores) // count]
    os.sched_setaffinity(0, mine or cores)
    print(f"== side {number} of {count}: GPU {os.environ['CUDA_VISIBLE_DEVICES']}, cores {mine or cores}", flush=True)


def cores_in_order() -> list[int]:
    """Those that this process may use; threads of one core, and cores of one package, beside one another."""

    def place(cpu: int) -> tuple[int, int, int]:
        folder = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            package, core = (int((folder / name).read_text()) for name in ("physical_package_id", "core_id"))
        except (OSError, ValueError):
            return 0, cpu, cpu
        return package, core, cpu

    return sorted(os.sched_getaffinity(0), key=place)


def machine() -> dict[str, Any]:
    """What a figure depends on: the card, the cores, and the versions of what compiles."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "gpu": card()}
    for package in ("torch", "triton", "helion"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def card() -> str:
    """The name of the GPU in use, by the driver's library; empty where there is none."""
    try:
        import pynvml

        pynvml.nvmlInit()
        first = (os.environ.get("CUDA_VISIBLE_DEVICES") or "0").split(",")[0]
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(first)) if re.fullmatch(r"\d+", first) else None
        name = pynvml.nvmlDeviceGetName(handle or pynvml.nvmlDeviceGetHandleByUUID(first))
        return name.decode() if isinstance(name, bytes) else str(name)
    except Exception:  # no library, no driver, no GPU
        return ""


def busy_share(spans: list[Span], compilers: int, start_s: float, end_s: float) -> float:
    """The share of the time from start_s to end_s in which a GPU was timing, or all `compilers` were compiling."""
    turns: list[tuple[float, Activity, int]] = []
    for span in (span for span in spans if span.what in ("compile", "run")):
        begin, end = max(span.start_s, start_s), min(span.end_s, end_s)
        if begin < end:
            turns += [(begin, span.what, 1), (end, span.what, -1)]
    busy, last = 0.0, start_s
    running = {"run": 0, "compile": 0}
    for at, what, step in sorted(turns, key=lambda turn: turn[0]):
        if running["run"] or running["compile"] >= compilers:
            busy += at - last
        running[what] += step
        last = at
    return busy / (end_s - start_s)
