"""The search of `tune` and `resume`, and its result for people and for machines."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from autotune.cli import ExitCode
from autotune.cli.output import note, print_json, print_labelled, stdout_for_results
from autotune.core.config import Config
from autotune.core.search.report import Result, config_table, result_rows
from autotune.shell.files import save_config
from autotune.shell.tables import print_table


def run_search(
    search: Callable[[], Result],
    *,
    target: str,
    journal: Path | None,
    as_json: bool,
    save: Path | None,
    progress: bool | None,
) -> ExitCode:
    """Run the search and print its result.

    target, journal: of the command that goes on with the search. save: a file for the best config.
    """
    again = None if journal is None else f"autotune resume {shlex.quote(str(journal))} {shlex.quote(target)}"
    if journal is not None:
        note(f"the journal is {journal}", progress)
    try:
        with stdout_for_results():
            result = search()
        if journal is not None and not journal.exists():  # the result came from the cache
            journal = again = None
    except KeyboardInterrupt:
        print(f"autotune: stopped at once; {f'go on with: {again}' if again else 'nothing is kept'}", file=sys.stderr)
        return ExitCode.INTERRUPTED
    if as_json:
        print_json({**result.to_dict(), "journal": None if journal is None else str(journal)})
    else:
        rows = [] if journal is None else [("journal", str(journal))]
        if not result.complete and again:
            rows.append(("go on with", again))
        print_config(result.best.config, None if result.default is None else result.default.config)
        print()
        print_labelled([*result_rows(result), *rows, ("config", result.best.config.to_json())])
    if save is not None:
        save_config(result.best.config, save)
        note(f"the best config is in {save}", progress)
    return ExitCode.DONE if result.complete else ExitCode.INTERRUPTED


def print_config(best: Config, default: Config | None) -> None:
    """A line for each parameter; the default's value only where it differs."""
    print_table(*config_table(best, default))
