"""The page of the commands: usage, arguments and options of each, as `--help` has them."""

from importlib import import_module
from typing import Any

import typer

from site_pages import rst
from site_pages.docstrings import inline


def pages() -> dict[str, str]:
    cli = import_module("autotune.cli")
    parts = [
        rst.heading("All commands and options"),
        "As ``autotune COMMAND --help`` prints them. :doc:`The command line <../command_line>` has examples of each.",
        "",
    ]
    for name in cli.COMMANDS:
        app = typer.main.get_command(cli._build_app([name]))
        parts += section(f"autotune {name}", app.commands[name], "-")
    return {"commands.rst": "\n".join(parts)}


def section(path: str, command: Any, line: str) -> list[str]:
    """A command, and the commands of a group below it."""
    help_text = " ".join((command.help or "").split())
    parts = [rst.heading(path, line), inline(help_text), ""]
    inner = getattr(command, "commands", None)
    if inner:
        for name, one in inner.items():
            parts += section(f"{path} {name}", one, "~")
        return parts
    context = command.make_context(path, [], resilient_parsing=True)
    parts += ["::", "", rst.indent(" ".join([path, *command.collect_usage_pieces(context)])), ""]
    rows = [row for parameter in command.params if (row := option(parameter, context)) is not None]
    return [*parts, rst.table(["argument or option", "meaning"], rows)] if rows else parts


def option(parameter: Any, context: Any) -> tuple[str, str] | None:
    """The names of an option with its value, and its help; None for a hidden one."""
    record = parameter.get_help_record(context)
    return None if record is None else (rst.code(record[0]), inline(" ".join(record[1].split())))
