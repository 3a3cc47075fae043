"""When each process of a search did what, from the moment at which Helion begins, for whoever wants to see it."""

import os
import threading
import time
from dataclasses import dataclass

from autotune.shell.evaluators.triton.timeline import NOBODY, Timeline, What

SEARCH, GPU, SPARE, GENERATOR = "search", "gpu", "gpu spare", "generator"
"""Lanes of the timeline: this process, the one that times configs, the one that stands ready, those that write code."""


@dataclass(frozen=True)
class Stamps:
    """When a job began and ended, by time.perf_counter(), which is one clock for all processes of a machine."""

    what: What
    began: float
    ended: float


class Record:
    """A timeline in a file, from `begin` on; without a path, none."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._timeline = Timeline(None if path is None else os.fspath(path))
        self._zero, self._lock = time.perf_counter(), threading.Lock()

    def begin(self) -> None:
        """What follows is told from now."""
        self._zero = time.perf_counter()

    def note(self, lane: str, what: What, began: float, ended: float | None = None, trial: int = NOBODY) -> None:
        """What lasted from `began` to `ended`, by time.perf_counter(); until now where that is None."""
        until = time.perf_counter() if ended is None else ended
        with self._lock:
            self._timeline.note(lane, what, trial, began - self._zero, until - self._zero)

    def close(self) -> None:
        """Nothing more will come."""
        with self._lock:
            self._timeline.close(time.perf_counter() - self._zero)
