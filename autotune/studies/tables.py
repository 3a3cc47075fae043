"""Tables as text: built once, written as CSV, as Markdown, or by whoever prints to a terminal."""

import csv
import io
import re

from msgspec import Struct

from autotune.studies.scores import Estimate

NEVER = "never"
"""A median number of evaluations that at least half of the runs did not reach."""


class Table(Struct, frozen=True):
    """name: of its file. title: for people. rows: cells as text, rounded, so that equal tables are equal bytes."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def csv(self) -> str:
        """As RFC 4180 has it, with plain line ends; what a spreadsheet would calculate begins with an apostrophe."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*map(inert, row)] for row in (self.header, *self.rows))
        return text.getvalue()

    def markdown(self) -> str:
        """With the title as a heading; numbers to the right."""
        marks = ["---:" if self.numeric(i) else "---" for i in range(len(self.header))]
        lines = (self.header, marks, *self.rows)
        body = "\n".join("| " + " | ".join(map(_in_markdown, line)) + " |" for line in lines)
        return f"## {self.title}\n\n{body}\n"

    def only(self, *columns: str) -> "Table":
        """With these columns alone, for a terminal."""
        chosen = [self.header.index(column) for column in columns]
        rows = tuple(tuple(row[i] for i in chosen) for row in self.rows)
        return Table(self.name, self.title, columns, rows)

    def numeric(self, column: int) -> bool:
        """Whether the column holds numbers."""
        return all(row[column] == NEVER or row[column][:1] in "-0123456789" for row in self.rows)


_NUMBER = re.compile(r"[+-]?\d[\d.,]*([eE][+-]?\d+)?%?", re.ASCII)


def inert(cell: str) -> str:
    """A cell of a CSV file as text for every reader: names of strategies and recordings are not ours, and what begins
    with =, +, -, @ or a tab is a formula to spreadsheets, and so a second line of a cell to some. Numbers stay numbers.
    """
    cell = _one_line(cell)
    formula = cell.startswith("\t") or cell.lstrip().startswith(("=", "+", "-", "@"))
    return f"'{cell}" if formula and cell != "-" and not _NUMBER.fullmatch(cell) else cell


def _in_markdown(cell: str) -> str:
    return _one_line(cell.replace("|", "\\|"))


def _one_line(cell: str) -> str:
    return " ".join(cell.splitlines())


def number(value: float, digits: int = 3) -> str:
    """With so many digits after the point; no negative zero."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def with_interval(title: str) -> tuple[str, str, str]:
    """The headers of an estimate and of its 95 % interval."""
    return title, f"{title} low", f"{title} high"


def estimated(estimate: Estimate) -> tuple[str, str, str]:
    """The cells under them."""
    return number(estimate.mean), number(estimate.low), number(estimate.high)


def evaluations(value: float | None) -> str:
    """A median number of evaluations."""
    return NEVER if value is None else f"{value:g}"
