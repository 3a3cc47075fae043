"""The nearest shape: the result of a key that differs in sizes alone, for a key that has none."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from autotune.core.config import Config
from autotune.core.errors import CacheError
from autotune.shell.cache.cache import Cache
from autotune.shell.cache.entries import Entry
from autotune.shell.cache.keys import ALIGNMENT, TYPE, LooseKey, differences, distance, only_sizes_differ

MAX_SCAN = 4096
"""The newest entries that are looked at: as many as a `Cache` remembers, so that a later look reads no file."""

_ARGUMENTS = "specialization.arguments."


class Neighbour(NamedTuple):
    """An entry of another shape and its config in the form of the space that was asked for.

    distance: of the keys, in doublings of sizes. wanted, shape: the arguments in which they differ, of the key that was
    asked for and of the entry, in words.
    """

    entry: Entry
    config: Config
    distance: float
    wanted: str
    shape: str

    @property
    def description(self) -> str:
        """One sentence for people."""
        when = time.strftime("%Y-%m-%d", time.gmtime(self.entry.run.began_at))
        return describe_neighbour(self.wanted, self.shape, f"tuned {when}", self.distance)


def find_neighbour(cache: Cache, key: LooseKey, fit: Callable[[Config], Config | None]) -> Neighbour | None:
    """The finished entry nearest to a key among those that differ in sizes alone, and the fastest of its configs that
    fits; None where there is none.

    fit: a config in the form of the space, None where it is no point of it. Of equally near shapes the newer goes
    first.
    """
    keys: dict[str, LooseKey] = {}
    for _, head in cache.heads(MAX_SCAN):
        found = head.key.loose
        if head.finished and head.best is not None and only_sizes_differ(key, found):
            keys.setdefault(found.digest, found)
    for found in sorted(keys.values(), key=lambda other: distance(key, other)):
        entry = cache.find(found, lambda one: _fastest_fit(one, fit) is not None)
        config = None if entry is None else _fastest_fit(entry, fit)
        if entry is not None and config is not None:
            return Neighbour(entry, config, distance(key, found), *describe_shapes(key, found))
    return None


def describe_neighbour(wanted: str, shape: str, where: str, distance: float) -> str:
    """Which shape stands in for another, in a sentence. wanted, shape: as `describe_shapes` gives them, empty for one
    shape with two spaces. where: the origin of the config."""
    if not shape:
        return f"no config for this space; uses that of another one ({where})"
    return f"no config for {wanted}; uses that of {shape} ({where}), {distance:.2g} doublings away"


def describe_shapes(a: LooseKey, b: LooseKey) -> tuple[str, str]:
    """The arguments in which two keys differ, of the one and of the other: "n=3000" and "n=4096".

    How an argument is passed (its type, its alignment) is left out where there is more to say.
    """
    apart = [one for one in differences(a, b) if one.field.startswith(_ARGUMENTS)]
    apart = [one for one in apart if not one.field.endswith((TYPE, ALIGNMENT))] or apart
    names = [one.field.removeprefix(_ARGUMENTS) for one in apart]
    ours = [f"{name}={one.wanted}" for name, one in zip(names, apart, strict=True)]
    theirs = [f"{name}={one.found}" for name, one in zip(names, apart, strict=True)]
    return ", ".join(ours), ", ".join(theirs)


def _fastest_fit(entry: Entry, fit: Callable[[Config], Config | None]) -> Config | None:
    """The fastest config of an entry that fits; an entry without measurements has its best alone."""
    if entry.best is None:
        return None
    configs = [entry.best]
    with suppress(CacheError):
        configs += [config for config, _ in entry.ranking()]
    return next((found for config in configs if (found := fit(config)) is not None), None)
