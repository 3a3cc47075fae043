"""Progress on stderr: a live line on a terminal, a line now and then in a log, nothing where nobody looks.

It is painted between events and without a thread of its own, which would disturb what is timed in this process.

Where a search stands, in a line for people: phase, counts, best so far, and when it may be over.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from autotune.core.search.messages import Asked, Compare, Conclude, Event, Interrupted
from autotune.core.search.result import BestSoFar, best_so_far
from autotune.core.search.state import SIMPLIFY, Search
from autotune.shell.formatting import format_duration, format_milliseconds


@dataclass(frozen=True)
class Pace:
    """Where a search stood when someone began to watch it: how fast it goes is measured from there."""

    observed: int
    clock: float

    @classmethod
    def of(cls, search: Search) -> Self:
        return cls(search.observed, search.clock)

    def left(self, search: Search, watched_s: float, silent_s: float = 0.0) -> float | None:
        """Seconds of the watcher's clock until a budget is spent, going by the pace so far; None: nobody knows.

        silent_s: how long ago the last event was; without events the search's clock stands, and time goes by.
        """
        budget = search.plan.budget
        spans: list[tuple[float, float]] = []
        if search.interrupted:
            return None
        if budget.evaluations is not None and search.concluded is None:
            spans.append((search.observed - self.observed, budget.evaluations - search.observed))
        if budget.seconds is not None:  # on the evaluator's clock, which runs faster than ours in a simulation
            spans.append((search.clock - self.clock, budget.seconds - search.clock))
        estimates = [(watched_s - silent_s) * max(left, 0) / done - silent_s for done, left in spans if done > 0]
        if budget.seconds is not None:
            estimates.append(budget.seconds - search.clock - silent_s)  # no pace makes it longer than what is left
        return max(min(estimates), 0.0) if estimates else None


@dataclass(frozen=True)
class ProgressState:
    """best_ms, default: by first timings, each taken alone, until they are `final`: the result's, by the verification.
    share: of the budget that is spent first; None without a budget."""

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
        """How far it got."""
        parts = [
            f"evaluated {self.evaluated}" + ("" if self.of is None else f"/{self.of}"),
            f"failed {self.failed}",
            "" if self.generation is None else f"generation {self.generation}",
            "" if self.left_s is None else f"eta {format_duration(self.left_s)}",
        ]
        return "  ".join(part for part in parts if part)

    def best(self) -> str:
        """What it has found."""
        if self.best_ms is None:
            return f"no time yet, {self.default}" if self.default else "no time yet"
        parts = [f"best {format_milliseconds(self.best_ms)}", self.default, "" if self.final else "by first timings"]
        return ", ".join(part for part in parts if part)

    def text(self) -> str:
        """All in one line."""
        return f"{self.phase}: {self.counts()}  {self.best()}"


def progress_state(search: Search, left_s: float | None = None, silent_s: float = 0.0) -> ProgressState:
    """Where a search stands, its trials counted by their latest outcome. silent_s: see `Pace.left`."""
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
    """What the search is at."""
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


SCREEN_S, LOG_S = 0.2, 10.0
"""The least time between two paintings, on a terminal and in a log."""

SHARE = 50
"""And at least this many times what the last painting took: progress may cost a fiftieth of a run at most."""

Watch = Callable[[Search, Event], None]


class Painter(Protocol):
    """Puts a standing where people see it."""

    interval_s: float

    def paint(self, progress_state: ProgressState) -> None: ...

    def close(self, last: ProgressState | None) -> None:
        """The search is over; `last` is how it stood, None if nothing ever happened."""


@contextmanager
def show_progress(search: Search, progress: bool | Watch | None) -> Iterator[Watch]:
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

    def _standing(self, search: Search, now: float) -> ProgressState:
        silent = now - self._heard
        return progress_state(search, self._pace.left(search, now - self._began, silent), silent)


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

    def paint(self, progress_state: ProgressState) -> None:
        text = progress_state.text()
        if text != self._said:
            self._said = text
            print(f"autotune: {text}", file=sys.stderr, flush=True)

    def close(self, last: ProgressState | None) -> None:
        if last is not None:
            self.paint(last)
