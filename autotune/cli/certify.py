"""`autotune certify JOURNAL`: the claims about the pick of a search, each with its probability of error."""

from autotune.cli import ExitCode
from autotune.cli.options import AsJson, JournalFile, ProblemOption
from autotune.cli.output import print_labelled
from autotune.cli.problem_file import check_journal, load_problem
from autotune.core.certificate.claims import Certificate
from autotune.core.config import Config, token
from autotune.core.search.result import result
from autotune.shell.tables import print_table
from autotune.shell.tuning import read_search

FARTHEST = 10.0
"""A bound above this says nothing, and is left out of the table."""


def certify(journal: JournalFile, problem: ProblemOption = None, as_json: AsJson = False) -> ExitCode:
    """Print how certain the pick of a search is; no device is needed.

    The certificate follows from the journal alone: --json prints the bytes that result.certificate.to_json() gives.
    """
    check_journal(journal, "certify JOURNAL [--problem FILE[:NAME]]")
    space = None if problem is None else load_problem(problem).space
    _, search = read_search(journal, space)
    found = result(search).certificate
    assert found is not None, "a result of today has one"
    if as_json:
        print(found.to_json().decode())
        return ExitCode.DONE
    print_labelled(found.rows())
    print()
    print_rivals(found)
    return ExitCode.DONE


def print_rivals(found: Certificate) -> None:
    """A line for each config that was compared with the pick: its status, and its time over the pick's."""
    pick, rivals = found.config, found.selection.rivals
    if not rivals:
        return
    rows = []
    for rival in rivals:
        changes = Config({name: value for name, value in rival.config.items() if token(value) != token(pick[name])})
        high = "" if rival.ratio.high > FARTHEST else f"{rival.ratio.high:.4f}"
        low = "" if rival.ratio.low <= 0 else f"{rival.ratio.low:.4f}"
        rows.append((str(rival.trial), rival.status, f"{rival.ratio.value:.4f}", low, high, changes.to_json()))
    print_table(("trial", "status", "time / pick's", "at least", "at most", "differs by"), rows)
