"""The summary of a recording: what was measured, and how its times are spread."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec import Struct

from autotune.cli.output import print_json, print_labelled, print_table
from autotune.cli.summary import counts_text
from autotune.core.config import Config, token
from autotune.shell.wording import milliseconds
from autotune.studies.recordings import Recording, load_recording

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 1.0)


class Optimum(Struct, frozen=True):
    """The fastest recorded point."""

    config: Config
    time_ms: float
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


def show_recording(path: Path, as_json: bool) -> Config | None:
    """Print the summary; the fastest config, if any was timed."""
    recording = load_recording(path)
    summary = _summary(path, recording)
    if as_json:
        print_json(summary)
    else:
        _print(summary)
    return None if summary.optimum is None else summary.optimum.config


def _summary(path: Path, recording: Recording) -> RecordingSummary:
    times = recording.time_ms[recording.timed]
    outcomes = Counter(recording.failure(row) or "timed" for row in range(len(recording)))
    optimum: Optimum | None = None
    quantiles: dict[str, float] = {}
    if len(times):
        row = int(np.flatnonzero(recording.timed)[np.argmin(times)])
        optimum = Optimum(recording.config(row), float(times.min()), recording.key(row))
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
        quantiles_ms=quantiles,
    )


def _print(summary: RecordingSummary) -> None:
    rows = [("recording", summary.name), ("kernel", summary.kernel), ("device", summary.device)]
    rows += [("problem", summary.problem), ("points", _points(summary)), ("outcomes", counts_text(summary.counts))]
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
    spread = [(_quantile(q), f"{milliseconds(t)}  {t / optimum.time_ms:.3g}x") for q, t in summary.quantiles_ms.items()]
    print_labelled([*spread, ("config", optimum.config.to_json())])


def _points(summary: RecordingSummary) -> str:
    share = "all" if summary.points == summary.product else f"of {summary.product:,}"
    cut = "; the file was cut off" if summary.partial else ""
    repeats = f", {summary.repeats:.3g} repeats each" if summary.repeats else ""
    return f"{summary.points:,} ({share} combinations of values){repeats}{cut}"


def _quantile(q: str) -> str:
    return {"0": "optimum", "0.5": "median", "1": "slowest"}.get(q, f"fastest {float(q):.0%}")


def _values(values: tuple[Any, ...]) -> str:
    texts = [token(value).decode() for value in values]
    return ", ".join(texts if len(texts) <= 12 else [*texts[:8], "…", texts[-1]])
