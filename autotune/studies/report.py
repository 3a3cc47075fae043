"""The files of a study: tables as CSV and Markdown, figures as SVG, the study itself, and one HTML report.

The report needs no network and no script. matplotlib is an extra, imported when a figure is drawn and never before. The
same study gives the same bytes.
"""

import io
from collections.abc import Mapping, Sequence
from html import escape as escape_markup
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from autotune._extras import install_command
from autotune.core.formatting import escape_control_lines, escape_controls
from autotune.shell.files import translate_os_error, write_output
from autotune.studies.recordings.recording import Floats
from autotune.studies.result import Benchmark, StudyResult
from autotune.studies.scores import POINTS, Axis, bootstrap
from autotune.studies.spec import Case, StudyError
from autotune.studies.tables import StudyTable, curve_table, own_time_table
from autotune.version import __version__

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CAPTIONS = {
    "ranking": "Strategies by P, simulated time",
    "curves_by_time": "Mean over recordings and kernels, by simulated time; bands: 95 % interval over the seeds",
    "curves_by_evaluations": "The same by evaluations",
    "recordings": "Each recording, by simulated time",
}
"""The figures in the order of the report."""

_PLOT_STYLE: dict[str, Any] = {
    "svg.hashsalt": "autotune",  # or the ids in the file would be random
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}

_LOWEST_SCORE = -1.0
"""Curves are drawn from here up: the first few draws may lie far below random search, and would flatten the rest."""

_PANELS_PER_ROW = 3

_PAGE_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-size: 12px; display: block; overflow-x: auto; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1.5rem 0; } figcaption { color: #555; } svg { max-width: 100%; height: auto; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; }
"""

_INTRODUCTION = """\
P is 0 for random search and 1 for finding the optimum at once (Willemsen et al., 2024): the mean over
50 points of the budget of how much of the way from random search to the optimum was gone. Numbers are means over the
seeds, then over the recordings of a kernel, then over kernels. "to 5 %": the median number of evaluations until
the best is within 5 % of the optimum, "never" if half of the runs were not; "within 5 %": the share that were.
"best @100": optimum / best after 100 evaluations. docs/howto/compare_strategies.md has the formulas."""


def write_study(result: StudyResult, tables: Sequence[StudyTable], folder: Path) -> list[str]:
    """Write all files of a study; returns notes for people, a sentence each. Raises StudyError where it cannot."""
    notes = [f"tables and report are in {folder}"]
    try:
        figures = _draw_figures(result)
    except StudyError as error:
        figures = {}
        notes.append(str(error))
    files = {f"{table.name}.csv": table.csv() for table in (*tables, curve_table(result), own_time_table(result))}
    files |= {f"{name}.svg": svg for name, svg in figures.items()}
    files["tables.md"] = "\n".join(table.markdown() for table in tables)
    files["report.html"] = _html_report(result, tables, figures)
    files["study.json"] = msgspec.json.format(msgspec.json.encode(result.spec), indent=2).decode() + "\n"
    with translate_os_error(StudyError, f"{folder}: cannot be written", "use another --out"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_output(folder / name, text.encode())
    return notes


def _draw_figures(result: StudyResult) -> dict[str, str]:
    """Name to SVG text; raises StudyError, with the extra to install, where matplotlib is missing."""
    try:
        matplotlib: Any = import_module("matplotlib")  # its own types change from version to version
    except ImportError:
        raise StudyError(f"figures need matplotlib; {install_command('plots')}") from None
    with matplotlib.rc_context(_PLOT_STYLE):
        return {
            "curves_by_time": _svg(_overall_figure(result, "time")),
            "curves_by_evaluations": _svg(_overall_figure(result, "evaluations")),
            "recordings": _svg(_recordings_figure(result)),
            "ranking": _svg(_ranking_figure(result)),
        }


def _overall_figure(result: StudyResult, axis: Axis) -> "Figure":
    figure = _new_figure(7, 4)
    axes = figure.subplots()
    _draw_curves(axes, result, result.benchmarks, axis)
    axes.set_xlabel(f"share of the budget ({'simulated time' if axis == 'time' else 'evaluations'})")
    axes.set_ylabel("0: random search, 1: the optimum")
    figure.legend(loc="outside right upper")
    return figure


def _recordings_figure(result: StudyResult) -> "Figure":
    """A panel for each recording."""
    rows = -(-len(result.benchmarks) // _PANELS_PER_ROW)
    figure = _new_figure(3.2 * _PANELS_PER_ROW, 2.4 * rows + 0.4)
    panels = figure.subplots(rows, _PANELS_PER_ROW, squeeze=False, sharex=True).ravel()
    for axes, benchmark in zip(panels, result.benchmarks, strict=False):
        _draw_curves(axes, result, (benchmark,), "time")
        axes.set_title(f"{escape_controls(benchmark.name)} ({benchmark.scorer.baseline.budget_s:.0f} s)", fontsize=8)
    for axes in panels[len(result.benchmarks) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _draw_curves(axes: "Axes", result: StudyResult, benchmarks: tuple[Benchmark, ...], axis: Axis) -> None:
    shares = np.arange(1, POINTS + 1) / POINTS
    for number, case in enumerate(result.cases):
        mean, error = _mean_and_error(result, case, benchmarks, axis)
        colour = f"C{number % 10}"
        line = "-" if number < 10 else "--"
        axes.plot(shares, mean, line, color=colour, label=escape_controls(case.label))
        axes.fill_between(shares, mean - 1.96 * error, mean + 1.96 * error, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set_ylim(max(axes.get_ylim()[0], _LOWEST_SCORE), 1.02)
    axes.set_xlim(0, 1)


def _mean_and_error(
    result: StudyResult, case: Case, benchmarks: tuple[Benchmark, ...], axis: Axis
) -> tuple[Floats, Floats]:
    """[POINTS] the standardised mean curve over `benchmarks`, weighted, and its standard error over the seeds."""
    chosen = [result.benchmarks.index(benchmark) for benchmark in benchmarks]
    weights = result.weights[chosen] / result.weights[chosen].sum()
    curves = np.stack([result.curves(case, benchmark, axis) for benchmark in benchmarks])
    seeds = curves.shape[1]
    variance = curves.var(axis=1, ddof=1) / seeds if seeds > 1 else np.zeros(curves[:, 0].shape)
    mean = (weights[:, None] * curves.mean(axis=1)).sum(axis=0)
    return mean, np.sqrt((weights[:, None] ** 2 * variance).sum(axis=0))


def _ranking_figure(result: StudyResult) -> "Figure":
    ranked = sorted(
        ((bootstrap(result.score_matrix(case, "time"), result.kernels), case.label) for case in result.cases),
        key=lambda pair: (pair[0].mean, pair[1]),
    )
    figure = _new_figure(7, 0.35 * len(ranked) + 1)
    axes = figure.subplots()
    means = np.array([estimate.mean for estimate, _ in ranked])
    ends = np.array([(e.mean - e.low, e.high - e.mean) for e, _ in ranked]).T.clip(min=0)
    axes.barh([label for _, label in ranked], means, xerr=ends, color="C0", error_kw={"linewidth": 1, "capsize": 2})
    axes.axvline(0, color="0.5", linewidth=0.8)
    axes.set_xlabel("P by time, 95 % interval over recordings and seeds")
    return figure


def _new_figure(width: float, height: float) -> "Figure":
    """A figure of so many inches, made without pyplot, which keeps its figures and wants a display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: "Figure") -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _html_report(result: StudyResult, tables: Sequence[StudyTable], figures: Mapping[str, str]) -> str:
    """The report; `figures` are SVG texts by name, none where they could not be drawn."""
    name = _escape(result.spec.name)
    drawn = "\n".join(
        f"<figure>{_embed_svg(figures[key], key)}<figcaption>{_escape(caption)}</figcaption></figure>"
        for key, caption in _CAPTIONS.items()
        if key in figures
    )
    missing = "" if figures else f"<p>No figures: they need matplotlib ({_escape(install_command('plots'))}).</p>"
    spec = msgspec.json.format(msgspec.json.encode(result.spec), indent=2).decode()
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>{_PAGE_STYLE}</style></head><body>
<h1>{name}</h1>
<p>{len(result.cases)} strategies, {len(result.benchmarks)} recordings of {len(set(result.kernels))} kernels,
{len(result.spec.seed_list)} seeds; autotune {_escape(__version__)}.</p>
<p>{_escape(_INTRODUCTION)}</p>
{missing}{drawn}
{"".join(map(_html_table, tables))}
<h2>The study</h2><pre>{_escape(spec)}</pre>
</body></html>
"""


def _embed_svg(svg: str, name: str) -> str:
    """Without the XML header, and with ids that begin with the figure's name: two figures in a page share none."""
    body = svg[svg.index("<svg") :]
    for mark in ('id="', 'href="#', "url(#"):
        body = body.replace(mark, f"{mark}{name}-")
    return body


def _html_table(table: StudyTable) -> str:
    classes = [" class=number" if table.is_numeric(column) else "" for column in range(len(table.header))]
    head = "".join(f"<th>{_escape(title)}</th>" for title in table.header)
    rows = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{_escape(cell)}</td>" for cell, kind in zip(row, classes, strict=True)) + "</tr>"
        for row in table.rows
    )
    return f"<h2>{_escape(table.title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>\n"


def _escape(text: str) -> str:
    """A text as HTML; characters that would steer a browser, or are none of HTML, are shown escaped."""
    return escape_markup(escape_control_lines(text))
