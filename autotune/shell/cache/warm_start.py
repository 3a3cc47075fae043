"""The best configs of earlier runs, with which a search begins: of the same device and arguments, or of the nearest."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from msgspec import Struct

from autotune.core.arguments import AtLeast0, check_settings
from autotune.core.config import Config
from autotune.core.errors import CacheError, ConfigError
from autotune.core.space import Space
from autotune.core.strategies.population import MOST_BEST_AVAILABLE
from autotune.shell.cache.cache import Cache, device_label
from autotune.shell.cache.entries import Entry, EntryHead
from autotune.shell.cache.keys import LooseKey, distance
from autotune.shell.journal import Origin

MAX_SCAN = 500
"""Entries that a warm start looks at by default, as Helion scans for its best available configs."""


class WarmStart(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which configs of earlier runs a search begins with.

    at_most: how many (20 at most reach an initial population). scan: how many of the newest entries are looked at.
    other_devices, other_shapes: also take entries of the same kernel on another device, or for other arguments,
    nearest first; then the space may be another one too, and configs that do not fit are left out.
    pad: whether the population of the best available is filled up at random.
    """

    at_most: AtLeast0 = MOST_BEST_AVAILABLE
    scan: AtLeast0 = MAX_SCAN
    other_devices: bool = False
    other_shapes: bool = False
    pad: bool = False

    def __post_init__(self) -> None:
        check_settings(self, "the warm start", CacheError)


@dataclass(frozen=True)
class _Source:
    """The distance of an entry's key, and its timed configs that fit the space, fastest first, read when needed."""

    distance: float
    fitting: Iterator[tuple[Entry, Config, float]]


def best_available(cache: Cache, key: LooseKey, space: Space, options: WarmStart | None = None) -> tuple[Origin, ...]:
    """The best configs of earlier runs that fit a space, best first, with their origins.

    By default of runs with the same hardware, specialization and space, even if the kernel's source has changed since.
    Entries take turns, nearest first, each with its next best config.
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
                found.setdefault(item[1], _origin(source.distance, *item))
                left.append(source)
        sources = left
    return tuple(found.values())


def _sources(cache: Cache, key: LooseKey, space: Space, options: WarmStart) -> list[_Source]:
    """The entries that configs come from, nearest first; of equally near ones the newer first."""
    sources = [
        _Source(distance(key, head.key.loose), _list_fitting(space, cache, name))
        for name, head in _current(cache.heads(options.scan))
        if _matches(head.key.loose, key, options)
    ]
    return sorted(sources, key=lambda source: source.distance)


def _current(heads: Iterator[tuple[str, EntryHead]]) -> Iterator[tuple[str, EntryHead]]:
    """The entries that no newer one supersedes."""
    superseded: set[str] = set()
    for name, head in heads:
        superseded.update(head.supersedes)
        if name not in superseded:
            yield name, head


def _matches(found: LooseKey, key: LooseKey, options: WarmStart) -> bool:
    if found.device != key.device and not options.other_devices:
        return False
    if found.specialization != key.specialization and not options.other_shapes:
        return False
    if options.other_devices or options.other_shapes:
        return found.kernel == key.kernel
    return found.space == key.space


def _list_fitting(space: Space, cache: Cache, name: str) -> Iterator[tuple[Entry, Config, float]]:
    """The timed configs of an entry that are valid points of the space, fastest first, with the entry."""
    entry = cache.read(name)
    if entry is None:
        return
    for config, time_ms in entry.ranking():
        with suppress(ConfigError):
            yield entry, space.check(config), time_ms


def _origin(distance: float, entry: Entry, config: Config, time_ms: float) -> Origin:
    key = entry.key.loose
    return Origin(
        config=dict(config), entry=entry.name, run=entry.run.id, kernel=key.kernel, hardware=device_label(key.device),
        distance=round(distance, 3), time_ms=time_ms,
    )  # fmt: skip
