"""What becomes of a journal that exists already, as when a cell of a notebook runs again."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from autotune.core.arguments import short_repr
from autotune.core.errors import JournalError
from autotune.core.formatting import format_count
from autotune.core.outcomes import Detail
from autotune.core.search.messages import Observed
from autotune.core.search.plan import Plan
from autotune.shell.codec import spec_of_plan
from autotune.shell.journal import Journal, read_journal
from autotune.shell.settings import ON_EXISTING, OnExisting

_SUFFIXES = (".journal.jsonl", ".jsonl")


def check_on_existing(given: object) -> OnExisting | None:
    """Raises JournalError for a value that is none of these."""
    if given is None:
        return None
    for known in ON_EXISTING:
        if isinstance(given, str) and given == known:
            return known
    raise JournalError(f"on_existing is {short_repr(given)}; use one of {', '.join(ON_EXISTING)}, or leave it out")


def choose_journal(
    path: Path, plan: Plan, evaluator: Mapping[str, Detail], on_existing: OnExisting | None, quiet: bool
) -> tuple[Path, bool]:
    """The file for the journal of a search, and whether it holds this search already, to go on with.

    evaluator: its kind, settings and code, as a header has them. quiet: say nothing of the choice on stderr. Raises
    JournalError where the file exists and must not, or holds another search and must hold this one.
    """
    if not os.path.isfile(path) or on_existing == "error":
        return path, False
    try:
        read = None if on_existing == "new" else read_journal(path)
        difference = "" if read is None else _difference(read, plan, evaluator)
    except JournalError as error:
        if on_existing == "continue":
            raise
        read, difference = None, str(error)
    if read is not None and not difference:
        measured = format_count(len({one.trial for one in read.events if isinstance(one, Observed)}), "config")
        _say(f"{path} exists: its search goes on, with {measured} measured", quiet)
        return path, True
    if on_existing == "continue":
        raise JournalError(f"{path} holds another search ({difference}); name another file, or use on_existing='new'")
    chosen = number_path(path)
    why = f"{path} exists" if not difference else f"{path} holds another search ({difference})"
    _say(f"{why}: the journal is {chosen}", quiet)
    return chosen, False


def number_path(path: Path) -> Path:
    """The first of FILE-2, FILE-3, … beside FILE that does not exist."""
    suffix = next((one for one in _SUFFIXES if path.name.endswith(one)), path.suffix)
    stem, number = path.name.removesuffix(suffix), 2
    while os.path.lexists(chosen := path.with_name(f"{stem}-{number}{suffix}")):
        number += 1
    return chosen


def _difference(journal: Journal, plan: Plan, evaluator: Mapping[str, Detail]) -> str:
    """The first part in which the search of a journal differs from a plan, in words; "" for the same search."""
    before, now = journal.header.plan, spec_of_plan(plan)
    for name in before.__struct_fields__:
        if getattr(before, name) != getattr(now, name):
            return "of another space" if name in ("space", "fingerprint") else f"its {name.replace('_', ' ')} differs"
    if journal.header.evaluator != dict(evaluator):
        names = sorted({*journal.header.evaluator, *evaluator})
        changed = next(name for name in names if journal.header.evaluator.get(name) != evaluator.get(name))
        return "the code of its kernel differs" if changed == "code" else f"its evaluator's {changed} differs"
    return ""


def _say(text: str, quiet: bool) -> None:
    if not quiet and sys.stderr is not None:
        print(f"autotune: {text}", file=sys.stderr, flush=True)
