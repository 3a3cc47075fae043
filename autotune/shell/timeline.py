"""What every process did and when: one JSON line a span, to see whether a GPU or the compilers ever waited.

When each process of a search did what, from the moment at which Helion begins, for whoever wants to see it.
"""

import os
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

Activity = Literal["compile", "run", "start", "device", "arguments", "baseline", "space", "generate", "load", "settle"]
"""The last five, and taking hold of a GPU, are told of inside of Helion alone."""

NO_TRIAL = -1
"""In place of a trial, for what concerns none or several: a process that starts, a comparison."""


class Span(Struct, frozen=True):
    """lane: "gpu 0", a compile worker, or what these are forked from. trial: its number, or NOBODY.

    start_s, end_s: on the search's clock.
    """

    lane: str
    what: Activity
    trial: int
    start_s: float
    end_s: float


class Timeline:
    """Writes spans as they end, where there is a path."""

    def __init__(self, path: str | Path | None) -> None:
        self._file = None if path is None else open(path, "ab", buffering=0)  # noqa: SIM115  # a line at a time: nothing is lost at a kill
        self._open: dict[Hashable, tuple[str, Activity, int, float]] = {}

    def begin(self, lane: str, what: Activity, trial: int, who: Hashable, now: float) -> None:
        """`who` has begun something."""
        if self._file is not None:
            self._open[who] = (lane, what, trial, now)

    def end(self, who: Hashable, now: float, took_s: float | None = None) -> None:
        """`who` is done with it, and was after `took_s` seconds, if that is known."""
        begun = self._open.pop(who, None)
        if begun is not None:
            self.note(*begun, now if took_s is None else min(now, begun[-1] + took_s))

    def note(self, lane: str, what: Activity, trial: int, start_s: float, end_s: float) -> None:
        """A span that is over already."""
        if self._file is not None:
            self._file.write(msgspec.json.encode(Span(lane, what, trial, start_s, end_s)) + b"\n")

    def end_all(self, now: float) -> None:
        """Everybody is done."""
        for who in list(self._open):
            self.end(who, now)

    def close(self, now: float) -> None:
        """Nothing more will come."""
        self.end_all(now)
        if self._file is not None:
            self._file.close()
            self._file = None


def read_timeline(path: str | Path) -> list[Span]:
    """The spans of a file; raises msgspec.DecodeError where it is none."""
    return [msgspec.json.decode(line, type=Span) for line in Path(path).read_bytes().splitlines()]


def busy_share(spans: list[Span], compilers: int, start_s: float, end_s: float) -> float:
    """The share of the time in which a GPU was timing, or all `compilers` were compiling."""
    turns: list[tuple[float, Activity, int]] = []
    for span in (span for span in spans if span.what in ("compile", "run")):
        begin, end = max(span.start_s, start_s), min(span.end_s, end_s)
        if begin < end:
            turns += [(begin, span.what, 1), (end, span.what, -1)]
    busy, last = 0.0, start_s
    running = {"run": 0, "compile": 0}
    for at, what, step in sorted(turns, key=lambda turn: turn[0]):
        if running["run"] or running["compile"] >= compilers:
            busy += at - last
        running[what] += step
        last = at
    return busy / (end_s - start_s)


SEARCH, GPU, SPARE, GENERATOR = "search", "gpu", "gpu spare", "generator"
"""Lanes of the timeline: this process, the one that times configs, the one that stands ready, those that write code."""


@dataclass(frozen=True)
class JobTimes:
    """When a job began and ended, by time.perf_counter(), which is one clock for all processes of a machine."""

    what: Activity
    began: float
    ended: float


class PhaseTimeline:
    """A timeline in a file, from `begin` on; without a path, none."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._timeline = Timeline(None if path is None else os.fspath(path))
        self._zero, self._lock = time.perf_counter(), threading.Lock()

    def begin(self) -> None:
        """What follows is told from now."""
        self._zero = time.perf_counter()

    def note(self, lane: str, what: Activity, began: float, ended: float | None = None, trial: int = NO_TRIAL) -> None:
        """What lasted from `began` to `ended`, by time.perf_counter(); until now where that is None."""
        until = time.perf_counter() if ended is None else ended
        with self._lock:
            self._timeline.note(lane, what, trial, began - self._zero, until - self._zero)

    def close(self) -> None:
        """Nothing more will come."""
        with self._lock:
            self._timeline.close(time.perf_counter() - self._zero)
