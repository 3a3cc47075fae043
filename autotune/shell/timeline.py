"""The spans in which each process of a search worked, a JSON line each, to see whether a GPU or compiler waited.

`Timeline` counts time on the search's clock. `PhaseTimeline` counts from the moment at which Helion begins.
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
"""Triton knows the first three; inside of Helion all occur, "device" being the initialisation of the GPU."""

NO_TRIAL = -1
"""The trial of a span that concerns none or several: a process that starts, a comparison."""


class Span(Struct, frozen=True, kw_only=True):
    """A span of time. lane: the process, such as "gpu 0". trial: its number, or NO_TRIAL.

    start_s, end_s: seconds on the search's clock.
    """

    lane: str
    what: Activity
    trial: int
    start_s: float
    end_s: float


class Timeline:
    """Writes spans to a file as they end; without a path it does nothing."""

    def __init__(self, path: str | Path | None) -> None:
        self._file = None if path is None else open(path, "ab", buffering=0)  # noqa: SIM115  # a line at a time: nothing is lost at a kill
        self._open: dict[Hashable, tuple[str, Activity, int, float]] = {}

    def begin(self, lane: str, what: Activity, trial: int, key: Hashable, now: float) -> None:
        """An activity begins; `key` identifies it until its end."""
        if self._file is not None:
            self._open[key] = (lane, what, trial, now)

    def end(self, key: Hashable, now: float, took_s: float | None = None) -> None:
        """The activity of `key` has ended; took_s: how long it lasted by its own account, None if unknown."""
        begun = self._open.pop(key, None)
        if begun is not None:
            self.add_span(*begun, now if took_s is None else min(now, begun[-1] + took_s))

    def add_span(self, lane: str, what: Activity, trial: int, start_s: float, end_s: float) -> None:
        """Write a span that is over."""
        if self._file is not None:
            self._file.write(
                msgspec.json.encode(Span(lane=lane, what=what, trial=trial, start_s=start_s, end_s=end_s)) + b"\n"
            )

    def end_all(self, now: float) -> None:
        for key in list(self._open):
            self.end(key, now)

    def close(self, now: float) -> None:
        self.end_all(now)
        if self._file is not None:
            self._file.close()
            self._file = None


def read_timeline(path: str | Path) -> list[Span]:
    """The spans in a file; raises msgspec.DecodeError for any other content."""
    return [msgspec.json.decode(line, type=Span) for line in Path(path).read_bytes().splitlines()]


SEARCH, GPU, SPARE, GENERATOR = "search", "gpu", "gpu spare", "generator"
"""Lanes inside of Helion: this process, the one that times configs, the spare one, the code generators."""


@dataclass(frozen=True)
class JobTimes:
    """When a job began and ended, by time.perf_counter(), which is one clock for all processes of a machine."""

    what: Activity
    began: float
    ended: float


class PhaseTimeline:
    """A timeline that counts from `begin`; without a path it writes nothing. Any thread may call its methods."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._timeline = Timeline(None if path is None else os.fspath(path))
        self._zero, self._lock = time.perf_counter(), threading.Lock()

    def begin(self) -> None:
        """Count from now."""
        self._zero = time.perf_counter()

    def add_span(
        self, lane: str, what: Activity, began: float, ended: float | None = None, trial: int = NO_TRIAL
    ) -> None:
        """Write a span from `began` to `ended`, by time.perf_counter(); until now where `ended` is None."""
        until = time.perf_counter() if ended is None else ended
        with self._lock:
            self._timeline.add_span(lane, what, trial, began - self._zero, until - self._zero)

    def close(self) -> None:
        with self._lock:
            self._timeline.close(time.perf_counter() - self._zero)
