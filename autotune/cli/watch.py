"""`autotune watch JOURNAL`: the state of a search that runs, in the terminal and on a page that renews itself."""

from pathlib import Path
from typing import Annotated

import typer

from autotune.cli import ExitCode
from autotune.cli.options import AsJson, JournalFile, ProblemOption
from autotune.cli.problem_file import check_journal, load_problem
from autotune.cli.views import Wanted, follow_journal, watch_journal


def watch(
    journal: JournalFile,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="OUT", help="Also write a page, anew whenever the search has gone on."),
    ] = None,
    problem: ProblemOption = None,
    as_json: AsJson = False,
) -> ExitCode:
    """Watch a search that runs, from another terminal.

    It ends when the search is over. Ctrl-C leaves, and the search goes on.
    """
    check_journal(journal, "watch JOURNAL")
    wanted = Wanted(html=html, as_json=as_json)
    space = None if problem is None else load_problem(problem).space
    return follow_journal(journal, space, wanted) if as_json else watch_journal(journal, space, wanted)
