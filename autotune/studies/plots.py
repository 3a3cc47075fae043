"""Figures of a study as SVG text: mean curves with bands, one panel a recording, and the ranking.

matplotlib is an extra, imported when a figure is drawn and never before. The same study gives the same bytes.
"""

import io
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.shell.wording import visible
from autotune.studies.compare import bootstrap
from autotune.studies.metrics import POINTS, Axis
from autotune.studies.study_result import Course, Floats, StudyResult
from autotune.studies.study_spec import Case, StudyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: dict[str, Any] = {
    "svg.hashsalt": "autotune",  # or the ids in the file would be random
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}

LOWEST = -1.0
"""Curves are drawn from here up: the first few draws may lie far below random search, and would flatten the rest."""

PER_ROW = 3


def study_figures(result: StudyResult) -> dict[str, str]:
    """Name to SVG text; raises StudyError, with the extra to install, where matplotlib is missing."""
    try:
        matplotlib: Any = import_module("matplotlib")  # its own types change from version to version
    except ImportError:
        raise StudyError("figures need matplotlib; pip install 'autotune[plots]'") from None
    with matplotlib.rc_context(STYLE):
        return {
            "curves_by_time": _svg(_overall(result, "time")),
            "curves_by_evaluations": _svg(_overall(result, "evaluations")),
            "recordings": _svg(_grid(result)),
            "ranking": _svg(_ranking(result)),
        }


def _svg(figure: "Figure") -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _figure(width: float, height: float) -> "Figure":
    """Not by pyplot, which keeps figures and wants a display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def mean_and_error(result: StudyResult, case: Case, courses: tuple[Course, ...], axis: Axis) -> tuple[Floats, Floats]:
    """[POINTS] the standardised mean curve over `courses`, weighted as the tables are, and its standard error over the
    seeds."""
    chosen = [result.courses.index(course) for course in courses]
    weights = result.weights[chosen] / result.weights[chosen].sum()
    curves = np.stack([result.curves(case, course, axis) for course in courses])
    seeds = curves.shape[1]
    variance = curves.var(axis=1, ddof=1) / seeds if seeds > 1 else np.zeros(curves[:, 0].shape)
    mean = (weights[:, None] * curves.mean(axis=1)).sum(axis=0)
    return mean, np.sqrt((weights[:, None] ** 2 * variance).sum(axis=0))


def _draw(axes: "Axes", result: StudyResult, courses: tuple[Course, ...], axis: Axis) -> None:
    shares = np.arange(1, POINTS + 1) / POINTS
    for number, case in enumerate(result.cases):
        mean, error = mean_and_error(result, case, courses, axis)
        colour = f"C{number % 10}"
        line = "-" if number < 10 else "--"
        axes.plot(shares, mean, line, color=colour, label=visible(case.label))
        axes.fill_between(shares, mean - 1.96 * error, mean + 1.96 * error, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set_ylim(max(axes.get_ylim()[0], LOWEST), 1.02)
    axes.set_xlim(0, 1)


def _overall(result: StudyResult, axis: Axis) -> "Figure":
    figure = _figure(7, 4)
    axes = figure.subplots()
    _draw(axes, result, result.courses, axis)
    axes.set_xlabel(f"share of the budget ({'simulated time' if axis == 'time' else 'evaluations'})")
    axes.set_ylabel("0: random search, 1: the optimum")
    figure.legend(loc="outside right upper")
    return figure


def _grid(result: StudyResult) -> "Figure":
    rows = -(-len(result.courses) // PER_ROW)
    figure = _figure(3.2 * PER_ROW, 2.4 * rows + 0.4)
    panels = figure.subplots(rows, PER_ROW, squeeze=False, sharex=True).ravel()
    for axes, course in zip(panels, result.courses, strict=False):
        _draw(axes, result, (course,), "time")
        axes.set_title(f"{visible(course.name)} ({course.judge.baseline.budget_s:.0f} s)", fontsize=8)
    for axes in panels[len(result.courses) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _ranking(result: StudyResult) -> "Figure":
    ranked = sorted(
        ((bootstrap(result.score_matrix(case, "time"), result.kernels), case.label) for case in result.cases),
        key=lambda pair: (pair[0].mean, pair[1]),
    )
    figure = _figure(7, 0.35 * len(ranked) + 1)
    axes = figure.subplots()
    means = np.array([estimate.mean for estimate, _ in ranked])
    ends = np.array([(e.mean - e.low, e.high - e.mean) for e, _ in ranked]).T.clip(min=0)
    axes.barh([label for _, label in ranked], means, xerr=ends, color="C0", error_kw={"linewidth": 1, "capsize": 2})
    axes.axvline(0, color="0.5", linewidth=0.8)
    axes.set_xlabel("P by time, 95 % interval over recordings and seeds")
    return figure
