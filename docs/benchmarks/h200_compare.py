"""All picks of one kernel timed again together, for h200.py: only such times can be compared."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from h200_common import evaluator_of, machine, problem_of, rehearsing

from autotune import Config, Timed
from autotune.core.outcomes import Trial
from autotune.core.search.messages import Compare, Compared
from autotune.core.statistics import median_interval
from autotune.shell.tuning import read_search
from autotune.studies.recordings import load_recording
from autotune.studies.recordings.load import builtin_recordings

ROUNDS = 31
NEAR = 1.05
MOST_RECORDED, MOST_INCUMBENTS = 5, 12
FAR = 1.25
"""What was so much slower than the last best when it was found is not timed again."""

Names = dict[Config, list[str]]


def compared(kernel: str, results: list[dict[str, Any]], journal_of: Callable[[str], Path]) -> dict[str, Any]:
    """The picks, what led to ours, and the best of the recording, in turn in one process; ratios are round by round."""
    runs = {r["step"]: r for r in results if r["step"].split(":")[1:2] == [kernel] and r.get("pick")}
    names, times_ms = named(kernel, runs), {}
    configs = list(names)
    began = time.monotonic()
    with evaluator_of(kernel).open(problem_of(kernel).space) as session:
        trials = tuple(Trial(i, config) for i, config in enumerate(configs))
        session.compare(Compare(trials, 3 if rehearsing() else ROUNDS, "verify", order=0))
        while not (events := session.poll()):
            continue
    (event,) = events
    assert isinstance(event, Compared)
    outcomes = {name: outcome for i, outcome in event.outcomes for name in names[configs[i]]}
    times_ms = {name: outcome.times_ms for name, outcome in outcomes.items() if isinstance(outcome, Timed)}
    medians = {name: median(one) for name, one in times_ms.items()}
    recorded = [name for name in medians if name.startswith("recorded ")]
    best = min(recorded, key=medians.__getitem__, default=None)
    ours = max((r for r in runs if r.startswith("tune:") and r in medians), key=reply_seconds, default=None)
    return {
        "covers": list(runs), "median_ms": {name: round(ms, 5) for name, ms in medians.items()},
        "over ours": over(ours, times_ms), "over best recorded": over(best, times_ms), "ours": ours,
        "best recorded ms": medians[best] if best else None, "recorded_ms": recorded_ms(kernel),
        "near_s": {step: near_s(step, run, medians) for step, run in runs.items() if step.startswith("tune:")},
        "ours saw": {} if ours is None else seen(journal_of(ours), names),
        "failed": {name: str(outcome) for name, outcome in outcomes.items() if not isinstance(outcome, Timed)},
        "clock_mhz": sorted({o.details["sm_clock_mhz"] for o in outcomes.values() if "sm_clock_mhz" in o.details}),
        "rounds": max(map(len, times_ms.values()), default=0), "compared_s": round(time.monotonic() - began, 1),
        **machine(),
    }  # fmt: skip


def named(kernel: str, runs: dict[str, dict[str, Any]]) -> Names:
    """Every config once, with all that it is."""
    names: Names = {}
    for step, run in runs.items():
        names.setdefault(Config(run["pick"]), []).append(step)
        for i, config in incumbents(run):
            names.setdefault(config, []).append(f"{step} #{i}")
    if kernel in builtin_recordings():
        recording = load_recording(f"builtin:{kernel}")
        for rank, i in enumerate(recording.time_ms.argsort()[:MOST_RECORDED].tolist(), 1):
            names.setdefault(recording.config(i), []).append(f"recorded {rank}")
    return names


def incumbents(run: dict[str, Any]) -> list[tuple[int, Config]]:
    """What was the best for a while and not far from the last, by its number."""
    found = run.get("incumbents", [])
    return [(i, Config(c)) for i, (_, ms, c) in enumerate(found) if ms <= FAR * found[-1][1]][-MOST_INCUMBENTS:]


def near_s(step: str, run: dict[str, Any], medians: dict[str, float]) -> float | None:
    """When it first held a config within 5 % of its pick, by the times of this comparison: its pick, if none before."""
    limit = NEAR * medians.get(step, 0.0)
    held = [run["incumbents"][i][0] for i, _ in incumbents(run) if medians.get(f"{step} #{i}", float("inf")) <= limit]
    return min([*held, *([run["pick_seen_s"]] if run.get("pick_seen_s") is not None else [])], default=None)


def over(base: str | None, times_ms: dict[str, Any]) -> dict[str, list[float]]:
    """The interval of the median ratio of each to `base`."""
    if base is None:
        return {}
    ratios = {
        name: median_interval([a / b for a, b in zip(one, times_ms[base], strict=True)])
        for name, one in times_ms.items()
    }
    return {name: [round(low, 4), round(high, 4)] for name, (low, high) in ratios.items()}


def seen(journal: Path, names: Names) -> dict[str, Any]:
    """What our search knew of each: its rank and milliseconds in the end, and which comparisons it was in."""
    if not journal.exists():
        return {}
    _, search = read_search(journal)
    archive = search.archive
    rank = {int(archive.trials[place]): at for at, place in enumerate(archive.ranking().tolist())}
    compared = {"contender": search.qualified, "finalist": search.verified}
    found: dict[str, Any] = {}
    for trial in search.trials:
        for name in names.get(trial.config, ()):
            outcomes = [outcome for i, outcome in search.outcomes if i == trial.id]
            found[name] = {
                "trial": trial.id, "rank": rank.get(trial.id),
                "ms": [o.time_ms if isinstance(o, Timed) else o.kind for o in outcomes],
                "in": [what for what, event in compared.items() if event and trial.id in dict(event.outcomes)],
            }  # fmt: skip
    return found


def recorded_ms(kernel: str) -> float | None:
    """What the fastest config took when the space was recorded."""
    return load_recording(f"builtin:{kernel}").optimum_ms if kernel in builtin_recordings() else None


def reply_seconds(step: str) -> float:
    """The budget of a search."""
    return float(step.rpartition(":")[2])
