"""Tables for people: in colour on a terminal, and plain elsewhere."""

import sys
from collections.abc import Sequence
from typing import TextIO

from autotune.core.formatting import escape_controls, format_table

Row = Sequence[str]


def print_table(header: Row, rows: Sequence[Row], stream: TextIO | None = None) -> None:
    """Columns under a header, on stdout or another stream. Control characters are shown escaped."""
    out = sys.stdout if stream is None else stream
    if not out.isatty():
        print(format_table(header, rows), file=out)
        return
    header, rows = [escape_controls(cell) for cell in header], [[escape_controls(cell) for cell in row] for row in rows]
    _print_rich_table(header, rows, out)


def _print_rich_table(header: Row, rows: Sequence[Row], out: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for i, title in enumerate(header):
        table.add_column(title, style=None if i else "cyan", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=out).print(table)
