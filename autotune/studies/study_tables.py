"""The tables of a study: its recordings, each strategy on each of them, and each strategy overall."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from autotune.studies.aggregate import weighted_median
from autotune.studies.compare import bootstrap
from autotune.studies.losses import loss_table
from autotune.studies.metrics import MARKS, NEARNESS, Score
from autotune.studies.study_result import Floats, StudyResult
from autotune.studies.study_spec import Case
from autotune.studies.sweeps import sweep_table
from autotune.studies.tables import Table, evaluations, interval, number, share

_NEAR = tuple(f"{100 * near:.0f} %" for near in NEARNESS)
_REACHED = (*(f"to {near}" for near in _NEAR), *(f"within {near}" for near in _NEAR))
_QUALITY = (*(f"best @{mark}" for mark in MARKS), "best at end")


def study_tables(result: StudyResult) -> tuple[Table, ...]:
    """All that do not depend on how fast this machine is: the same study gives the same bytes."""
    tables = [overall_table(result), recording_table(result), course_table(result)]
    tables += [table for table in (pair_table(result), sweep_table(result), loss_table(result)) if table.rows]
    return tuple(tables)


def course_table(result: StudyResult) -> Table:
    """What was searched, and the budget of the methodology on it."""
    header = (
        "recording", "kernel", "points", "failed", "optimum ms", "median ms", "budget", "budget s", "evaluations"
    )  # fmt: skip
    rows = []
    for course, kernel in zip(result.courses, result.kernels, strict=True):
        recording, baseline = course.judge.recording, course.judge.baseline
        failed = len(recording) - int(recording.timed.sum())
        rows.append(
            (
                course.name,
                kernel,
                str(len(recording)),
                str(failed),
                f"{baseline.optimum_ms:.6g}",
                f"{baseline.median_ms:.6g}",
                str(baseline.budget),
                f"{baseline.budget_s:.1f}",
                str(course.evaluations),
            )  # fmt: skip
        )
    return Table("recordings", "The recordings", header, tuple(rows))


def recording_table(result: StudyResult) -> Table:
    """Each strategy on each recording, mean over the seeds (medians of evaluations)."""
    header = (
        "recording", "strategy", "P by time", "P by evaluations", *_REACHED, *_QUALITY, "worst P", "worst at end",
        "evaluated", "failed",
    )  # fmt: skip
    rows = []
    for course in result.courses:
        for case in result.cases:
            scores = (result.scores[case.label, course.name],)
            p = [
                result.score_matrix(case, axis)[result.courses.index(course)].mean() for axis in ("time", "evaluations")
            ]
            counts = [np.mean([getattr(s, name) for s in scores[0]]) for name in ("evaluated", "failed")]
            rows.append(
                (
                    course.name,
                    case.label,
                    *map(number, p),
                    *_common(scores, np.ones(1)),
                    *(number(float(count), 1) for count in counts),
                )  # fmt: skip
            )
    return Table("by_recording", "Each strategy on each recording", header, tuple(rows))


def overall_table(result: StudyResult) -> Table:
    """Each strategy over all recordings: first over those of a kernel, then over kernels."""
    header = (
        "strategy", "P by time", "95 % (time)", "P by evaluations", "95 % (evaluations)", *_REACHED, *_QUALITY,
        "worst P", "worst at end",
    )  # fmt: skip
    rows = []
    for case in result.cases:
        cells = []
        for axis in ("time", "evaluations"):
            estimate = bootstrap(result.score_matrix(case, axis), result.kernels)
            cells += [number(estimate.mean), interval(estimate.low, estimate.high)]
        rows.append((case.label, *cells, *_common(result.scores_of(case), result.weights)))
    return Table("overall", "Each strategy, mean over recordings and kernels", header, tuple(rows))


def pair_table(result: StudyResult) -> Table:
    """Each pair of strategies: the mean difference of P, and its interval."""
    header = ("strategy", "less", "P by time", "95 % (time)", "P by evaluations", "95 % (evaluations)", "told apart")
    rows = [(one.label, other.label, *differences(result, one, other)) for one, other in combinations(result.cases, 2)]
    return Table("pairs", "Differences of P, paired by recording and seed", header, tuple(rows))


def differences(result: StudyResult, one: Case, other: Case) -> list[str]:
    """Cells: difference by time, interval, difference by evaluations, interval, and whether both exclude 0."""
    estimates = [
        bootstrap(result.score_matrix(one, axis) - result.score_matrix(other, axis), result.kernels)
        for axis in ("time", "evaluations")
    ]
    apart = [estimate.low > 0 or estimate.high < 0 for estimate in estimates]
    words = "yes" if all(apart) else "by time" if apart[0] else "by evaluations" if apart[1] else "no"
    return [cell for e in estimates for cell in (number(e.mean), interval(e.low, e.high))] + [words]


def _common(scores: Sequence[Sequence[Score]], weights: Floats) -> list[str]:
    """Cells of the columns that all tables share, of scores [recordings][seeds] with weights [recordings]."""
    each = [(score, weight / len(own)) for own, weight in zip(scores, weights.tolist(), strict=True) for score in own]
    shares = [weight for _, weight in each]
    medians, reached = [], []
    for i in range(len(NEARNESS)):
        medians.append(evaluations(weighted_median([score.reached[i] for score, _ in each], shares)))
        reached.append(share(sum(weight for score, weight in each if score.reached[i] is not None) / sum(shares)))
    quality = [sum(score.quality[i] * weight for score, weight in each) for i in range(len(MARKS))]
    quality.append(sum(score.final * weight for score, weight in each))
    worst = (min(score.by_time for score, _ in each), min(score.final for score, _ in each))
    return [*medians, *reached, *map(number, quality), *map(number, worst)]


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
