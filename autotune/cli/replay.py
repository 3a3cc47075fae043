"""`autotune replay JOURNAL`: repeat every decision of a search without measuring, and say whether it is the same."""

from typing import Any

import msgspec

from autotune.cli import ExitCode
from autotune.cli.options import AsJson, JournalFile, OwnStrategy, ProblemOption
from autotune.cli.output import print_json
from autotune.cli.problem_file import check_journal, load_own_strategy, load_problem
from autotune.core.formatting import escape_controls, format_count
from autotune.core.search.messages import Reported, Request
from autotune.shell.codec import encode
from autotune.shell.journal import Header, header_for
from autotune.shell.replay import replay as replay_journal

_MAX_LENGTH = 300
"""Characters of a request that are printed; --json has them all."""


def replay(
    journal: JournalFile, problem: ProblemOption = None, strategy: OwnStrategy = None, as_json: AsJson = False
) -> ExitCode:
    """Check that the decisions of a journal can be repeated.

    Prints "identical: N decisions and the result checked", or the first thing that differs, both sides of it and its
    line in the journal.
    """
    space = None
    if problem is not None:
        check_journal(journal, "replay JOURNAL --problem FILE[:NAME]")
        space = load_problem(problem).space
    if strategy is not None:
        load_own_strategy(strategy)
    replayed = replay_journal(journal, space=space)
    found = replayed.divergence
    if as_json:
        sides = None if found is None else {**vars(found), "where": _difference_text(found.recorded, found.today)}
        print_json(
            {
                "identical": found is None, "checked": replayed.checked, "results": replayed.results,
                "divergence": sides, "journal": str(journal),
            }
        )  # fmt: skip
    elif found is None:
        said = " and the result" if replayed.results else ""
        print(f"identical: {format_count(replayed.checked, 'decision')}{said} checked")
        if not replayed.results:
            print("note       the journal holds no result that could be checked")
    else:
        print(
            f"different: line {found.line} of {journal}, after {format_count(replayed.checked, 'identical decision')}"
        )
        print(f"where     {_difference_text(found.recorded, found.today)}")
        print(f"recorded  {_shorten(found.recorded)}")
        print(f"today     {_shorten(found.today)}")
        if found.why:
            print(f"note      {escape_controls(found.why)}")
        for name, then, now in _version_changes(replayed.journal.header, replayed.search.plan):
            print(escape_controls(f"note      {name} was {then} and is {now} today"))
    return ExitCode.DONE if found is None else ExitCode.DIVERGED


def _difference_text(recorded: Request | Reported, today: Request | Reported) -> str:
    """The first place where two requests differ, with both values; of two results, only that they differ."""
    if isinstance(recorded, Reported):
        return "the result: the events before it lead to another one than was given out"
    return _json_difference(msgspec.json.decode(encode(recorded)), msgspec.json.decode(encode(today)), "")


def _json_difference(a: Any, b: Any, place: str) -> str:
    if isinstance(a, dict) and isinstance(b, dict) and a.get("type") == b.get("type"):
        for name in {**a, **b}:
            if a.get(name) != b.get(name):
                return _json_difference(a.get(name), b.get(name), f"{place}.{name}" if place else name)
    if isinstance(a, list) and isinstance(b, list):
        for i, (one, other) in enumerate(zip(a, b, strict=False)):
            if one != other:
                return _json_difference(one, other, f"{place}[{i}]")
        return f"{place}: {len(a)} entries recorded, {len(b)} today"
    return f"{place or 'the request'}: {_shorten(a)} recorded, {_shorten(b)} today"


def _shorten(value: Any) -> str:
    """The JSON of a value, at most _MAX_LENGTH characters of it."""
    shown = encode(value).decode()
    return shown if len(shown) <= _MAX_LENGTH else shown[: _MAX_LENGTH - 1] + "…"


def _version_changes(header: Header, plan: Any) -> list[tuple[str, str, str]]:
    """Name, version then and version today of everything that has changed since the journal was written."""
    today = header_for(plan, {}).versions
    return [(name, then, today[name]) for name, then in header.versions.items() if today.get(name, then) != then]
