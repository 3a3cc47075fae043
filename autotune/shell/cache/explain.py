"""Why a key missed: the entries nearest to it, and the fields that differ."""

from heapq import nsmallest

from msgspec import Struct

from autotune.shell.cache.entries import Entry
from autotune.shell.cache.keys import Key, StrictKey
from autotune.shell.cache.layers import Cache
from autotune.shell.cache.nearness import OTHER_VERSION, Difference, differences, distance


class Near(Struct, frozen=True):
    """An entry, how far its key is from the one that was asked for, and where they differ."""

    entry: Entry
    distance: float
    differences: tuple[Difference, ...]

    @property
    def hit(self) -> bool:
        """The key is the one asked for and the run came to its end."""
        return not self.differences and self.entry.finished


def explain(cache: Cache, key: Key, *, at_most: int = 3, max_scan: int | None = None) -> tuple[Near, ...]:
    """The entries nearest to a key, nearest first, at most one for each key. A loose key is compared without versions.

    max_scan: look at so many of the newest entries; None: at all.
    """
    found: dict[str, Near] = {}
    for entry in cache.newest(max_scan):
        near = _near(key, entry)
        known = found.get(entry.key.digest)
        if known is None or (near.entry.finished and not known.entry.finished):
            found[entry.key.digest] = near
    return tuple(nsmallest(at_most, found.values(), key=lambda near: (near.distance, not near.entry.finished)))


def _near(key: Key, entry: Entry) -> Near:
    strict = isinstance(key, StrictKey)
    different = differences(key, entry.key if strict else entry.key.loose)
    versions = OTHER_VERSION * sum(d.field.startswith("versions.") for d in different)
    return Near(entry, distance(key.loose, entry.key.loose) + versions, different)
