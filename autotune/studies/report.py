"""One HTML file with the tables and figures of a study. It needs no network and no script."""

from collections.abc import Mapping, Sequence
from html import escape as escape_markup

import msgspec

from autotune.shell.wording import visible_lines
from autotune.studies.study_result import StudyResult
from autotune.studies.tables import Table
from autotune.version import __version__

CAPTIONS = {
    "ranking": "Strategies by P, simulated time",
    "curves_by_time": "Mean over recordings and kernels, by simulated time; bands: 95 % interval over the seeds",
    "curves_by_evaluations": "The same by evaluations",
    "recordings": "Each recording, by simulated time",
}

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-size: 12px; display: block; overflow-x: auto; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1.5rem 0; } figcaption { color: #555; } svg { max-width: 100%; height: auto; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; }
"""

INTRODUCTION = """P is 0 for random search and 1 for finding the optimum at once (Willemsen et al., 2024): the mean over
50 points of the budget of how much of the way from random search to the optimum was gone. Numbers are means over the
seeds, then over the recordings of a kernel, then over kernels. "to 5 %": the median number of evaluations until
the best is within 5 % of the optimum, "never" if half of the runs were not; "within 5 %": the share that were.
"best @100": optimum / best after 100 evaluations. docs/studies.md has the formulas."""


def study_report(result: StudyResult, tables: Sequence[Table], figures: Mapping[str, str]) -> str:
    """The report; `figures` are SVG texts by name, and may be none."""
    name = _escaped(result.spec.name)
    drawn = "\n".join(
        f"<figure>{_inline(figures[key], key)}<figcaption>{_escaped(caption)}</figcaption></figure>"
        for key, caption in CAPTIONS.items()
        if key in figures
    )
    missing = "" if figures else "<p>No figures: they need matplotlib (pip install 'autotune[plots]').</p>"
    spec = msgspec.json.format(msgspec.json.encode(result.spec), indent=2).decode()
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>{STYLE}</style></head><body>
<h1>{name}</h1>
<p>{len(result.cases)} strategies, {len(result.courses)} recordings of {len(set(result.kernels))} kernels,
{len(result.seeds)} seeds; autotune {_escaped(__version__)}.</p>
<p>{_escaped(INTRODUCTION)}</p>
{missing}{drawn}
{"".join(map(_table, tables))}
<h2>The study</h2><pre>{_escaped(spec)}</pre>
</body></html>
"""


def _inline(svg: str, name: str) -> str:
    """Without the XML header, and with ids of its own: two figures in a page must not share them."""
    body = svg[svg.index("<svg") :]
    for mark in ('id="', 'href="#', "url(#"):
        body = body.replace(mark, f"{mark}{name}-")
    return body


def _table(table: Table) -> str:
    numeric = [table.numeric(column) for column in range(len(table.header))]
    head = "".join(f"<th>{_escaped(title)}</th>" for title in table.header)
    rows = "\n".join(f"<tr>{_cells(row, numeric)}</tr>" for row in table.rows)
    return f"<h2>{_escaped(table.title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>\n"


def _cells(row: Sequence[str], numeric: Sequence[bool]) -> str:
    return "".join(
        f"<td{' class=number' if right else ''}>{_escaped(cell)}</td>" for cell, right in zip(row, numeric, strict=True)
    )


def _escaped(text: str) -> str:
    """A text as HTML; what would steer a browser, or is no character of HTML, is shown escaped."""
    return escape_markup(visible_lines(text))
