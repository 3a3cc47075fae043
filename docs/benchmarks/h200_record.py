"""Record whole spaces of Triton kernels on a GPU: what `autotune simulate builtin:NAME` searches.

    python docs/benchmarks/h200_record.py FOLDER matmul=260 rms_norm=60 attention=100 splitk_matmul=100

Each NAME=SECONDS is the problem of docs/examples/NAME.py and how long it may take. FOLDER receives NAME.json.gz; where
the time was too short, or the script was killed, NAME.json.gz.journal.jsonl stays there beside it, and the same command
goes on from that. Prints one JSON line every ten seconds and one for each space.
"""

import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from h200_common import busy_share

from autotune import Failed, Timed
from autotune.backends.triton.processes import default_compile_workers
from autotune.core.search.messages import Observed
from autotune.shell.timeline import Span, read_timeline
from autotune.studies.record import record_space

EXAMPLES = Path(__file__).parent.parent / "examples"
SHORT = {"warmup_ms": 1.0, "target_ms": 5.0, "min_repeats": 5, "max_repeats": 25}
"""A config's share of the time: about 15 ms, most of which is not timing."""
EVERY_S = 10.0


def gpu(field: str) -> str:
    """What the driver's tool says of the first GPU."""
    try:
        ran = subprocess.run(
            ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
        return ran.stdout.splitlines()[0].strip() if ran.stdout else ""
    except (OSError, subprocess.TimeoutExpired):
        return ""


def versions() -> dict[str, str]:
    """Of all that has a part in the times."""
    found = {"driver": gpu("driver_version"), "host": f"{os.cpu_count()} cores"}
    for package in ("torch", "triton"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {name: text for name, text in found.items() if text}


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    began = time.monotonic()
    told = gpu("name,compute_cap,driver_version,clocks.sm,clocks.mem,temperature.gpu")
    memory = [line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines()[:3]]
    quota = Path("/sys/fs/cgroup/cpu.max")
    return {
        "gpu": told, "smi_s": round(time.monotonic() - began, 2), "cores": os.cpu_count(),
        "allowed": len(os.sched_getaffinity(0)), "quota": quota.read_text().strip() if quota.exists() else "",
        "memory_kb": memory, "compile_workers": default_compile_workers(1),
        "python": platform.python_version(), **versions(),
    }  # fmt: skip


class Watch:
    """Prints how far it has got."""

    def __init__(self, name: str, count: int | None) -> None:
        self._name, self._count = name, count
        self._kinds: Counter[str] = Counter()
        self._began = self._said = time.monotonic()

    def __call__(self, search: Any, event: Any) -> None:
        if isinstance(event, Observed):
            self._kinds[event.outcome.kind if isinstance(event.outcome, Failed) else "timed"] += 1
        if time.monotonic() - self._said > EVERY_S:
            self._said = time.monotonic()
            say(
                at=self._name, s=round(self._said - self._began, 1), done=len(search.trials) - search.outstanding,
                of=self._count, best_ms=search.best_ms, kinds=dict(self._kinds),
            )  # fmt: skip


def say(**what: Any) -> None:
    print(json.dumps(what, default=str), flush=True)


def busy(spans: list[Span]) -> dict[str, Any]:
    """Where the time went."""
    last = max((span.end_s for span in spans), default=0.0)
    if not last:
        return {}
    lanes = {span.lane for span in spans if span.what == "compile"}
    workers = max(1, min(len(lanes), default_compile_workers(1)))
    total = {what: sum(s.end_s - s.start_s for s in spans if s.what == what) for what in ("compile", "run")}
    first = {what: min((s.start_s for s in spans if s.what == what), default=None) for what in ("compile", "run")}
    ready = min((s.end_s for s in spans if s.what == "start" and "server" not in s.lane), default=None)
    runs = [s.end_s - s.start_s for s in spans if s.what == "run"]
    return {
        "last_s": round(last, 2), "compilers": workers, "first_ready_s": ready, "first_compile_s": first["compile"],
        "first_run_s": first["run"], "compiles": sum(s.what == "compile" for s in spans), "runs": len(runs),
        "compile_busy": round(total["compile"] / last / workers, 3), "gpu_busy": round(total["run"] / last, 3),
        "busy_share": round(busy_share(spans, workers, 0.0, last), 3),
        "median_run_ms": round(sorted(runs)[len(runs) // 2] * 1e3, 1) if runs else None,
    }  # fmt: skip


def one(name: str, seconds: float, folder: Path) -> None:
    """Record one space, or as much of it as there is time for."""
    sys.path.insert(0, str(EXAMPLES))
    problem = importlib.import_module(name).problem
    out = folder / f"{name}.json.gz"
    if out.exists() and not journal_of(out).exists():
        say(space=name, already="complete")
        return
    with tempfile.TemporaryDirectory() as scratch:
        timeline = Path(scratch) / "timeline.jsonl"
        evaluator = replace(problem.evaluator, timeline=timeline, ahead=20_000, **SHORT)
        stop = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
        stop.daemon = True
        stop.start()
        began = time.monotonic()
        try:
            found = record_space(
                problem.space, evaluator, out, kernel=f"docs/examples/{name}.py", device=gpu("name"),
                problem=shape(name), versions=versions(), progress=Watch(name, problem.space.count()),
            )  # fmt: skip
        finally:
            stop.cancel()
        kinds = Counter("timed" if isinstance(o, Timed) else o.kind for o in map(found.outcome, range(len(found))))
        best = found.config(int(found.time_ms.tolist().index(found.optimum_ms))) if kinds["timed"] else None
        say(
            space=name, seconds=round(time.monotonic() - began, 1), points=len(found), of=problem.space.count(),
            partial=found.partial, kinds=dict(kinds), best_ms=kinds["timed"] and found.optimum_ms,
            best=best and dict(best), kib=out.stat().st_size >> 10, **busy(read_timeline(timeline)),
        )  # fmt: skip
    if not found.partial:
        journal_of(out).unlink()


def journal_of(out: Path) -> Path:
    return out.with_name(out.name + ".journal.jsonl")


def shape(name: str) -> str:
    """The size of the problem, from the constants of its file."""
    constants = vars(importlib.import_module(name))
    return ", ".join(f"{n} = {v}" for n, v in constants.items() if n.isupper() and isinstance(v, int))


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    say(**machine())
    for given in sys.argv[2:]:
        name, _, seconds = given.partition("=")
        one(name, float(seconds or 300), folder)


if __name__ == "__main__":
    main()
