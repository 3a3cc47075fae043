"""Whole caches, for the command line: merge, export and prune stores, and explain why a key missed."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from heapq import nsmallest
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from autotune.shell.cache.cache import Cache
from autotune.shell.cache.entries import NOTHING, Entry
from autotune.shell.cache.identity import installed_versions
from autotune.shell.cache.keys import OTHER_VERSION, Difference, Key, StrictKey, changed_versions, differences, distance
from autotune.shell.cache.store import Store

_DAY_S = 86400.0


class MergeCounts(Struct, frozen=True):
    """Numbers of entries that were copied, were known already, and could not be read."""

    copied: int
    known: int
    broken: int


class Removal(Struct, frozen=True):
    """A file to remove, and why."""

    path: Path
    why: str


def merge_stores(source: Store, into: Store) -> MergeCounts:
    """Copy entries of `source` that `into` lacks, or has in an earlier state; no entry is lost.

    Raises CacheError if `into` cannot be written to.
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
    """Copy the finished entries that are wanted and not superseded. Returns their number.

    only_best: the fastest entry of each key and toolchain alone. measurements: whether to copy the measurements, which
    are most of an entry, or only the results.
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
    """The entries of a store that no other entry of it supersedes, newest first."""
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
    """The files that can go: broken ones, unfinished ones of killed writers, superseded entries, and entries that a
    rule names.

    older_than_days: entries written longer ago. keep: how many entries of a key and toolchain stay, the newest and the
    fastest. other_versions: entries of a toolchain that is not installed.
    """
    found: dict[Path, str] = dict.fromkeys(store.leftovers(), "an unfinished file of a killed writer")
    entries = list(store.entries())
    found |= {store.path(name): f"broken: {why}" for name, why in store.broken.items()}
    superseded = {name for entry in entries for name in entry.supersedes}
    before = None if older_than_days is None else time.time() - older_than_days * _DAY_S
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        why = _why_useless(entry, superseded, before, other_versions)
        if why:
            found[store.path(entry.name)] = why
        else:
            groups[entry.key.digest].append(entry)
    if keep is not None:
        found |= {store.path(e.name): f"not one of the newest {keep} of its key" for e in _surplus(groups, keep)}
    return [Removal(path, why) for path, why in found.items()]


def _why_useless(entry: Entry, superseded: set[str], before: float | None, other_versions: bool) -> str:
    if entry.name in superseded:
        return "superseded"
    if before is not None and entry.run.written_at < before:
        return "old"
    if other_versions and entry.key.versions != installed_versions():
        return "of another toolchain"
    return ""


def _surplus(groups: dict[str, list[Entry]], keep: int) -> Iterator[Entry]:
    """The entries of each group, newest first, after the first `keep`, without the fastest."""
    for entries in groups.values():
        fastest = min(entries, key=_speed)
        yield from (entry for entry in entries[keep:] if entry is not fastest)


def _speed(entry: Entry) -> tuple[bool, float, str]:
    return entry.result is None, 0.0 if entry.result is None else entry.result.best.time_ms, entry.name


class NearEntry(Struct, frozen=True):
    """An entry, the distance of its key from the key that was asked for, and the fields in which they differ."""

    entry: Entry
    distance: float
    differences: tuple[Difference, ...]

    @property
    def hit(self) -> bool:
        """Whether the key is the same and the run came to its end."""
        return not self.differences and self.entry.finished


def explain(
    cache: Cache, key: Key, *, at_most: int = 3, max_scan: int | None = None, without: str = ""
) -> tuple[NearEntry, ...]:
    """The entries nearest to a key, nearest first, one for each key. A loose key is compared without versions.

    max_scan: how many of the newest entries are looked at; None: all. without: the name of an entry to leave out.
    """
    found: dict[str, _Candidate] = {}
    for name, head in cache.heads(max_scan):
        if name == without:
            continue
        known = found.get(head.key.digest)
        if known is None:
            found[head.key.digest] = _Candidate(_apart(key, head.key), not head.finished, name)
        elif head.finished and known.unfinished:
            found[head.key.digest] = _Candidate(known.distance, False, name)
    nearest = nsmallest(at_most, found.values(), key=lambda one: (one.distance, one.unfinished))
    entries = [(one.distance, cache.read(one.name)) for one in nearest]
    return tuple(NearEntry(entry, apart, _differences(key, entry)) for apart, entry in entries if entry is not None)


class _Candidate(NamedTuple):
    """An entry by its name, the distance of its key, and whether its run did not come to its end."""

    distance: float
    unfinished: bool
    name: str


def _apart(key: Key, found: StrictKey) -> float:
    apart = distance(key.loose, found.loose)
    if isinstance(key, StrictKey):
        apart += OTHER_VERSION * len(changed_versions(key.versions, found.versions))
    return apart


def _differences(key: Key, entry: Entry) -> tuple[Difference, ...]:
    return differences(key, entry.key if isinstance(key, StrictKey) else entry.key.loose)
