"""Progress on stderr: a live line on a terminal, a line now and then in a log, nothing if progress is off.

`progress_state` says how far a search is: phase, counts, best so far, and when it may be over. It is painted between
events and without a thread of its own, which would disturb the kernels that this process times.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from autotune.core.search.messages import Asked, Compare, Conclude, Event, Interrupted
from autotune.core.search.result import BestSoFar, best_so_far
from autotune.core.search.state import SIMPLIFY, Search
from autotune.shell.driver import Watch, ignore_search
from autotune.shell.formatting import format_duration, format_milliseconds

if TYPE_CHECKING:
    from rich.console import Group

SCREEN_S, LOG_S = 0.2, 10.0
"""The least number of seconds between two paintings, on a terminal and in a log."""

SHARE = 50
"""The next painting is at least this many times the duration of the last one away: progress costs a fiftieth of a run
at most."""

BAR = 20
"""The width of the bar on a terminal, in characters."""


@dataclass(frozen=True)
class Pace:
    """The evaluations and the clock of a search when a watcher began; its speed is measured from there."""

    observed: int
    clock: float

    @classmethod
    def of(cls, search: Search) -> Self:
        return cls(search.observed, search.clock)

    def seconds_left(self, search: Search, watched_s: float, silent_s: float = 0.0) -> float | None:
        """Seconds of the watcher's clock until a budget is spent, going by the pace so far; None where no limit tells.

        watched_s: seconds since the watcher began. silent_s: seconds since the last event; the search's clock stands
        still between events.
        """
        budget = search.plan.budget
        spans: list[tuple[float, float]] = []
        if search.interrupted:
            return None
        if budget.evaluations is not None and search.concluded is None:
            spans.append((search.observed - self.observed, budget.evaluations - search.observed))
        if budget.seconds is not None:  # on the evaluator's clock, which runs ahead of ours in a simulation
            spans.append((search.clock - self.clock, budget.seconds - search.clock))
        estimates = [(watched_s - silent_s) * max(left, 0) / done - silent_s for done, left in spans if done > 0]
        if budget.seconds is not None:
            estimates.append(budget.seconds - search.clock - silent_s)  # however slow the search is
        return max(min(estimates), 0.0) if estimates else None


@dataclass(frozen=True)
class ProgressState:
    """How far a search is.

    evaluated, of: trials with an outcome, and the budget of evaluations, if there is one. best_ms: the best time so
    far; default: how it compares with the default config, in words. Both go by first timings, each taken alone, until
    they are `final`: times of the verification. share: the part of the budget that is spent, of the limit that will be
    reached first; None without a budget. left_s: seconds that are left; None if unknown.
    """

    phase: str
    generation: int | None
    evaluated: int
    of: int | None
    failed: int
    best_ms: float | None
    default: str
    share: float | None
    left_s: float | None
    final: bool = True

    def counts(self) -> str:
        """Evaluations, failures, generation and time left, on one line."""
        parts = [
            f"evaluated {self.evaluated}" + ("" if self.of is None else f"/{self.of}"),
            f"failed {self.failed}",
            "" if self.generation is None else f"generation {self.generation}",
            "" if self.left_s is None else f"eta {format_duration(self.left_s)}",
        ]
        return "  ".join(part for part in parts if part)

    def best(self) -> str:
        """The best time so far, and how it compares."""
        if self.best_ms is None:
            return f"no time yet, {self.default}" if self.default else "no time yet"
        parts = [f"best {format_milliseconds(self.best_ms)}", self.default, "" if self.final else "by first timings"]
        return ", ".join(part for part in parts if part)

    def text(self) -> str:
        """Phase, counts and best time on one line."""
        return f"{self.phase}: {self.counts()}  {self.best()}"


def progress_state(search: Search, left_s: float | None = None, silent_s: float = 0.0) -> ProgressState:
    """How far a search is. Its trials count by their latest outcome. silent_s: see `Pace.seconds_left`."""
    ok, best = search.archive.ok, best_so_far(search)
    return ProgressState(
        phase=phase(search),
        generation=search.generation if search.generation >= 0 else None,
        evaluated=search.observed,
        of=search.plan.budget.evaluations,
        failed=len(ok) - int(np.count_nonzero(ok)),
        best_ms=None if best is None else best.time_ms,
        default=_default(search, best),
        share=_share(search, silent_s),
        left_s=left_s,
        final=search.plan.settings.exact or (best is not None and best.verified),
    )


def phase(search: Search) -> str:
    """The phase of a search, in words."""
    if search.interrupted:
        return "finishing early, Ctrl-C again stops at once"
    if search.comparing is not None:
        return {"verify": "verifying", "simplify": "simplifying"}.get(search.comparing.purpose, "confirming")
    if search.concluded is not None:
        return "simplifying" if search.trials and search.trials[-1].origin == SIMPLIFY else "finishing"
    if search.default_trial is not None and not search.observed:
        return "measuring the default"
    return "searching"


def _default(search: Search, best: BestSoFar | None) -> str:
    """How the best compares with the default config, where that was measured."""
    if best is not None and best.speedup is not None:
        return f"{best.speedup:.2f}x over the default"
    latest = search.archive.latest
    measured = search.default_trial is not None and len(latest) and latest[0]["trial"] == search.default_trial
    return "the default failed" if measured and not latest[0]["ok"] else ""


def _share(search: Search, silent_s: float) -> float | None:
    budget = search.plan.budget
    shares = [search.observed / budget.evaluations] if budget.evaluations is not None else []
    shares += [(search.clock + silent_s) / budget.seconds] if budget.seconds is not None else []
    shares += [(search.generation + 1) / budget.generations] if budget.generations is not None else []
    return min(max(shares), 1.0) if shares else None


class Painter(Protocol):
    """Shows progress."""

    interval_s: float

    def paint(self, progress_state: ProgressState) -> None: ...

    def close(self, last: ProgressState | None) -> None:
        """The search is over. last: its final state, None if nothing ever happened."""


@contextmanager
def show_progress(search: Search, progress: bool | Watch | None) -> Iterator[Watch]:
    """The function that is called with every event: the caller's, one that shows progress, or one that does nothing.

    progress: True: show it (a line now and then if stderr is no terminal); None: only on a terminal; False: never.
    """
    if progress is not None and not isinstance(progress, bool):
        yield progress
        return
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if progress is False or sys.stderr is None or not (terminal or progress):
        yield ignore_search
        return
    watcher = _Watcher(search, _painter(terminal))
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

    def __init__(self, search: Search, painter: Painter) -> None:
        self._painter = painter
        self._pace, self._began = Pace.of(search), time.monotonic()
        self._next = 0.0
        self._last: Search | None = None
        self._last_event_at = self._began

    def __call__(self, search: Search, event: Event) -> None:
        now = time.monotonic()
        if search is not self._last:
            self._last_event_at = now
        self._last = search
        if now < self._next and not _begins_phase(event):
            return
        try:
            self._painter.paint(self._state(search, now))
        except OSError:
            self._next = float("inf")
            return
        self._next = now + max(self._painter.interval_s, min(SHARE * (time.monotonic() - now), LOG_S))

    def close(self) -> None:
        last = None if self._last is None else self._state(self._last, time.monotonic())
        with suppress(OSError):
            self._painter.close(last)

    def _state(self, search: Search, now: float) -> ProgressState:
        silent = now - self._last_event_at
        return progress_state(search, self._pace.seconds_left(search, now - self._began, silent), silent)


def _painter(terminal: bool) -> Painter:
    if terminal:
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_terminal and not console.is_dumb_terminal:
            return _Screen(SCREEN_S)
    return _Log()


class _Log:
    """Writes plain lines, for a log file or a terminal that cannot move its cursor."""

    interval_s = LOG_S

    def __init__(self) -> None:
        self._written = ""

    def paint(self, progress_state: ProgressState) -> None:
        text = progress_state.text()
        if text != self._written:
            self._written = text
            print(f"autotune: {text}", file=sys.stderr, flush=True)

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
