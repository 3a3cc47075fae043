"""How much a noisy search lost, and to what: the best point was never measured, or it was measured and not picked.

Relative to the optimum, and so that the parts add up:

    exploration = best measured / optimum - 1        selection = (picked - best measured) / optimum

Both by the times that measuring for ever would give: the median of the recorded repeats, the cold first one left out,
which is what the noise is drawn from.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.shell.evaluators.simulated import Noise
from autotune.studies.recordings import Recording
from autotune.studies.run_store import RunRecord
from autotune.studies.study_result import StudyResult
from autotune.studies.tables import Table, number

Floats = NDArray[np.float64]


class Loss(Struct, frozen=True):
    """Relative to the optimum: 0.1 is a tenth slower."""

    exploration: float
    selection: float


def settled_ms(recording: Recording) -> Floats:
    """[N] the median of the repeats of each point less the first; the recorded time where none were kept; NaN for a
    failure."""
    times = recording.time_ms.copy()
    for row in np.flatnonzero(recording.timed).tolist():
        samples = recording.samples(row)
        if len(samples):
            times[row] = np.median(samples[1:] if len(samples) > 1 else samples)
    return times


def loss(run: RunRecord, times_ms: Floats) -> Loss | None:
    """Of one run, by the settled times [N] of its recording; None where the run timed nothing."""
    measured = times_ms[list(run.rows)]
    measured = measured[~np.isnan(measured)]
    if run.picked is None or not len(measured):
        return None
    optimum, best = float(np.nanmin(times_ms)), float(measured.min())
    return Loss(best / optimum - 1, (float(times_ms[run.picked]) - best) / optimum)


def loss_table(result: StudyResult) -> Table:
    """Mean losses of each strategy, where the study has noise; no row where it has none."""
    header = (
        "recording",
        "strategy",
        "exploration",
        "selection",
        "in all",
        "picked the best measured",
        "timed nothing",
    )
    rows = []
    for course in result.courses if result.spec.noise != Noise.OFF else ():
        times = settled_ms(course.judge.recording)
        for case in result.cases:
            losses = [loss(run, times) for run in result.runs_of(case, course)]
            known = [one for one in losses if one is not None]
            parts = [float(np.mean(part)) if known else 0.0 for part in _parts(known)]
            right = sum(one.selection == 0 for one in known) / max(len(known), 1)
            missing = str(len(losses) - len(known))
            rows.append((course.name, case.label, *(number(part, 4) for part in parts), number(right, 2), missing))
    return Table("losses", "What noise and search cost, relative to the optimum", header, tuple(rows))


def _parts(losses: list[Loss]) -> tuple[list[float], list[float], list[float]]:
    exploration, selection = ([getattr(one, name) for one in losses] for name in ("exploration", "selection"))
    return exploration, selection, [one + other for one, other in zip(exploration, selection, strict=True)]
