"""The summary of a recording: what was measured, and how its times are spread."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec import Struct

from autotune.cli.options import checked_direction
from autotune.cli.output import print_json, print_labelled, print_table
from autotune.cli.summary import counts_text
from autotune.core.config import Config, token
from autotune.studies.recordings import Objective, Recording, load_recording

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 1.0)


class Optimum(Struct, frozen=True):
    """The best recorded point. time_ms: null where it was not ranked by its time; `quantiles` have its value then."""

    config: Config
    time_ms: float | None
    key: str


class RecordingSummary(Struct, frozen=True):
    """What `show --json` prints of a recording; see docs/command-line.md."""

    kind: Literal["recording"]
    path: str
    name: str
    kernel: str
    device: str
    problem: str
    parameters: dict[str, tuple[Any, ...]]
    constraints: tuple[str, ...]
    points: int
    product: int
    partial: bool
    repeats: float
    counts: dict[str, int]
    optimum: Optimum | None
    quantiles_ms: dict[str, float]
    objective: Objective
    quantiles: dict[str, float]


def show_recording(path: Path, objective: str | None, direction: str | None, as_json: bool) -> Config | None:
    """Print the summary; the best config, if any was timed. Raises RecordingError."""
    recording = load_recording(path, objective=objective, direction=checked_direction(direction))
    summary = _summary(path, recording)
    if as_json:
        print_json(summary)
    else:
        _print(summary)
    return None if summary.optimum is None else summary.optimum.config


def _summary(path: Path, recording: Recording) -> RecordingSummary:
    times, ranked = recording.time_ms[recording.timed], recording.objective
    outcomes = Counter(recording.failure(row) or "timed" for row in range(len(recording)))
    optimum: Optimum | None = None
    quantiles: dict[str, float] = {}
    if len(times):
        row = int(np.flatnonzero(recording.timed)[np.argmin(times)])
        least = float(times.min())
        in_ms = least if ranked.is_time else None
        optimum = Optimum(recording.config(row), in_ms, recording.key(row))
        quantiles = {f"{q:g}": float(t) for q, t in zip(QUANTILES, np.quantile(times, QUANTILES), strict=True)}
    return RecordingSummary(
        kind="recording",
        path=str(path),
        name=recording.name,
        kernel=recording.kernel,
        device=recording.device,
        problem=recording.problem,
        parameters=dict(zip(recording.parameters, recording.values, strict=True)),
        constraints=recording.constraints,
        points=len(recording),
        product=min(recording.product, 2**63 - 1),
        partial=recording.partial,
        repeats=len(recording.samples_ms) / max(len(times), 1),
        counts=dict(outcomes.most_common()),
        optimum=optimum,
        quantiles_ms=quantiles if ranked.is_time else {},
        objective=ranked,
        quantiles={q: ranked.value(cost) for q, cost in quantiles.items()},
    )


def _print(summary: RecordingSummary) -> None:
    rows = [("recording", summary.name), ("kernel", summary.kernel), ("device", summary.device)]
    rows += [("problem", summary.problem), ("points", _points(summary)), ("outcomes", counts_text(summary.counts))]
    ranked = summary.objective
    if ranked != Objective():
        rows.append(("objective", f"{ranked.name}, {ranked.direction} is better"))
    rows += [("where", text) for text in summary.constraints]
    print_labelled([row for row in rows if row[1]])
    print()
    optimum = summary.optimum
    fastest = Config() if optimum is None else optimum.config
    best = {name: token(value).decode() for name, value in fastest.items()}
    print_table(
        ("parameter", "best", "values"),
        [(name, best.get(name, "-"), _values(values)) for name, values in summary.parameters.items()],
    )
    if optimum is None:
        return
    print()
    costs = {q: ranked.cost(value) for q, value in summary.quantiles.items()}
    least = min(costs.values())
    spread = [(_quantile(q, ranked), f"{ranked.text(cost)}  {cost / least:.3g}x") for q, cost in costs.items()]
    print_labelled([*spread, ("config", optimum.config.to_json())])


def _points(summary: RecordingSummary) -> str:
    share = "all" if summary.points == summary.product else f"of {summary.product:,}"
    cut = "; the file was cut off" if summary.partial else ""
    repeats = f", {summary.repeats:.3g} repeats each" if summary.repeats else ""
    return f"{summary.points:,} ({share} combinations of values){repeats}{cut}"


def _quantile(q: str, ranked: Objective) -> str:
    best, worst = ("fastest", "slowest") if ranked.is_time else ("best", "worst")
    return {"0": "optimum", "0.5": "median", "1": worst}.get(q, f"{best} {float(q):.0%}")


def _values(values: tuple[Any, ...]) -> str:
    texts = [token(value).decode() for value in values]
    return ", ".join(texts if len(texts) <= 12 else [*texts[:8], "…", texts[-1]])
