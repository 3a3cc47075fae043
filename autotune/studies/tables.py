"""The tables of a study as text, rounded, so that the same study gives the same bytes.

There are tables of the recordings, of each strategy on each of them and over all, of pairs of strategies, of the effect
of swept settings, and of losses by noise. With noise a search loses in two ways: the best point was never measured, or
it was measured and not picked. Relative to the optimum, and so that the parts add up:

    exploration = best measured / optimum - 1        selection = (picked - best measured) / optimum

both by the median of the recorded repeats without the cold first one, from which the noise is drawn too.
"""

import csv
import io
import re
from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
from msgspec import Struct

from autotune.shell.evaluators.simulated import Noise
from autotune.studies.recordings import Recording
from autotune.studies.recordings.recording import Floats
from autotune.studies.result import StudyResult
from autotune.studies.runs import RunRecord
from autotune.studies.scores import AXES, MARKS, NEARNESS, POINTS, Estimate, Score, bootstrap, weighted_median

_NEVER = "never"
"""A median number of evaluations that at least half of the runs did not reach."""

_P = {"time": "P by time", "evaluations": "P by evaluations"}
_NEAR = tuple(f"{100 * near:.0f} %" for near in NEARNESS)
_COMMON = (
    *(f"to {near}" for near in _NEAR),
    *(f"within {near}" for near in _NEAR),
    *(f"best @{mark}" for mark in MARKS),
    "best at end",
    "worst P",
    "worst at end",
)
"""The columns that `_common_cells` fills."""

SHOWN_MARK = 100
"""The number of evaluations whose best a terminal shows."""

_NUMBER = re.compile(r"[+-]?\d[\d.,]*([eE][+-]?\d+)?%?", re.ASCII)


class StudyTable(Struct, frozen=True, kw_only=True):
    """name: of its file. title: for people. rows: cells as text, rounded."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def csv(self) -> str:
        """As in RFC 4180, with plain line ends; a cell that a spreadsheet would calculate begins with an apostrophe."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(
            [*map(_escape_formula, row)] for row in (self.header, *self.rows)
        )
        return text.getvalue()

    def markdown(self) -> str:
        """With the title as a heading; numbers to the right."""
        marks = ["---:" if self.is_numeric(i) else "---" for i in range(len(self.header))]
        lines = (self.header, marks, *self.rows)
        body = "\n".join(
            "| " + " | ".join(_one_line(cell.replace("|", "\\|")) for cell in line) + " |" for line in lines
        )
        return f"## {self.title}\n\n{body}\n"

    def only(self, *columns: str) -> "StudyTable":
        """The table with these columns alone."""
        chosen = [self.header.index(column) for column in columns]
        rows = tuple(tuple(row[i] for i in chosen) for row in self.rows)
        return StudyTable(name=self.name, title=self.title, header=columns, rows=rows)

    def is_numeric(self, column: int) -> bool:
        """Whether the column holds numbers."""
        return all(row[column] == _NEVER or row[column][:1] in "-0123456789" for row in self.rows)


def _escape_formula(cell: str) -> str:
    """A cell of a CSV file as text for every spreadsheet, which takes =, +, -, @ or a tab at the beginning of a line
    for a formula: names come from users. Numbers stay numbers."""
    cell = _one_line(cell)
    formula = cell.startswith("\t") or cell.lstrip().startswith(("=", "+", "-", "@"))
    return f"'{cell}" if formula and cell != "-" and not _NUMBER.fullmatch(cell) else cell


def _one_line(cell: str) -> str:
    return " ".join(cell.splitlines())


def _number(value: float, digits: int = 3) -> str:
    """With so many digits after the point; no negative zero."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _interval_titles(title: str) -> tuple[str, str, str]:
    """The headers of an estimate and of its 95 % interval."""
    return title, f"{title} low", f"{title} high"


def _interval_cells(estimate: Estimate) -> tuple[str, str, str]:
    return _number(estimate.mean), _number(estimate.low), _number(estimate.high)


def study_tables(result: StudyResult) -> tuple[StudyTable, ...]:
    """The tables that do not depend on how fast this machine is: the same study gives the same bytes."""
    tables = [_overall_table(result), _recording_table(result), _recordings_table(result)]
    tables += [table for table in (_pair_table(result), _sweep_table(result), _loss_table(result)) if table.rows]
    return tuple(tables)


def short_tables(tables: Sequence[StudyTable], at_end: bool = False) -> tuple[StudyTable, ...]:
    """The tables with the columns that fit a terminal.

    at_end: show the best at the end of the runs instead of the best at SHOWN_MARK evaluations, which they do not reach.
    """
    time = _interval_titles(_P["time"])
    near = ("to 5 %", "within 5 %", "best at end" if at_end else f"best @{SHOWN_MARK}", "worst P")
    columns: dict[str, tuple[str, ...]] = {
        "overall": ("strategy", *time, _P["evaluations"], *near),
        "by_recording": ("recording", "strategy", *_P.values(), *near),
        "recordings": ("recording", "kernel", "points", "failed", "optimum ms", "budget", "budget s"),
        "pairs": ("strategy", "less", *time, "told apart"),
    }
    sweep = next((table.header for table in tables if table.name == "sweep"), ())
    columns["sweep"] = tuple(title for title in sweep if not title.startswith(_P["evaluations"]))
    return tuple(table.only(*columns.get(table.name, table.header)) for table in tables)


def _overall_table(result: StudyResult) -> StudyTable:
    """Each strategy over all recordings: first over a kernel's recordings, then over kernels."""
    header = ("strategy", *(title for axis in AXES for title in _interval_titles(_P[axis])), *_COMMON)
    rows = []
    for case in result.cases:
        estimates = [bootstrap(result.score_matrix(case, axis), result.kernels) for axis in AXES]
        cells = [cell for estimate in estimates for cell in _interval_cells(estimate)]
        rows.append((case.label, *cells, *_common_cells(result.scores_of(case), result.weights)))
    return StudyTable(
        name="overall", title="Each strategy, mean over recordings and kernels", header=header, rows=tuple(rows)
    )


def _recording_table(result: StudyResult) -> StudyTable:
    """Each strategy on each recording, mean over the seeds (medians of evaluations)."""
    header = ("recording", "strategy", *_P.values(), *_COMMON, "evaluated", "failed")
    rows = []
    for benchmark in result.benchmarks:
        for case in result.cases:
            scores = result.scores[case.label, benchmark.name]
            p = [np.mean([score.by_time for score in scores]), np.mean([score.by_evaluations for score in scores])]
            counts = [np.mean([score.evaluated for score in scores]), np.mean([score.failed for score in scores])]
            cells = (*(_number(float(mean)) for mean in p), *_common_cells((scores,), np.ones(1)))
            rows.append((benchmark.name, case.label, *cells, *(_number(float(count), 1) for count in counts)))
    return StudyTable(name="by_recording", title="Each strategy on each recording", header=header, rows=tuple(rows))


def _common_cells(scores: Sequence[Sequence[Score]], weights: Floats) -> list[str]:
    """The cells of `_COMMON`, of scores [recordings][seeds] with weights [recordings]."""
    each = [(score, weight / len(own)) for own, weight in zip(scores, weights.tolist(), strict=True) for score in own]
    shares = [weight for _, weight in each]
    medians, reached = [], []
    for i in range(len(NEARNESS)):
        median = weighted_median([score.reached[i] for score, _ in each], shares)
        medians.append(_NEVER if median is None else f"{median:g}")
        there = sum(weight for score, weight in each if score.reached[i] is not None)
        reached.append(_number(there / sum(shares), 2))
    quality = [sum(score.quality[i] * weight for score, weight in each) for i in range(len(MARKS))]
    quality.append(sum(score.final * weight for score, weight in each))
    worst = (min(score.by_time for score, _ in each), min(score.final for score, _ in each))
    return [*medians, *reached, *map(_number, quality), *map(_number, worst)]


def _recordings_table(result: StudyResult) -> StudyTable:
    """Each recording, and the budget of the methodology on it."""
    header = (
        "recording", "kernel", "points", "failed", "optimum ms", "median ms", "budget", "budget s", "evaluations"
    )  # fmt: skip
    rows = []
    for benchmark, kernel in zip(result.benchmarks, result.kernels, strict=True):
        recording, baseline = benchmark.scorer.recording, benchmark.scorer.baseline
        counts = (len(recording), len(recording) - int(recording.timed.sum()))
        value = recording.objective.value
        times = (f"{value(baseline.optimum_ms):.6g}", f"{value(baseline.median_ms):.6g}")
        ends = (str(baseline.budget), _number(baseline.budget_s, 1), str(benchmark.evaluations))
        rows.append((benchmark.name, kernel, *map(str, counts), *times, *ends))
    return StudyTable(name="recordings", title="The recordings", header=header, rows=tuple(rows))


def _pair_table(result: StudyResult) -> StudyTable:
    """Each pair of strategies: the mean difference of P, and its interval."""
    header = ("strategy", "less", *(title for axis in AXES for title in _interval_titles(_P[axis])), "told apart")
    rows = []
    for one, other in combinations(result.cases, 2):
        estimates = [
            bootstrap(result.score_matrix(one, axis) - result.score_matrix(other, axis), result.kernels)
            for axis in AXES
        ]
        apart = [axis for axis, e in zip(AXES, estimates, strict=True) if e.low > 0 or e.high < 0]
        words = {0: "no", len(AXES): "yes"}.get(len(apart), f"by {''.join(apart)}")
        rows.append((one.label, other.label, *(cell for e in estimates for cell in _interval_cells(e)), words))
    return StudyTable(
        name="pairs", title="Differences of P, paired by recording and seed", header=header, rows=tuple(rows)
    )


def _sweep_table(result: StudyResult) -> StudyTable:
    """Each setting of each swept strategy; the effects are against its first row, paired by recording and seed."""
    settings = tuple(result.spec.sweep)
    titles = [(title, *_interval_titles(f"{title} effect")) for title in _P.values()]
    header = ("strategy", *settings, *(title for four in titles for title in four))
    first = {case.base: case for case in reversed(result.cases)}
    rows = []
    for case in result.cases:
        if case.swept:
            cells = [case.base, *(str(case.swept.get(setting, "-")) for setting in settings)]
            for axis in AXES:
                own, reference = (result.score_matrix(one, axis) for one in (case, first[case.base]))
                cells.append(_number(bootstrap(own, result.kernels).mean))
                cells += _interval_cells(bootstrap(own - reference, result.kernels))
            rows.append(tuple(cells))
    return StudyTable(name="sweep", title="The effect of the settings", header=header, rows=tuple(rows))


class _Loss(Struct, frozen=True):
    """How much slower than the optimum a run ended, by cause, relative to the optimum: 0.1 is a tenth slower."""

    exploration: float
    selection: float


def warm_medians_ms(recording: Recording) -> Floats:
    """[N] the median of the repeats of each point less the first, in milliseconds; the recorded time where no repeats
    were kept; NaN for a failure."""
    times = recording.time_ms.copy()
    for row in np.flatnonzero(recording.timed).tolist():
        samples = recording.samples(row)
        if len(samples):
            times[row] = np.median(samples[1:] if len(samples) > 1 else samples)
    return times


def loss(run: RunRecord, times_ms: Floats) -> _Loss | None:
    """The loss of one run, by the warm medians [N] of its recording; None where the run timed nothing."""
    measured = times_ms[list(run.rows)]
    measured = measured[~np.isnan(measured)]
    if run.picked is None or not len(measured):
        return None
    optimum, best = float(np.nanmin(times_ms)), float(measured.min())
    return _Loss(best / optimum - 1, (float(times_ms[run.picked]) - best) / optimum)


def _loss_table(result: StudyResult) -> StudyTable:
    """Mean losses of each strategy, where the study has noise; no row where it has none."""
    header = (
        "recording", "strategy", "exploration", "selection", "in all", "picked the best measured", "timed nothing"
    )  # fmt: skip
    rows = []
    for benchmark in result.benchmarks if result.spec.noise != Noise.OFF else ():
        times = warm_medians_ms(benchmark.scorer.recording)
        for case in result.cases:
            losses = [loss(run, times) for run in result.runs_of(case, benchmark)]
            known = [one for one in losses if one is not None]
            exploration, selection = [one.exploration for one in known], [one.selection for one in known]
            parts = (exploration, selection, [a + b for a, b in zip(exploration, selection, strict=True)])
            means = [_number(float(np.mean(part)) if known else 0.0, 4) for part in parts]
            right = _number(selection.count(0) / max(len(known), 1), 2)
            rows.append((benchmark.name, case.label, *means, right, str(len(losses) - len(known))))
    return StudyTable(
        name="losses", title="What noise and search cost, relative to the optimum", header=header, rows=tuple(rows)
    )


def curve_table(result: StudyResult) -> StudyTable:
    """The mean curves: the best time after each share of the budget, also from random search (0) to optimum (1)."""
    header = ("recording", "strategy", "by", "share", "random ms", "best ms", "standardised")
    rows = []
    for benchmark, case, axis in product(result.benchmarks, result.cases, AXES):
        means = result.best_ms(case, benchmark, axis).mean(axis=0)
        columns = (benchmark.scorer.baselines[axis], means, benchmark.scorer.standardise(means, axis))
        value = benchmark.scorer.recording.objective.value
        for i, (random, best, standardised) in enumerate(zip(*(column.tolist() for column in columns), strict=True), 1):
            share, bests = _number(i / POINTS, 2), (f"{value(random):.6g}", f"{value(best):.6g}")
            rows.append((benchmark.name, case.label, axis, share, *bests, _number(standardised, 4)))
    return StudyTable(name="curves", title="Mean curves", header=header, rows=tuple(rows))


def own_time_table(result: StudyResult) -> StudyTable:
    """Processor time of the strategies on this machine; it differs from run to run, so `study_tables` leaves it out."""
    header = ("strategy", "own ms per evaluation", "slowest run", "own s in all", "wall s in all")
    rows = []
    for case in result.cases:
        runs = [run for benchmark in result.benchmarks for run in result.runs_of(case, benchmark)]
        each = [1000 * run.cpu_s / max(len(run.rows), 1) for run in runs]
        totals = (sum(run.cpu_s for run in runs), sum(run.wall_s for run in runs))
        rows.append((case.label, _number(float(np.mean(each))), _number(max(each)), *(_number(t, 1) for t in totals)))
    return StudyTable(
        name="own_time", title="Processor time of the strategies on this machine", header=header, rows=tuple(rows)
    )
