"""Replay: fold a journal and check that every task it asked for is what the search asks for today, and every result it
gave out what its events lead to."""

from dataclasses import dataclass

from autotune.core.errors import JournalError
from autotune.core.search.messages import Asked, Compare, Reported, Request
from autotune.core.search.request import request
from autotune.core.search.result import result_digest
from autotune.core.search.state import Search, advance, start
from autotune.core.space import Space, as_space
from autotune.shell.files import as_path
from autotune.shell.journal import Journal, read_journal
from autotune.shell.tuning import PathLike


@dataclass(frozen=True)
class Divergence:
    """The first task or result that differs: the line of the journal, what it recorded, and what comes out today.

    why: in a sentence, where that is known.
    """

    line: int
    recorded: Request | Reported
    today: Request | Reported
    why: str = ""


@dataclass(frozen=True)
class Replay:
    """A journal folded again: the search it leads to, how many tasks and how many results were checked, and where it
    diverged, if it did. Journals of format 1, and of a search that was killed, hold no result."""

    journal: Journal
    search: Search
    checked: int
    results: int
    divergence: Divergence | None


def replay(journal: PathLike, *, space: Space | None = None) -> Replay:
    """Repeat every decision and every result of a journal without measuring anything, up to the first that differs.

    Raises JournalError for a journal that is damaged or of another space than the one given.
    """
    read = read_journal(as_path(journal, "journal", JournalError))
    search, checked, results = start(read.plan(None if space is None else as_space(space))), 0, 0
    for line, event in enumerate(read.events, 2):
        if isinstance(event, Asked):
            today = request(search, event.room)
            if today != event.task:
                return Replay(read, search, checked, results, Divergence(line, event.task, today, _earlier(read)))
            checked += 1
        elif isinstance(event, Reported):
            found = Reported(event.at, result_digest(search))
            if found != event:
                return Replay(read, search, checked, results, Divergence(line, event, found))
            results += 1
        search = advance(search, event)
    return Replay(read, search, checked, results, None)


def _earlier(journal: Journal) -> str:
    """What is known of a journal of a version whose comparisons ran in the order of their trials."""
    tasks = [event.task for event in journal.events if isinstance(event, Asked)]
    if not any(isinstance(task, Compare) and task.order is None for task in tasks):
        return ""
    version = journal.header.versions.get("autotune", "of an unknown version")
    return (
        f"it was written by an earlier autotune ({version}), which ran every round of a comparison in the same order "
        "and ended its searches in another way; `show` and `resume` read it"
    )
