"""What the Triton evaluator reaches on an NVIDIA GPU, beside Helion's external API and @triton.autotune.

    python docs/benchmarks/h200.py RESULTS.jsonl [--within SECONDS] STEP...

    tune:KERNEL:SECONDS     our search; KERNEL is a file of docs/examples: matmul, rms_norm, attention, splitk_matmul
    helion:KERNEL:SECONDS   Helion's, LFBOTreeSearch, with the same kernel, space and seconds (pip install '.[helion]')
    triton_autotune:matmul  @triton.autotune over the configs that its tutorial lists
    compare:KERNEL          all picks so far, timed again together, interleaved
    zoo                     a batch with planted bad configs
    gpus:COUNT:SECONDS      configs a second on so many GPUs, where timing is what takes long

Each step is a process of its own with a hard time limit, writes one line to RESULTS.jsonl, and is left out if it is
there already; with --within, so is what cannot be over by then. See README.md for the figures.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from autotune import Budget, Config, Problem, Timed, TritonEvaluator, tune
from autotune.core.outcomes import Trial
from autotune.core.search.messages import Asked, Compare, Compared, Observed
from autotune.core.statistics import median_interval
from autotune.shell.evaluators.triton.machine import compile_workers
from autotune.shell.evaluators.triton.timeline import Span, busy_share, read_timeline
from autotune.studies.recordings import load_recording
from autotune.studies.recordings.builtin import builtin_recordings
from autotune.studies.simulation import RecordedTable

HERE = Path(__file__).parent
STRATEGY = "gaussian_process"
NEAR = 1.05
SPARE_S = {"tune": 45.0, "helion": 75.0, "triton_autotune": 120.0, "compare": 60.0, "zoo": 90.0, "gpus": 60.0}
"""How long a step may take beyond the seconds that it is given."""
ROUNDS = 41
sys.path[:0] = [str(HERE), str(HERE.parent / "examples")]


def problem_of(kernel: str) -> Problem:
    """The problem of an example."""
    problem = importlib.import_module(kernel).problem
    assert isinstance(problem, Problem)
    return problem


def evaluator_of(kernel: str, **settings: Any) -> TritonEvaluator:
    """Its evaluator, with other settings."""
    evaluator = problem_of(kernel).evaluator
    assert isinstance(evaluator, TritonEvaluator)
    return replace(evaluator, **settings)


def tuned(kernel: str, seconds: float) -> dict[str, Any]:
    """Our search, with an empty cache, and how busy everything was."""
    problem = problem_of(kernel)
    better: list[tuple[float, float]] = []
    asks: list[int] = []

    def watch(search: Any, event: Any) -> None:
        if isinstance(event, Asked):
            asks.append(event.room)
        known = isinstance(event, Observed) and search.best_ms is not None
        if known and (not better or search.best_ms < better[-1][1]):
            better.append((round(event.at, 2), search.best_ms))
            print(f"  {event.at:7.2f} s  {search.best_ms:.4f} ms", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "timeline.jsonl"
        evaluator = evaluator_of(kernel, timeline=path, cache_dir=Path(folder) / "cache")
        began = time.monotonic()
        result = tune(problem.space, evaluator, STRATEGY, budget=Budget(seconds=seconds), progress=watch)
        wall = time.monotonic() - began
        spans = read_timeline(path)
    best = result.best
    assert best is not None
    return {
        "wall_s": round(wall, 1), "pick": dict(best.config), "pick_ms": best.time_ms, "stopped": result.stopped,
        "evaluations": result.evaluations, "configs_per_s": round(result.evaluations / wall, 2),
        "counts": result.counts,
        "near_final_pick_s": next((at for at, ms in better if ms <= NEAR * better[-1][1]), None),
        "improvements": better, "asks": len(asks), **recorded(kernel, best.config), **where_time_went(spans, wall),
    }  # fmt: skip


def recorded(kernel: str, config: Config) -> dict[str, Any]:
    """How good a config is by the recording of the whole space, where there is one."""
    if kernel not in builtin_recordings():
        return {}
    recording = load_recording(f"builtin:{kernel}")
    outcome = RecordedTable(recording).outcome(config)
    ratio = outcome.time_ms / recording.optimum_ms if isinstance(outcome, Timed) else None
    return {"recorded_optimum_ms": recording.optimum_ms, "recorded_pick_over_optimum": ratio}


def where_time_went(spans: list[Span], wall: float) -> dict[str, Any]:
    """Shares of the wall time: a GPU timing, or all compile workers compiling."""
    workers = compile_workers(1)
    total = {what: sum(s.end_s - s.start_s for s in spans if s.what == what) for what in ("compile", "run")}
    first = {what: min((s.start_s for s in spans if s.what == what), default=0.0) for what in ("compile", "run")}
    gpu_ready = min((s.end_s for s in spans if s.what == "start" and s.lane.startswith("gpu")), default=None)
    runs = [s.end_s - s.start_s for s in spans if s.what == "run"]
    return {
        "compile_workers": workers, "first_compile_s": round(first["compile"], 2), "gpu_ready_s": gpu_ready,
        "first_run_s": round(first["run"], 2), "compiles": sum(s.what == "compile" for s in spans), "runs": len(runs),
        "compile_busy": round(total["compile"] / wall / workers, 3), "gpu_busy": round(total["run"] / wall, 3),
        "busy_share": round(busy_share(spans, workers, 0.0, wall), 3),
        "busy_share_from_first_compile": round(busy_share(spans, workers, first["compile"], wall), 3),
        "compile_s": round(total["compile"], 1), "median_run_ms": round(median(runs) * 1e3, 1) if runs else None,
    }  # fmt: skip


def compared(kernel: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """All picks of one kernel and its recorded optimum, in turn in one process; ratios are round by round."""
    picks = {r["step"]: Config(r["pick"]) for r in results if r["step"].split(":")[1:2] == [kernel] and r.get("pick")}
    if kernel in builtin_recordings():
        recording = load_recording(f"builtin:{kernel}")
        picks["recorded optimum"] = recording.config(recording.time_ms.tolist().index(recording.optimum_ms))
    names = list(picks)
    trials = tuple(Trial(i, picks[name]) for i, name in enumerate(names))
    with evaluator_of(kernel).open(problem_of(kernel).space) as session:
        session.compare(Compare(trials, ROUNDS, "verify"))
        while not (events := session.poll()):
            continue
    (event,) = events
    assert isinstance(event, Compared)
    times = {names[i]: outcome.times_ms for i, outcome in event.outcomes if isinstance(outcome, Timed)}
    ours = next((name for name in names if name.startswith("tune:")), names[0])
    ratios = {
        name: median_interval([a / b for a, b in zip(times[name], times[ours], strict=True)])
        for name in times if ours in times
    }  # fmt: skip
    return {
        "median_ms": {name: round(median(one), 5) for name, one in times.items()},
        f"over {ours}": {name: [round(low, 4), round(high, 4)] for name, (low, high) in ratios.items()},
        "failed": {names[i]: str(o) for i, o in event.outcomes if not isinstance(o, Timed)},
    }


def on_gpus(count: int, seconds: float) -> dict[str, Any]:
    """How many configs a second, random ones of a kernel that compiles fast, timed for long."""
    problem = problem_of("rms_norm")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "timeline.jsonl"
        evaluator = evaluator_of(
            "rms_norm", timeline=path, cache_dir=Path(folder) / "cache", devices=tuple(range(count)), target_ms=200.0,
            max_repeats=2000, l2="warm",
        )  # fmt: skip
        settings = {"cutoff_factor": None, "verify_rounds": 0, "simplify_rounds": 0, "rebenchmark_threshold": 0.9}
        result = tune(
            problem.space, evaluator, "random_search", budget=Budget(seconds=seconds), settings=settings, seed=1
        )
        spans = read_timeline(path)
    runs = [span for span in spans if span.what == "run"]
    begin, end = min(span.start_s for span in runs), max(span.end_s for span in runs)
    lanes = Counter(span.lane for span in runs)
    shares = {lane: sum(s.end_s - s.start_s for s in runs if s.lane == lane) / (end - begin) for lane in lanes}
    return {
        "evaluations": result.evaluations, "runs": dict(lanes), "timed_s": round(end - begin, 1),
        "configs_per_s": round(len(runs) / (end - begin), 3), "gpu_busy": {n: round(v, 3) for n, v in shares.items()},
    }  # fmt: skip


def done(step: str, path: Path) -> dict[str, Any]:
    """One step, in this process."""

    def late(result: dict[str, Any]) -> None:
        write(path, {"step": step, **result})
        os._exit(0)

    match step.split(":"):
        case ["tune", kernel, seconds]:
            return tuned(kernel, float(seconds))
        case ["compare", kernel]:
            return compared(kernel, read(path))
        case ["gpus", count, seconds]:
            return on_gpus(int(count), float(seconds))
        case ["helion", kernel, seconds]:
            return importlib.import_module("h200_peers").helion(kernel, float(seconds), late)
        case ["triton_autotune", "matmul"]:
            return importlib.import_module("h200_peers").triton_autotune()
        case ["zoo"]:
            return importlib.import_module("h200_zoo").survived()
    raise SystemExit(f"the step {step!r} is not complete; see the head of this file")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


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
        process.wait(allowed)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        write(path, {"step": step, "killed_after_s": round(time.monotonic() - began, 1)})


def write(path: Path, result: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(result, default=str) + "\n")
    print(json.dumps(result, default=str), flush=True)


def main() -> None:
    path, *steps = [argument for argument in sys.argv[1:] if argument != "--alone"]
    within = float("inf")
    if "--within" in steps:
        at = steps.index("--within")
        within = float(steps[at + 1])
        del steps[at : at + 2]
    if "--alone" in sys.argv:
        began = time.monotonic()
        result = done(steps[0], Path(path))
        write(Path(path), {"step": steps[0], **result, "step_s": round(time.monotonic() - began, 1)})
        return
    began = time.monotonic()
    for step in steps:
        left = within - (time.monotonic() - began)
        if any(r["step"] == step for r in read(Path(path))):
            print(f"== {step}: there already", flush=True)
        elif left < (least := limit(step) - SPARE_S[step.split(":")[0]] + 15):
            print(f"== {step}: left out, {left:.0f} s are left and it needs {least:.0f}", flush=True)
        else:
            run(step, Path(path), min(limit(step), left))


if __name__ == "__main__":
    main()
