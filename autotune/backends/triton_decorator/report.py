"""What the decorated kernels of this process did at the first call for each key: the rows of a report, and its table.

Each kernel writes a `KernelLog`. `tuned_keys` makes the rows; `print_at_exit` prints them when the program ends.
"""

import atexit
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from math import isfinite
from typing import Literal

from msgspec import Struct

from autotune.backends.triton_decorator.configs import Candidates
from autotune.backends.triton_decorator.resolve import ResolvedConfig
from autotune.core.formatting import format_count, format_duration
from autotune.shell.settings import environment
from autotune.shell.tables import print_table

Source = Literal["search", "cache", "table", "nearest", "list of one", "fallback", "given"]
"""Where a config came from. table: a dispatch table. nearest: from the nearest shape, fallback: the first config, where
nothing may be tuned. given: put into the kernel's `cache`, by its user or by a library that has configs of its own."""

_SOURCES: Mapping[str, Source] = {
    "tuned": "search", "cache": "cache", "table": "table", "nearest": "nearest", "only": "list of one",
    "first": "fallback", "given": "given",
}  # fmt: skip
_MOST_KEYS = 8192
"""Keys of one kernel that a log keeps at most, as fallbacks may be as many as there are calls."""


class TunedKey(Struct, frozen=True, kw_only=True):
    """A key of a decorated kernel, and the config that it got.

    kernel: module and name. key: for people, as in the lines on stderr; empty for a list of one, which serves all
    keys. config: as Triton writes it. seconds: how long the first call waited for the config, with the tunings that a
    key had before. gain: time of the first config (the default of a space) over that of this one, as they were
    measured; None where one of the two was not.
    """

    kernel: str
    key: str
    config: str
    source: Source
    seconds: float
    gain: float | None


@dataclass(eq=False, kw_only=True)
class _Entry:
    key: str
    known: ResolvedConfig
    candidates: Candidates
    seconds: float

    def gain(self) -> float | None:
        """Reads the cache on disk where the config came from there."""
        if self.known.speedup is not None or self.known.origin not in ("tuned", "cache"):
            return self.known.speedup
        times = self.known.timings(self.candidates)
        first = times.get(self.candidates.triton_config(self.candidates.first))
        own = times.get(self.known.config)
        if first is None or own is None or not isfinite(first[0]) or not 0 < own[0] < float("inf"):
            return None
        return first[0] / own[0]


_logs: list["KernelLog"] = []


class KernelLog:
    """The keys of one kernel. kernel: its module and name."""

    def __init__(self, kernel: str) -> None:
        self._kernel = kernel
        self._entries: dict[object, _Entry] = {}

    def has(self, canonical: object, known: ResolvedConfig) -> bool:
        """Whether the config of a key is in the log; a list of one is there once."""
        entry = self._entries.get(None if known.origin == "only" else canonical)
        return entry is not None and (known.origin == "only" or entry.known is known)

    def add(self, canonical: object, key: str, known: ResolvedConfig, candidates: Candidates, seconds: float) -> None:
        """Write down the config that a key got. canonical: the key itself; key: for people."""
        if not self._entries:
            _logs.append(self)
            if environment().triton_report:
                print_at_exit()
        at = None if known.origin == "only" else canonical
        before = self._entries.get(at)
        if before is None and len(self._entries) >= _MOST_KEYS:
            return
        self._entries[at] = _Entry(
            key="" if at is None else key,
            known=known,
            candidates=candidates,
            seconds=seconds + (0.0 if before is None else before.seconds),
        )

    def rows(self) -> list[TunedKey]:
        """A row for each key, in the order of their first calls."""
        return [
            TunedKey(
                kernel=self._kernel,
                key=f"{entry.key}; as {entry.known.neighbour}" if entry.known.neighbour else entry.key,
                config=str(entry.known.config),
                source=_SOURCES[entry.known.origin],
                seconds=entry.seconds,
                gain=entry.gain(),
            )
            for entry in list(self._entries.values())
        ]


def tuned_keys() -> tuple[TunedKey, ...]:
    """The keys of all kernels under `autotune.triton` that were called in this process, kernel by kernel."""
    return tuple(row for log in list(_logs) for row in log.rows())


def print_report(rows: Sequence[TunedKey]) -> None:
    """Print rows on stderr as a table, slowest tuning first, with a line of sums."""
    kernels, seconds = len({row.kernel for row in rows}), sum(row.seconds for row in rows)
    print(
        f"autotune: {format_count(kernels, 'kernel')}, {format_count(len(rows), 'key')},"
        f" {format_duration(seconds)} until they had their configs",
        file=sys.stderr,
    )
    if rows:
        cells = [
            (
                row.kernel,
                row.key or "-",
                format_duration(row.seconds),
                row.source,
                "-" if row.gain is None else f"{row.gain:.3g}x",
                row.config,
            )
            for row in sorted(rows, key=lambda row: -row.seconds)
        ]
        print_table(("kernel", "key", "tuning", "source", "gain", "config"), cells, sys.stderr)


@cache
def print_at_exit() -> None:
    """Print the report when this process ends; its forks print none. A second call changes nothing."""
    owner = os.getpid()

    def report() -> None:
        if os.getpid() == owner and sys.stderr is not None:
            with suppress(OSError, ValueError):  # stderr is closed
                print_report(tuned_keys())

    atexit.register(report)
