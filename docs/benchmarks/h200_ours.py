"""Our searches, for h200.py: how good, how soon, and what everything was doing meanwhile."""

import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from h200_common import busy_share, evaluator_of, machine, problem_of

from autotune import Budget, Config, Timed, tune
from autotune.backends.triton.processes import default_compile_workers
from autotune.core.search.messages import Asked, Observed
from autotune.shell.timeline import Span, read_timeline
from autotune.studies.recordings import load_recording
from autotune.studies.recordings.load import builtin_recordings
from autotune.studies.simulation import RecordedTable

STRATEGY = "gaussian_process"
NEAR = 1.05


class Watch:
    """Sees every event. seen_s: when each config was timed. incumbents: those that were the best for a while, with when
    and how many milliseconds.
    """

    def __init__(self) -> None:
        self.incumbents: list[tuple[float, float, dict[str, Any]]] = []
        self.seen_s: dict[Config, float] = {}
        self.asks = 0

    def __call__(self, search: Any, event: Any) -> None:
        self.asks += isinstance(event, Asked)
        if not isinstance(event, Observed) or not isinstance(event.outcome, Timed):
            return
        time_ms, config = event.outcome.time_ms, search.trials[event.trial].config
        self.seen_s.setdefault(config, round(event.at, 2))
        if not self.incumbents or time_ms < self.incumbents[-1][1]:
            self.incumbents.append((round(event.at, 2), time_ms, dict(config)))
            print(f"  {event.at:7.2f} s  {time_ms:.4f} ms", flush=True)

    @property
    def near_s(self) -> float | None:
        """When a time within 5 % of the least of the whole search was first seen."""
        return next((at for at, ms, _ in self.incumbents if ms <= NEAR * self.incumbents[-1][1]), None)


def tuned(kernel: str, seconds: float, journal: Path) -> dict[str, Any]:
    """Our search, with an empty cache, and how busy everything was."""
    journal.unlink(missing_ok=True)
    problem, watch = problem_of(kernel), Watch()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "timeline.jsonl"
        evaluator = evaluator_of(kernel, timeline=path, cache_dir=Path(folder) / "cache")
        began = time.monotonic()
        result = tune(
            problem.space, evaluator, STRATEGY, budget=Budget(seconds=seconds), progress=watch, journal=journal
        )
        wall = time.monotonic() - began
        spans = read_timeline(path)
    best = result.best
    return {
        "wall_s": round(wall, 1), "pick": dict(best.config), "pick_ms": best.time_ms, "stopped": result.stopped,
        "evaluations": result.evaluations, "configs_per_s": round(result.evaluations / wall, 2),
        "counts": result.counts, "near_last_best_s": watch.near_s, "pick_seen_s": watch.seen_s.get(best.config),
        "incumbents": watch.incumbents, "asks": watch.asks,
        "as_good": [[dict(f.measured.config), f.ratio.low, f.ratio.high] for f in result.finalists],
        **recorded(kernel, best.config), **where_time_went(spans, wall), **machine(),
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
    workers = default_compile_workers(1)
    total = {what: sum(s.end_s - s.start_s for s in spans if s.what == what) for what in ("compile", "run")}
    first = {what: min((s.start_s for s in spans if s.what == what), default=0.0) for what in ("compile", "run")}
    loaded = {s.lane: round(s.end_s, 2) for s in spans if s.what == "start" and "server" in s.lane}
    gpu_ready = min((s.end_s for s in spans if s.what == "start" and s.lane.startswith("gpu")), default=None)
    runs = [s.end_s - s.start_s for s in spans if s.what == "run"]
    return {
        "compile_workers": workers, "first_compile_s": round(first["compile"], 2), "gpu_ready_s": gpu_ready,
        "loaded_s": loaded,
        "first_run_s": round(first["run"], 2), "compiles": sum(s.what == "compile" for s in spans), "runs": len(runs),
        "compile_busy": round(total["compile"] / wall / workers, 3), "gpu_busy": round(total["run"] / wall, 3),
        "busy_share": round(busy_share(spans, workers, 0.0, wall), 3),
        "busy_share_from_first_compile": round(busy_share(spans, workers, first["compile"], wall), 3),
        "compile_s": round(total["compile"], 1), "median_run_ms": round(median(runs) * 1e3, 1) if runs else None,
        "last_compile_s": round(max((s.end_s for s in spans if s.what == "compile"), default=0.0), 1),
        "last_run_s": round(max((s.end_s for s in spans if s.what == "run"), default=0.0), 1),
    }  # fmt: skip


def on_gpus(count: int, seconds: float) -> dict[str, Any]:
    """How many configs a second, random ones of a kernel that compiles fast, timed for long."""
    problem = problem_of("rms_norm")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "timeline.jsonl"
        evaluator = evaluator_of(
            "rms_norm", timeline=path, cache_dir=Path(folder) / "cache", devices=tuple(range(count)), target_ms=200.0,
            max_repeats=2000, l2="warm",
        )  # fmt: skip
        settings = {
            "cutoff_factor": None, "near_factor": None, "verify_rounds": 0, "simplify_rounds": 0,
            "rebenchmark_threshold": 0.9,
        }  # fmt: skip
        result = tune(
            problem.space, evaluator, "random_search", budget=Budget(seconds=seconds), settings=settings, seed=1
        )
        spans = read_timeline(path)
    runs = [span for span in spans if span.what == "run"]
    begin, end = min(span.start_s for span in runs), max(span.end_s for span in runs)
    lanes = Counter(span.lane for span in runs)
    shares = {lane: sum(s.end_s - s.start_s for s in runs if s.lane == lane) / (end - begin) for lane in lanes}
    return {
        "configs": result.evaluations, "runs": dict(lanes), "timed_s": round(end - begin, 1),
        "configs_per_s": round(len(runs) / (end - begin), 3), "gpu_busy": {n: round(v, 3) for n, v in shares.items()},
        **machine(),
    }  # fmt: skip
