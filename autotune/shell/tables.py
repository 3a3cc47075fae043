"""Tables for people: in colour on a terminal, and plain elsewhere."""

import sys
from collections.abc import Sequence
from typing import TextIO

from autotune.shell.formatting import escape_controls

Row = Sequence[str]


def print_table(header: Row, rows: Sequence[Row], stream: TextIO | None = None) -> None:
    """Columns under a header, on stdout or another stream. Control characters are shown escaped."""
    out = sys.stdout if stream is None else stream
    header, rows = [escape_controls(cell) for cell in header], [[escape_controls(cell) for cell in row] for row in rows]
    if out.isatty():
        _print_rich_table(header, rows, out)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip(), file=out)


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
