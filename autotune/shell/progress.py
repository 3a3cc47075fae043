"""Progress on stderr: a live line on a terminal, a line now and then in a log, one display in a notebook.

It is painted between events and without a thread of its own, which would disturb the kernels that this process times.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, Protocol

from autotune.core.search.messages import Asked, Compare, Conclude, Event, Interrupted
from autotune.core.search.state import Search
from autotune.shell.driver import Watch, ignore_search
from autotune.shell.notebook import NotebookPainter, in_notebook
from autotune.shell.options import Progress
from autotune.shell.progress_state import Pace, ProgressState, failure_notice, progress_state

if TYPE_CHECKING:
    from rich.console import Group

SCREEN_S, LOG_S = 0.2, 10.0
"""The least number of seconds between two paintings, on a terminal and in a log."""

BRIEF_S = 30.0
"""Seconds after which a search that shows no progress says at least how it began."""

SHARE = 50
"""The next painting is at least this many times the duration of the last one away: progress costs a fiftieth of a run
at most."""

BAR = 20
"""The width of the bar on a terminal, in characters."""


class Painter(Protocol):
    """Shows progress."""

    interval_s: float

    def open(self, text: str) -> None:
        """The search begins. text: what is tuned, and how long it may take."""

    def say(self, text: str) -> None:
        """Show a text that stays, above the progress."""

    def paint(self, progress_state: ProgressState) -> None: ...

    def close(self, last: ProgressState | None) -> None:
        """The search is over. last: its final state, None if nothing ever happened."""


@contextmanager
def show_progress(progress: Progress, opening: str = "") -> Iterator[Watch]:
    """The function that is called with every event: the caller's, one that shows progress, or one that does nothing.

    opening: is shown at once.
    """
    if callable(progress):
        yield progress
        return
    painter = _painter(progress)
    if painter is None:
        yield ignore_search
        return
    watcher = _Watcher(painter, opening)
    try:
        yield watcher
    finally:
        watcher.close()


def _begins_phase(event: Event) -> bool:
    """Whether a phase begins that is shown at once; there are a handful of them in a run."""
    if isinstance(event, Asked):
        return isinstance(event.task, Conclude) or (isinstance(event.task, Compare) and event.task.purpose == "verify")
    return isinstance(event, Interrupted)


class _Watcher:
    """Paints the state of a search, not too often. A terminal that has gone away must not end a search."""

    def __init__(self, painter: Painter, opening: str = "") -> None:
        self._painter = painter
        self._began = self._last_event_at = time.monotonic()
        self._pace: Pace | None = None
        self._next = 0.0
        self._gone = False
        self._last: Search | None = None
        if opening:
            with suppress(OSError):
                painter.open(opening)

    def __call__(self, search: Search, event: Event) -> None:
        now = time.monotonic()
        if self._pace is None:
            self._pace, self._began = Pace.of(search), now
        if search is not self._last:
            self._last_event_at = now
            if (notice := failure_notice(search, event)) is not None:
                self._say(notice)
        self._last = search
        if self._gone or (now < self._next and not _begins_phase(event)):
            return
        try:
            self._painter.paint(self._state(search, now))
        except OSError:
            self._gone = True
            return
        self._next = now + max(self._painter.interval_s, min(SHARE * (time.monotonic() - now), LOG_S))

    def close(self) -> None:
        last = None if self._last is None else self._state(self._last, time.monotonic())
        with suppress(OSError):
            self._painter.close(last)

    def _say(self, text: str) -> None:
        with suppress(OSError):
            self._painter.say(text)

    def _state(self, search: Search, now: float) -> ProgressState:
        silent, pace = now - self._last_event_at, self._pace or Pace.of(search)
        return progress_state(search, pace.seconds_left(search, now - self._began, silent), silent)


def _painter(progress: bool | Literal["brief"] | None) -> Painter | None:
    if progress is False or sys.stderr is None:
        return None
    if sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True)
        return _Screen(SCREEN_S) if console.is_terminal and not console.is_dumb_terminal else _Log()
    if in_notebook():
        return NotebookPainter()
    if progress == "brief":
        return _Brief()
    return _Log() if progress else None


def _print(text: str) -> None:
    """Print a text on stderr, with the name of the program."""
    print(f"autotune: {text}", file=sys.stderr, flush=True)


class _Brief:
    """Writes failures, and how the search began once it is a long one: a short one prints its result alone."""

    interval_s = LOG_S

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._opening = ""

    def open(self, text: str) -> None:
        self._opening = text

    def say(self, text: str) -> None:
        self._say_opening()
        _print(text)

    def paint(self, progress_state: ProgressState) -> None:
        if time.monotonic() - self._began >= BRIEF_S:
            self._say_opening()

    def close(self, last: ProgressState | None) -> None: ...

    def _say_opening(self) -> None:
        text, self._opening = self._opening, ""
        if text:
            _print(text)


class _Log:
    """Writes plain lines, for a log file or a terminal that cannot move its cursor."""

    interval_s = LOG_S

    def __init__(self) -> None:
        self._written = ""

    def open(self, text: str) -> None:
        _print(text)

    def say(self, text: str) -> None:
        _print(text)

    def paint(self, progress_state: ProgressState) -> None:
        line = progress_state.line()
        if line != self._written:
            self._written = line
            print(line, file=sys.stderr, flush=True)

    def close(self, last: ProgressState | None) -> None:
        if last is not None:
            self.paint(last)


class _Screen:
    """Repaints two lines in place, and leaves nothing behind. It has no thread: it is painted when told to."""

    def __init__(self, interval_s: float) -> None:
        from rich.console import Console
        from rich.live import Live

        self.interval_s = interval_s
        self._live = Live(
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=True,
        )
        self._live.start()

    def open(self, text: str) -> None:
        self.say(text)

    def say(self, text: str) -> None:
        self._live.console.print(f"autotune: {text}", markup=False, highlight=False, soft_wrap=True)

    def paint(self, state: ProgressState) -> None:
        self._live.update(screen_lines(state), refresh=True)

    def close(self, last: ProgressState | None) -> None:
        self._live.stop()


def screen_lines(state: ProgressState) -> "Group":
    """The bar and the counts, and under them the best; cut where the terminal ends."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    top = Table.grid(padding=(0, 2, 0, 0))
    cells: list[ProgressBar | Text] = [Text(state.counts())]
    if state.share is not None:
        top.add_column(min_width=BAR)
        cells.insert(0, ProgressBar(total=1.0, completed=state.share, width=BAR))
    top.add_column(no_wrap=True, overflow="ellipsis")
    top.add_row(*cells)
    return Group(top, Text.assemble((state.phase, "cyan"), ": ", state.best(), no_wrap=True, overflow="ellipsis"))
