"""Why a key missed: the entries nearest to it, and the fields that differ."""

from heapq import nsmallest
from typing import NamedTuple

from msgspec import Struct

from autotune.shell.cache.cache import Cache
from autotune.shell.cache.entries import Entry
from autotune.shell.cache.keys import OTHER_VERSION, Difference, Key, StrictKey, changed_versions, differences, distance


class NearEntry(Struct, frozen=True):
    """An entry, how far its key is from the one that was asked for, and where they differ."""

    entry: Entry
    distance: float
    differences: tuple[Difference, ...]

    @property
    def hit(self) -> bool:
        """The key is the one asked for and the run came to its end."""
        return not self.differences and self.entry.finished


def explain(
    cache: Cache, key: Key, *, at_most: int = 3, max_scan: int | None = None, without: str = ""
) -> tuple[NearEntry, ...]:
    """The entries nearest to a key, nearest first, at most one for each key. A loose key is compared without versions.

    max_scan: look at so many of the newest entries; None: at all. without: the name of an entry to leave out.
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
    """An entry by name, how far its key is, and whether its run did not come to its end."""

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
