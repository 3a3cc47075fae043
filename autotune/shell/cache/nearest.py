"""The nearest shape: the result of a key that differs in sizes alone, for a key that has none."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from autotune.core.config import Config
from autotune.core.cover import suit_both
from autotune.core.errors import CacheError
from autotune.shell.cache.cache import Cache
from autotune.shell.cache.entries import Entry
from autotune.shell.cache.keys import ALIGNMENT, TYPE, LooseKey, differences, distance, only_sizes_differ

MAX_SCAN = 4096
"""The newest entries that are looked at: as many as a `Cache` remembers, so that a later look reads no file."""

Fit = Callable[[Config], Config | None]

_ARGUMENTS = "specialization.arguments."


class Neighbour(NamedTuple):
    """An entry of another shape and its config in the form of the space that was asked for.

    distance: of the keys, in doublings of sizes. wanted, shape: the arguments in which they differ, of the key that was
    asked for and of the entry, in words. also: the next nearest shape, where another config would be used without it.
    """

    entry: Entry
    config: Config
    distance: float
    wanted: str
    shape: str
    also: str = ""

    @property
    def description(self) -> str:
        """One sentence for people."""
        when = time.strftime("%Y-%m-%d", time.gmtime(self.entry.run.began_at))
        text = describe_neighbour(self.wanted, self.shape, f"tuned {when}", self.distance)
        return f"{text}; of its configs the one that suits {self.also}, too" if self.also else text


def find_neighbour(cache: Cache, key: LooseKey, fit: Fit) -> Neighbour | None:
    """The finished entry nearest to a key among those that differ in sizes alone, and one of its configs that fit; None
    where there is none.

    fit: a config in the form of the space, None where it is no point of it. Of equally near shapes the newer goes
    first. The config is the fastest of that shape, or the one that `suit_both` takes by the next nearest shape, too.
    """
    keys: dict[str, LooseKey] = {}
    for _, head in cache.heads(MAX_SCAN):
        found = head.key.loose
        if head.finished and head.best is not None and only_sizes_differ(key, found):
            keys.setdefault(found.digest, found)
    order = sorted(keys.values(), key=lambda other: distance(key, other))
    usable = (
        (found, entry) for found in order if (entry := cache.find(found, lambda one: _fits(one, fit))) is not None
    )
    first = next(usable, None)
    if first is None:
        return None
    (near, entry), second = first, next(usable, None)
    times = _fitting_times(entry, fit)
    config, also = min(times, key=times.__getitem__), ""
    if second is not None:
        both = suit_both(times, _fitting_times(second[1], fit), distance(key, near), distance(key, second[0]))
        config, also = both, "" if both == config else describe_shapes(key, second[0])[1]
    return Neighbour(entry, config, distance(key, near), *describe_shapes(key, near), also)


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


def _fits(entry: Entry, fit: Fit) -> bool:
    return bool(_fitting_times(entry, fit))


def _fitting_times(entry: Entry, fit: Fit) -> dict[Config, float]:
    """Milliseconds of the configs of an entry that fit, fastest first; of an entry without measurements of its best
    alone, and of that before others that are as fast."""
    if entry.result is None:
        return {}
    times = {Config(entry.result.best.config): entry.result.best.time_ms}
    with suppress(CacheError):
        times |= dict(entry.ranking())
    fitting = [(found, ms) for config, ms in times.items() if (found := fit(config)) is not None and ms > 0]
    return dict(sorted(fitting, key=lambda one: one[1]))
