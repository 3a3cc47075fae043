"""What `tune` and `resume` have in common: run a search, print what it found, say how to go on with it."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from autotune.cli import exits
from autotune.cli.output import note, print_json, stdout_for_results
from autotune.cli.summary import print_result, result_fields
from autotune.core.search.result import Result
from autotune.shell.files import save_config


def searched(
    search: Callable[[], Result],
    *,
    target: str,
    journal: Path | None,
    as_json: bool,
    save: Path | None,
    progress: bool | None,
) -> int:
    """Run the search and report on it; the exit code."""
    again = None if journal is None else f"autotune resume {shlex.quote(str(journal))} {shlex.quote(target)}"
    if journal is not None:
        note(f"the journal is {journal}", progress)
    try:
        with stdout_for_results():
            result = search()
        if journal is not None and not journal.exists():  # the cache knew the answer
            journal = again = None
    except KeyboardInterrupt:
        print(f"autotune: stopped at once; {f'go on with: {again}' if again else 'nothing is kept'}", file=sys.stderr)
        return exits.INTERRUPTED
    _reported(result, journal, again, as_json)
    if save is not None:
        save_config(result.best.config, save)
        note(f"the best config is in {save}", progress)
    return exits.DONE if result.complete else exits.INTERRUPTED


def _reported(result: Result, journal: Path | None, again: str | None, as_json: bool) -> None:
    if as_json:
        print_json({**result_fields(result), "journal": None if journal is None else str(journal)})
        return
    extra = [] if journal is None else [("journal", str(journal))]
    if not result.complete and again:
        extra.append(("go on with", again))
    print_result(result, extra)
