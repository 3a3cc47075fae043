"""Progress on stderr: a live line on a terminal, a line now and then in a log, nothing where nobody looks.

It is painted between events and without a thread of its own, which would disturb what is timed in this process.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from autotune.core.search.messages import Asked, Compare, Conclude, Event, Interrupted
from autotune.core.search.state import Search
from autotune.shell.standing import Pace, Standing, standing

SCREEN_S, LOG_S = 0.2, 10.0
"""The least time between two paintings, on a terminal and in a log."""

SHARE = 50
"""And at least this many times what the last painting took: progress may cost a fiftieth of a run at most."""

Watch = Callable[[Search, Event], None]


class Painter(Protocol):
    """Puts a standing where people see it."""

    interval_s: float

    def paint(self, standing: Standing) -> None: ...

    def close(self, last: Standing | None) -> None:
        """The search is over; `last` is how it stood, None if nothing ever happened."""


@contextmanager
def watching(search: Search, progress: bool | Watch | None) -> Iterator[Watch]:
    """What to tell of every event: the caller's own function, a progress line, or nothing.

    progress: True: show it (lines now and then where stderr is no terminal); None: only on a terminal; False: never.
    """
    if progress is not None and not isinstance(progress, bool):
        yield progress
        return
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if progress is False or sys.stderr is None or not (terminal or progress):
        yield _unwatched
        return
    watcher = _Watcher(search, _painter(terminal))
    try:
        yield watcher
    finally:
        watcher.close()


def _unwatched(search: Search, event: Event) -> None:
    """Where nobody looks."""


def _turns(event: Event) -> bool:
    """Whether another phase begins that people want to hear of at once; there are a handful in a run."""
    if isinstance(event, Asked):
        return isinstance(event.task, Conclude) or (isinstance(event.task, Compare) and event.task.purpose == "verify")
    return isinstance(event, Interrupted)


class _Watcher:
    """Passes on how a search stands, not too often. A terminal that went away must not end a search."""

    def __init__(self, search: Search, painter: Painter) -> None:
        self._painter = painter
        self._pace, self._began = Pace.of(search), time.monotonic()
        self._next = 0.0
        self._last: Search | None = None
        self._heard = self._began

    def __call__(self, search: Search, event: Event) -> None:
        now = time.monotonic()
        if search is not self._last:
            self._heard = now
        self._last = search
        if now < self._next and not _turns(event):
            return
        try:
            self._painter.paint(self._standing(search, now))
        except OSError:
            self._next = float("inf")
            return
        self._next = now + max(self._painter.interval_s, min(SHARE * (time.monotonic() - now), LOG_S))

    def close(self) -> None:
        last = None if self._last is None else self._standing(self._last, time.monotonic())
        with suppress(OSError):
            self._painter.close(last)

    def _standing(self, search: Search, now: float) -> Standing:
        silent = now - self._heard
        return standing(search, self._pace.left(search, now - self._began, silent), silent)


def _painter(terminal: bool) -> Painter:
    if terminal:
        from autotune.shell.screen import Screen, can_move

        if can_move():
            return Screen(SCREEN_S)
    return _Log()


class _Log:
    """Plain lines, for a log file or a terminal that cannot move its cursor."""

    interval_s = LOG_S

    def __init__(self) -> None:
        self._said = ""

    def paint(self, standing: Standing) -> None:
        text = standing.text()
        if text != self._said:
            self._said = text
            print(f"autotune: {text}", file=sys.stderr, flush=True)

    def close(self, last: Standing | None) -> None:
        if last is not None:
            self.paint(last)
