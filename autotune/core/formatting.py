"""Texts for people: times, durations, counts, errors; foreign texts without the characters that steer a terminal."""

import unicodedata
from collections.abc import Sequence
from html import escape

_CONTROLS = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Categories of Unicode that steer a terminal or a browser instead of being shown: control characters such as ESC,
marks that reverse the direction of the text, halves of surrogate pairs, separators of lines and paragraphs."""


def format_milliseconds(time_ms: float) -> str:
    """A kernel's time: four significant digits, never an exponent."""
    if time_ms >= 1000:
        return f"{time_ms:,.0f} ms"
    digits = 3 if time_ms >= 1 else 4
    return f"{time_ms:.{digits}f} ms" if time_ms >= 0.001 else f"{time_ms * 1e6:.3g} ns"


def format_duration(seconds: float) -> str:
    """A number of seconds: 0.4 s, 12 s, 3:25, 1:02:00."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: 1 config, 2 configs; 1 entry, 2 entries."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"


def escape_controls(text: str) -> str:
    """A text on one line, with the characters that steer a terminal or a browser escaped as in a string of Python.

    >>> visible("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _CONTROLS else char for char in text
    )


def escape_control_lines(text: str) -> str:
    """`escape_controls` for a text of several lines."""
    return "\n".join(map(escape_controls, text.split("\n")))


LONGEST_MESSAGE = 500
"""Characters of an error in a message: enough for the first lines of a compiler, and no flood in a journal."""


def describe_error(error: BaseException) -> str:
    """An exception on one line: its type and its text, cut after LONGEST_MESSAGE characters."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "(its text cannot be shown)"
    name = type(error).__name__
    return f"{name}: {text}"[:LONGEST_MESSAGE] if text else name


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under a header, without control characters."""
    cells = [[escape_controls(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def format_labelled(rows: Sequence[tuple[str, str]]) -> str:
    """A label and a text on each line, the texts aligned, without control characters."""
    rows = [(escape_controls(label), escape_controls(text)) for label, text in rows]
    width = max((len(label) for label, _ in rows), default=0)
    return "\n".join(f"{label:<{width}}  {text}" for label, text in rows)


def html_table(header: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> str:
    """An HTML table of texts, escaped, for notebooks. header: None for rows that begin with a label."""
    first = "td" if header is not None else "th"
    head = "" if header is None else f"<thead><tr>{''.join(_cell(name, 'th') for name in header)}</tr></thead>"
    body = "".join(f"<tr>{_cell(row[0], first)}{''.join(_cell(text, 'td') for text in row[1:])}</tr>" for row in rows)
    return f"<table>{head}<tbody>{body}</tbody></table>"


def _cell(text: str, tag: str) -> str:
    return f'<{tag} style="text-align: left">{escape(escape_controls(text))}</{tag}>'
