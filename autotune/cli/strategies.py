"""`autotune strategies`: the strategies that `--strategy` takes, those of installed packages too."""

import textwrap

from autotune.cli.options import AsJson
from autotune.cli.output import print_json
from autotune.core.strategies.registry import DEFAULT_STRATEGY, STRATEGIES
from autotune.shell.descriptions import describe_strategies, first_sentence
from autotune.shell.tables import print_table


def strategies(as_json: AsJson = False) -> None:
    """List the strategies, those of installed packages too.

    `autotune settings NAME` lists the settings of one.
    """
    found = describe_strategies()
    if as_json:
        print_json({one.name: one for one in found})
        return
    rows = [(f"{one.name} (default)" if one.default else one.name, one.package, one.line) for one in found]
    print_table(("strategy", "package", "method"), rows)


def list_for_help() -> str:
    """The end of a command's help: the strategies of this library. No package is imported for it."""
    lines = []
    for name, kind in STRATEGIES.items():
        lines.append(f"  {name} (default)" if name == DEFAULT_STRATEGY else f"  {name}")
        lines += textwrap.wrap(first_sentence(kind), 78, initial_indent="    ", subsequent_indent="    ")
    # the mark \b keeps the lines as they are
    return "\b\nStrategies (`autotune strategies` lists those of installed packages, too):\n" + "\n".join(lines)
