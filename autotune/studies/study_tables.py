"""The tables of a study: its recordings, each strategy on each of them, and each strategy overall.

How much a noisy search lost, and to what: the best point was never measured, or it was measured and not picked.

Relative to the optimum, and so that the parts add up:

    exploration = best measured / optimum - 1        selection = (picked - best measured) / optimum

Both by the times that measuring for ever would give: the median of the recorded repeats, the cold first one left out,
which is what the noise is drawn from.

The effect of the settings that a study sweeps: each value against the first one.
"""

from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.shell.evaluators.simulated import Noise
from autotune.studies.recordings import Recording
from autotune.studies.result import StudyResult
from autotune.studies.scores import AXES, MARKS, NEARNESS, POINTS, Score, bootstrap, weighted_median
from autotune.studies.tables import Table, estimated, evaluations, number, with_interval
from autotune.studies.task import RunRecord

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


def sweep_table(result: StudyResult) -> Table:
    """Each setting of each swept strategy; the effects are against its first row, paired by recording and seed."""
    settings = tuple(result.spec.sweep)
    titles = [(title, *with_interval(f"{title} effect")) for title in ("P by time", "P by evaluations")]
    header = ("strategy", *settings, *(title for four in titles for title in four))
    first = {case.base: case for case in reversed(result.cases)}
    rows = []
    for case in result.cases:
        if case.swept:
            cells = [case.base, *(str(case.swept.get(setting, "-")) for setting in settings)]
            for axis in AXES:
                own, reference = (result.score_matrix(one, axis) for one in (case, first[case.base]))
                cells.append(number(bootstrap(own, result.kernels).mean))
                cells += estimated(bootstrap(own - reference, result.kernels))
            rows.append(tuple(cells))
    return Table("sweep", "The effect of the settings", header, tuple(rows))


P = {"time": "P by time", "evaluations": "P by evaluations"}
_NEAR = tuple(f"{100 * near:.0f} %" for near in NEARNESS)
_COMMON = (
    *(f"to {near}" for near in _NEAR),
    *(f"within {near}" for near in _NEAR),
    *(f"best @{mark}" for mark in MARKS),
    "best at end",
    "worst P",
    "worst at end",
)


def study_tables(result: StudyResult) -> tuple[Table, ...]:
    """All that do not depend on how fast this machine is: the same study gives the same bytes."""
    tables = [overall_table(result), recording_table(result), course_table(result)]
    tables += [table for table in (pair_table(result), sweep_table(result), loss_table(result)) if table.rows]
    return tuple(tables)


def short_tables(tables: Sequence[Table]) -> tuple[Table, ...]:
    """The tables with what a terminal has room for."""
    time = with_interval(P["time"])
    near = ("to 5 %", "within 5 %", "best @100", "worst P")
    columns: dict[str, tuple[str, ...]] = {
        "overall": ("strategy", *time, P["evaluations"], *near),
        "by_recording": ("recording", "strategy", *P.values(), *near),
        "recordings": ("recording", "kernel", "points", "failed", "optimum ms", "budget", "budget s"),
        "pairs": ("strategy", "less", *time, "told apart"),
    }
    sweep = next((table.header for table in tables if table.name == "sweep"), ())
    columns["sweep"] = tuple(title for title in sweep if not title.startswith(P["evaluations"]))
    return tuple(table.only(*columns.get(table.name, table.header)) for table in tables)


def course_table(result: StudyResult) -> Table:
    """What was searched, and the budget of the methodology on it."""
    header = (
        "recording", "kernel", "points", "failed", "optimum ms", "median ms", "budget", "budget s", "evaluations"
    )  # fmt: skip
    rows = []
    for course, kernel in zip(result.courses, result.kernels, strict=True):
        recording, baseline = course.judge.recording, course.judge.baseline
        counts = (len(recording), len(recording) - int(recording.timed.sum()))
        value = recording.objective.value
        times = (f"{value(baseline.optimum_ms):.6g}", f"{value(baseline.median_ms):.6g}")
        ends = (str(baseline.budget), number(baseline.budget_s, 1), str(course.evaluations))
        rows.append((course.name, kernel, *map(str, counts), *times, *ends))
    return Table("recordings", "The recordings", header, tuple(rows))


def recording_table(result: StudyResult) -> Table:
    """Each strategy on each recording, mean over the seeds (medians of evaluations)."""
    header = ("recording", "strategy", *P.values(), *_COMMON, "evaluated", "failed")
    rows = []
    for course in result.courses:
        for case in result.cases:
            scores = result.scores[case.label, course.name]
            p = (_mean(scores, "by_time"), _mean(scores, "by_evaluations"))
            counts = (number(_mean(scores, name), 1) for name in ("evaluated", "failed"))
            rows.append((course.name, case.label, *map(number, p), *_common((scores,), np.ones(1)), *counts))
    return Table("by_recording", "Each strategy on each recording", header, tuple(rows))


def overall_table(result: StudyResult) -> Table:
    """Each strategy over all recordings: first over those of a kernel, then over kernels."""
    header = ("strategy", *(title for axis in AXES for title in with_interval(P[axis])), *_COMMON)
    rows = []
    for case in result.cases:
        estimates = [bootstrap(result.score_matrix(case, axis), result.kernels) for axis in AXES]
        cells = [cell for estimate in estimates for cell in estimated(estimate)]
        rows.append((case.label, *cells, *_common(result.scores_of(case), result.weights)))
    return Table("overall", "Each strategy, mean over recordings and kernels", header, tuple(rows))


def pair_table(result: StudyResult) -> Table:
    """Each pair of strategies: the mean difference of P, and its interval."""
    header = ("strategy", "less", *(title for axis in AXES for title in with_interval(P[axis])), "told apart")
    rows = []
    for one, other in combinations(result.cases, 2):
        estimates = [
            bootstrap(result.score_matrix(one, axis) - result.score_matrix(other, axis), result.kernels)
            for axis in AXES
        ]
        apart = [axis for axis, e in zip(AXES, estimates, strict=True) if e.low > 0 or e.high < 0]
        words = {0: "no", len(AXES): "yes"}.get(len(apart), f"by {''.join(apart)}")
        rows.append((one.label, other.label, *(cell for e in estimates for cell in estimated(e)), words))
    return Table("pairs", "Differences of P, paired by recording and seed", header, tuple(rows))


def _mean(scores: Sequence[Score], name: str) -> float:
    return float(np.mean([getattr(score, name) for score in scores]))


def _common(scores: Sequence[Sequence[Score]], weights: Floats) -> list[str]:
    """Cells of the columns that all tables share, of scores [recordings][seeds] with weights [recordings]."""
    each = [(score, weight / len(own)) for own, weight in zip(scores, weights.tolist(), strict=True) for score in own]
    shares = [weight for _, weight in each]
    medians, reached = [], []
    for i in range(len(NEARNESS)):
        medians.append(evaluations(weighted_median([score.reached[i] for score, _ in each], shares)))
        there = sum(weight for score, weight in each if score.reached[i] is not None)
        reached.append(number(there / sum(shares), 2))
    quality = [sum(score.quality[i] * weight for score, weight in each) for i in range(len(MARKS))]
    quality.append(sum(score.final * weight for score, weight in each))
    worst = (min(score.by_time for score, _ in each), min(score.final for score, _ in each))
    return [*medians, *reached, *map(number, quality), *map(number, worst)]


def curve_table(result: StudyResult) -> Table:
    """The mean curves: the best time after each share of the budget, and how far it is from random search (0) to the
    optimum (1)."""
    header = ("recording", "strategy", "by", "share", "random ms", "best ms", "standardised")
    rows = []
    for course, case, axis in product(result.courses, result.cases, AXES):
        means = result.best_ms(case, course, axis).mean(axis=0)
        columns = (course.judge.baselines[axis], means, course.judge.standardised(means, axis))
        value = course.judge.recording.objective.value
        for i, (random, best, standardised) in enumerate(zip(*(column.tolist() for column in columns), strict=True), 1):
            share, bests = number(i / POINTS, 2), (f"{value(random):.6g}", f"{value(best):.6g}")
            rows.append((course.name, case.label, axis, share, *bests, number(standardised, 4)))
    return Table("curves", "Mean curves", header, tuple(rows))


def own_time_table(result: StudyResult) -> Table:
    """What the strategies took themselves, on this machine: not among the tables that repeat."""
    header = ("strategy", "own ms per evaluation", "slowest run", "own s in all", "wall s in all")
    rows = []
    for case in result.cases:
        runs = [run for course in result.courses for run in result.runs_of(case, course)]
        each = [1000 * run.cpu_s / max(len(run.rows), 1) for run in runs]
        totals = (sum(run.cpu_s for run in runs), sum(run.wall_s for run in runs))
        rows.append((case.label, number(float(np.mean(each))), number(max(each)), *(number(t, 1) for t in totals)))
    return Table("own_time", "Processor time of the strategies on this machine", header, tuple(rows))
