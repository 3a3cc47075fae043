"""Pieces of reStructuredText."""

from collections.abc import Iterable, Sequence


def heading(text: str, line: str = "=") -> str:
    return f"{text}\n{line * len(text)}\n"


def indent(text: str, spaces: int = 3) -> str:
    return "\n".join(" " * spaces + line if line else "" for line in text.splitlines())


def code(text: str) -> str:
    """A literal of a line; backslashes and spaces are kept."""
    return f"``{text}``" if text and not text.startswith((" ", "`")) and not text.endswith((" ", "`")) else text


def escape(text: str) -> str:
    """Prose without markup: characters that would begin some are escaped."""
    for character in "\\*|`_":
        text = text.replace(character, "\\" + character)
    return text


def directive(name: str, argument: str = "", content: str = "", options: Iterable[str] = ()) -> str:
    head = f".. {name}:: {argument}".rstrip()
    lines = [head, *(f"   {option}" for option in options)]
    return "\n".join([*lines, "", indent(content), ""])


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A list table; cells are reStructuredText."""
    lines = []
    for row in (columns, *rows):
        for position, cell in enumerate(row):
            mark = "* - " if position == 0 else "  - "
            lines.append(mark + indent(cell, 4).lstrip() if cell else mark.rstrip())
    return directive("list-table", content="\n".join(lines), options=[":header-rows: 1"])


def toctree(names: Iterable[str]) -> str:
    return directive("toctree", content="\n".join(names), options=[":hidden:"])
