"""Output on stdout: labelled lines, in colour on a terminal and plain elsewhere, or one JSON object."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from autotune.core.formatting import escape_controls, format_labelled
from autotune.shell.codec import encode


def print_json(value: Any) -> None:
    """One JSON object on one line."""
    print(encode(value).decode())


def print_labelled(rows: Sequence[tuple[str, str]]) -> None:
    """A label and a text on each line, the texts aligned. Control characters are shown escaped."""
    if sys.stdout.isatty():
        _print_rich_lines([(escape_controls(label), escape_controls(text)) for label, text in rows])
    else:
        print(format_labelled(rows))


def note(message: str, show: bool | None) -> None:
    """Print a line on stderr, where progress is shown."""
    if show or (show is None and sys.stderr.isatty()):
        print(f"autotune: {escape_controls(message)}", file=sys.stderr)


@contextmanager
def stdout_for_results() -> Iterator[None]:
    """Send output of user code, from C as well, to stderr meanwhile: stdout is for the result alone."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def _print_rich_lines(rows: Sequence[tuple[str, str]]) -> None:
    """Not wrapped, so that a long config can be copied whole."""
    from rich.console import Console
    from rich.text import Text

    console, width = Console(), max((len(label) for label, _ in rows), default=0)
    for label, text in rows:
        console.print(Text.assemble((f"{label:<{width}}", "cyan"), "  ", text), soft_wrap=True)
