"""The best configs of earlier runs, to begin another search with: from this device and shape, or from the nearest."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from msgspec import Struct

from autotune.core.config import Config
from autotune.core.errors import CacheError, ConfigError
from autotune.core.space import Space
from autotune.core.strategies.initial import BEST_AVAILABLE
from autotune.shell.cache.entries import Entry
from autotune.shell.cache.keys import LooseKey
from autotune.shell.cache.layers import Cache
from autotune.shell.cache.nearness import distance
from autotune.shell.cache.origin import Origin
from autotune.shell.cache.saved import hardware

MAX_SCAN = 500


class WarmStart(Struct, frozen=True, omit_defaults=True):
    """What a search may begin with.

    at_most: configs (20 at most reach an initial population). scan: of the newest entries so many are looked at.
    other_devices, other_shapes: also take entries of the same kernel on another device, or for other arguments,
    nearest first; then the space may be another one too, and configs that do not fit are left out.
    pad: whether a population of the best available is filled up at random.
    """

    at_most: int = BEST_AVAILABLE
    scan: int = MAX_SCAN
    other_devices: bool = False
    other_shapes: bool = False
    pad: bool = False

    def __post_init__(self) -> None:
        for name in ("at_most", "scan"):
            if getattr(self, name) < 0:
                raise CacheError(f"the warm start has {name} = {getattr(self, name)}; use 0 or more")


@dataclass(frozen=True)
class _Source:
    """An entry, how far away its key is, and its timed configs that fit, fastest first, worked out as needed."""

    entry: Entry
    distance: float
    fitting: Iterator[tuple[Config, float]]


def best_available(cache: Cache, key: LooseKey, space: Space, options: WarmStart | None = None) -> tuple[Origin, ...]:
    """The best configs of earlier runs that fit a space, best first, each with where it comes from.

    Without options: of runs with the same hardware, specialization and space fingerprint, whatever became of the
    kernel's source since. Entries take turns, nearest first, each with its next best config.
    """
    options = options or WarmStart()
    sources = _sources(cache, key, space, options)
    found: dict[Config, Origin] = {}
    while sources:
        left = []
        for source in sources:
            if len(found) >= options.at_most:
                return tuple(found.values())
            if (item := next(source.fitting, None)) is not None:
                found.setdefault(item[0], _origin(source, *item))
                left.append(source)
        sources = left
    return tuple(found.values())


def _sources(cache: Cache, key: LooseKey, space: Space, options: WarmStart) -> list[_Source]:
    """The entries to take configs from, nearest first; of equally near ones the newer first."""
    sources = [
        _Source(entry, distance(key, entry.key.loose), _fitting(space, entry))
        for entry in _standing(cache.newest(options.scan))
        if _matches(entry.key.loose, key, options)
    ]
    return sorted(sources, key=lambda source: source.distance)


def _standing(entries: Iterator[Entry]) -> Iterator[Entry]:
    """Those that no newer one supersedes."""
    superseded: set[str] = set()
    for entry in entries:
        superseded.update(entry.supersedes)
        if entry.name not in superseded:
            yield entry


def _matches(found: LooseKey, key: LooseKey, options: WarmStart) -> bool:
    if found.device != key.device and not options.other_devices:
        return False
    if found.specialization != key.specialization and not options.other_shapes:
        return False
    if options.other_devices or options.other_shapes:
        return found.kernel == key.kernel
    return found.space == key.space


def _fitting(space: Space, entry: Entry) -> Iterator[tuple[Config, float]]:
    """The timed configs of an entry that are valid points of the space, fastest first."""
    for config, time_ms in entry.ranked():
        with suppress(ConfigError):
            yield space.check(config), time_ms


def _origin(source: _Source, config: Config, time_ms: float) -> Origin:
    entry = source.entry
    return Origin(
        dict(config), entry.name, entry.run.id, entry.key.loose.kernel, hardware(entry), round(source.distance, 3),
        time_ms,
    )  # fmt: skip
