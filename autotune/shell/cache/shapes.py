"""What the cache measured of one kernel, as a table of times: a row for each shape, a column for each config."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, nan
from typing import Any

import numpy as np

from autotune.core.config import Config
from autotune.core.cover import Times
from autotune.core.errors import CacheError
from autotune.core.outcomes import Failed
from autotune.shell.cache.entries import Entry
from autotune.shell.cache.hit_rule import REPEATABLE_FAILURES
from autotune.shell.cache.keys import (
    ALIGNMENT,
    TYPE,
    LooseKey,
    Specialization,
    canonical_json,
    distance,
    fields_of,
    only_sizes_differ,
)


@dataclass(frozen=True, kw_only=True)
class ShapeTimes:
    """The table of one kernel on one device.

    keys: of the shapes, in the order of their labels: the fields in which they differ, such as "m=16, n=4096". configs:
    in the order of their first measurement. times: milliseconds, infinite where a config fails, NaN where it was not
    measured. older: the entries that were left out, because the kernel's source has changed since.
    """

    keys: tuple[LooseKey, ...]
    labels: tuple[str, ...]
    configs: tuple[Config, ...]
    times: Times
    older: int

    def distances(self) -> Times:
        """Between the shapes, infinite where one must not stand in for the other."""
        return np.array(
            [[distance(a, b) if a is not b and only_sizes_differ(a, b) else inf for b in self.keys] for a in self.keys]
        )


def shape_times(entries: Iterable[Entry], kernel: str, device: str = "") -> ShapeTimes:
    """The table of the kernel whose name contains `kernel`, or is it, on the device whose name contains `device`.

    entries: newest first, as `list_current` gives them; of several measurements of a config on a shape the newest
    counts. Raises CacheError where there is none, and for several kernels or devices.
    """
    found = [one for one in entries if kernel in one.key.loose.kernel and device in one.key.loose.device.name]
    found = [one for one in found if one.key.loose.kernel == kernel] or found
    if not found:
        raise CacheError(f"the cache has no entry of a kernel {kernel!r}; `autotune cache list` shows all")
    kernels = dict.fromkeys(one.key.loose.kernel for one in found)
    if len(kernels) > 1:
        raise CacheError(f"{kernel!r} could be any of {', '.join(kernels)}; give more of the name")
    devices = dict.fromkeys(one.key.loose.device.name for one in found)
    if len(devices) > 1:
        raise CacheError(f"the cache has entries of {', '.join(devices)}; choose one with --device")
    source = found[0].key.loose.source
    current = [one for one in found if one.key.loose.source == source]
    rows: dict[Specialization, tuple[LooseKey, dict[Config, float]]] = {}
    for entry in reversed(current):
        _, known = rows.get(entry.key.loose.specialization, (None, {}))
        known.update(_times_of(entry))
        rows[entry.key.loose.specialization] = entry.key.loose, known
    timed = [(key, known) for key, known in rows.values() if any(ms < inf for ms in known.values())]
    if not timed:
        raise CacheError(f"no config of {next(iter(kernels))} has a time in the cache; tune it first")
    timed.sort(key=lambda row: _order(row[0]))
    configs = tuple(dict.fromkeys(config for _, known in timed for config in known))
    times = np.array([[known.get(config, nan) for config in configs] for _, known in timed])
    keys = tuple(key for key, _ in timed)
    older = len(found) - len(current)
    return ShapeTimes(keys=keys, labels=_labels(keys), configs=configs, times=times, older=older)


def _times_of(entry: Entry) -> dict[Config, float]:
    failed = {m.config: inf for m in entry.measurements
              if isinstance(m.outcome, Failed) and m.outcome.kind in REPEATABLE_FAILURES}  # fmt: skip
    timed = {config: ms for config, ms in entry.ranking() if ms > 0}
    return failed | timed | dict.fromkeys(entry.rejects, inf)


def _order(key: LooseKey) -> tuple[Any, ...]:
    """Sizes by their value, other values by their text."""
    values = [value for leaf in fields_of(key).values() for value in (leaf if isinstance(leaf, tuple) else [leaf])]
    return tuple((0, v, "") if isinstance(v, int | float) else (1, 0, str(v)) for v in values)


def _labels(keys: tuple[LooseKey, ...]) -> tuple[str, ...]:
    """The fields in which the keys differ; how an argument is passed is left out where the others tell them apart."""
    fields = [
        {name: canonical_json(value).decode() for name, value in fields_of(key).items() if name.startswith("special")}
        for key in keys
    ]
    names = dict.fromkeys(name for one in fields for name in one)
    varying = [name for name in names if len({one.get(name) for one in fields}) > 1] or list(names)
    short = [name for name in varying if not name.endswith((TYPE, ALIGNMENT, ".strides"))]
    for chosen in (short, varying):
        labels = tuple(", ".join(_label(name, one[name]) for name in chosen if name in one) for one in fields)
        if len(set(labels)) == len(labels):
            return labels
    return labels


def _label(name: str, value: str) -> str:
    for prefix in ("specialization.arguments.", "specialization.constants."):
        name = name.removeprefix(prefix)
    return f"{name}={value.strip(chr(34))}"
