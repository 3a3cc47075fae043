"""Replay: fold a journal, and check that the search asks for the same tasks today and comes to the same result."""

from dataclasses import dataclass

from autotune.core.errors import JournalError
from autotune.core.search.messages import Asked, Compare, Reported, Request
from autotune.core.search.request import request
from autotune.core.search.result import result_digest
from autotune.core.search.state import Search, advance, start
from autotune.core.space import Space, as_space
from autotune.shell.files import PathLike, as_path
from autotune.shell.journal import Journal, read_journal


@dataclass(frozen=True)
class Divergence:
    """The first task or result that differs: the line of the journal, the recorded one, and the one of today.

    why: the reason in a sentence, if it is known.
    """

    line: int
    recorded: Request | Reported
    today: Request | Reported
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A journal folded again: the search it leads to, and where it diverged, if it did.

    checked, results: how many tasks and how many results are the same. Journals of format 1, and journals of a search
    that was killed, hold no result.
    """

    journal: Journal
    search: Search
    checked: int
    results: int
    divergence: Divergence | None


def replay(journal: PathLike, *, space: Space | None = None) -> Replay:
    """Repeat every decision and every result of a journal without measuring anything, up to the first that differs.

    Raises JournalError for a journal that is damaged, or of another space than `space`.
    """
    read = read_journal(as_path(journal, "journal", JournalError))
    search, checked, results = start(read.plan(None if space is None else as_space(space))), 0, 0
    divergence: Divergence | None = None
    for line, event in enumerate(read.events, 2):
        if isinstance(event, Asked):
            today = request(search, event.room)
            if today != event.task:
                divergence = Divergence(line, event.task, today, _explain_old_journal(read))
                break
            checked += 1
        elif isinstance(event, Reported):
            found = Reported(event.at, result_digest(search))
            if found != event:
                divergence = Divergence(line, event, found)
                break
            results += 1
        search = advance(search, event)
    return Replay(journal=read, search=search, checked=checked, results=results, divergence=divergence)


def _explain_old_journal(journal: Journal) -> str:
    """Why a journal of a version whose comparisons ran in the order of their trials diverges; "" for other journals."""
    tasks = [event.task for event in journal.events if isinstance(event, Asked)]
    if not any(isinstance(task, Compare) and task.order is None for task in tasks):
        return ""
    version = journal.header.versions.get("autotune", "of an unknown version")
    return (
        f"it was written by an earlier autotune ({version}), which ran every round of a comparison in the same order "
        "and ended its searches in another way; `show` and `resume` read it"
    )
