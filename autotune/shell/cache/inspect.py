"""Caches as a whole: put one into another, copy what is worth shipping, and remove what nobody needs."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from autotune.shell.cache.entries import NOTHING, Entry
from autotune.shell.cache.identity import installed_versions
from autotune.shell.cache.store import Store

DAY_S = 86400.0


class MergeCounts(Struct, frozen=True):
    """How many entries were copied, were there already, and could not be read."""

    copied: int
    known: int
    broken: int


class Removal(Struct, frozen=True):
    """A file to be removed, and why."""

    path: Path
    why: str


def merge_stores(source: Store, into: Store) -> MergeCounts:
    """Copy the entries of one directory that the other lacks, or has an earlier state of; nothing is ever lost by it.

    Raises CacheError where the other cannot be written to.
    """
    copied, names = 0, source.names()
    read = [entry for name in names if (entry := source.read(name)) is not None]
    for entry in read:
        there = into.read(entry.name)
        if there is None or there.run.written_at < entry.run.written_at:
            into.publish(entry)
            copied += 1
    return MergeCounts(copied, len(read) - copied, len(source.broken))


def export_entries(
    source: Store, into: Store, wanted: Callable[[Entry], bool], *, only_best: bool = False, measurements: bool = True
) -> int:
    """Copy the finished entries that are wanted and not superseded; how many.

    only_best: of each key and toolchain the fastest alone. measurements: with all that was measured, or with the
    results alone, which are smaller.
    """
    chosen: dict[str, list[Entry]] = defaultdict(list)
    for entry in list_current(source):
        if entry.finished and wanted(entry):
            chosen[entry.key.digest].append(entry)
    count = 0
    for entries in chosen.values():
        for entry in sorted(entries, key=_speed)[: 1 if only_best else None]:
            into.publish(entry if measurements else msgspec.structs.replace(entry, raw_measurements=NOTHING))
            count += 1
    return count


def list_current(store: Store) -> Iterator[Entry]:
    """The entries of a directory that no other of it supersedes, newest first."""
    superseded: set[str] = set()
    for entry in store.entries():
        superseded.update(entry.supersedes)
        if entry.name not in superseded:
            yield entry


def list_removals(
    store: Store,
    *,
    older_than_days: float | None = None,
    keep: int | None = None,
    other_versions: bool = False,
) -> list[Removal]:
    """What can go: broken files, what killed writers left, superseded entries, and what the rules name.

    older_than_days: entries written longer ago. keep: all but the newest so many of a key and toolchain, of which the
    fastest is never one. other_versions: entries of a toolchain that is not the installed one.
    """
    found: dict[Path, str] = dict.fromkeys(store.leftovers(), "an unfinished file of a killed writer")
    entries = list(store.entries())
    found |= {store.path(name): f"broken: {why}" for name, why in store.broken.items()}
    superseded = {name for entry in entries for name in entry.supersedes}
    before = None if older_than_days is None else time.time() - older_than_days * DAY_S
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        why = _useless(entry, superseded, before, other_versions)
        if why:
            found[store.path(entry.name)] = why
        else:
            groups[entry.key.digest].append(entry)
    if keep is not None:
        found |= {store.path(e.name): f"not one of the newest {keep} of its key" for e in _surplus(groups, keep)}
    return [Removal(path, why) for path, why in found.items()]


def _useless(entry: Entry, superseded: set[str], before: float | None, other_versions: bool) -> str:
    if entry.name in superseded:
        return "superseded"
    if before is not None and entry.run.written_at < before:
        return "old"
    if other_versions and entry.key.versions != installed_versions():
        return "of another toolchain"
    return ""


def _surplus(groups: dict[str, list[Entry]], keep: int) -> Iterator[Entry]:
    """Of each group, newest first, those past the first few, the fastest excepted."""
    for entries in groups.values():
        fastest = min(entries, key=_speed)
        yield from (entry for entry in entries[keep:] if entry is not fastest)


def _speed(entry: Entry) -> tuple[bool, float, str]:
    return entry.result is None, 0.0 if entry.result is None else entry.result.best.time_ms, entry.name
