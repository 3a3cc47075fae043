"""`autotune replay JOURNAL`: repeat every decision of a search without measuring, and say whether it is the same."""

from typing import Any

import msgspec

from autotune.cli import exits
from autotune.cli.options import AsJson, JournalFile, ProblemOption
from autotune.cli.output import print_json, stdout_for_results
from autotune.cli.problem_file import check_journal, load_problem
from autotune.core.search.messages import Reported, Request
from autotune.shell import replay as replaying
from autotune.shell.codec import encode
from autotune.shell.formatting import escape_controls, format_count
from autotune.shell.journal import Header, header_for

LONGEST = 300
"""Characters of a request that are shown to people; --json has them all."""


def replay(journal: JournalFile, problem: ProblemOption = None, as_json: AsJson = False) -> int:
    """Check that the decisions of a journal can be repeated.

    Prints "identical: N decisions and the result checked", or the first thing that differs, both sides of it and its
    line in the journal.
    """
    space = None
    if problem is not None:
        check_journal(journal, "replay JOURNAL --problem FILE[:NAME]")
        with stdout_for_results():
            space = load_problem(problem).space
    replayed = replaying.replay(journal, space=space)
    found = replayed.divergence
    if as_json:
        sides = None if found is None else {**vars(found), "where": difference(found.recorded, found.today)}
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
        print(f"where     {difference(found.recorded, found.today)}")
        print(f"recorded  {_short(found.recorded)}")
        print(f"today     {_short(found.today)}")
        if found.why:
            print(f"note      {escape_controls(found.why)}")
        for name, then, now in _changes(replayed.journal.header, replayed.search.plan):
            print(escape_controls(f"note      {name} was {then} and is {now} today"))
    return exits.DONE if found is None else exits.DIVERGED


def difference(recorded: Request | Reported, today: Request | Reported) -> str:
    """The first place where two requests differ, with both values; of two results, that they do."""
    if isinstance(recorded, Reported):
        return "the result: the events before it lead to another one than was given out"
    return _difference(msgspec.json.decode(encode(recorded)), msgspec.json.decode(encode(today)), "")


def _difference(a: Any, b: Any, place: str) -> str:
    """Of two different JSON values."""
    if isinstance(a, dict) and isinstance(b, dict) and a.get("type") == b.get("type"):
        for name in {**a, **b}:
            if a.get(name) != b.get(name):
                return _difference(a.get(name), b.get(name), f"{place}.{name}" if place else name)
    if isinstance(a, list) and isinstance(b, list):
        for i, (one, other) in enumerate(zip(a, b, strict=False)):
            if one != other:
                return _difference(one, other, f"{place}[{i}]")
        return f"{place}: {len(a)} entries recorded, {len(b)} today"
    return f"{place or 'the request'}: {_cut(encode(a))} recorded, {_cut(encode(b))} today"


def _short(task: Request | Reported) -> str:
    return _cut(encode(task))


def _cut(text: bytes) -> str:
    shown = text.decode()
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def _changes(header: Header, plan: Any) -> list[tuple[str, str, str]]:
    """What has another version than when the journal was made."""
    today = header_for(plan, {}).versions
    return [(name, then, today[name]) for name, then in header.versions.items() if today.get(name, then) != then]
