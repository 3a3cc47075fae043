"""A journal that a search writes to, followed: the events that are new, and the outcomes among them as lines."""

import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from autotune.core.errors import AutotuneError
from autotune.core.formatting import escape_controls, format_duration, format_milliseconds
from autotune.core.outcomes import Outcome, Timed
from autotune.core.search.messages import Event, Observed, Reported, Told
from autotune.core.search.result import best_so_far
from autotune.core.search.state import Search, advance, start
from autotune.core.space import Space
from autotune.shell.journal import Journal, read_journal
from autotune.viewer.journal_view import plan_to_view

POLL_S = 1.0
"""Seconds between two looks at the file."""


@dataclass(frozen=True)
class FollowedSearch:
    """What is new: the journal, the search up to its end, and the events since the last step."""

    journal: Journal
    search: Search
    new: tuple[Event, ...]

    @property
    def over(self) -> bool:
        """Whether the search has reported its result; one that is resumed later goes on."""
        return bool(self.journal.events) and isinstance(self.journal.events[-1], Reported)


def follow(
    path: str | os.PathLike[str], space: Space | None = None, poll_s: float = POLL_S
) -> Iterator[FollowedSearch | None]:
    """A step whenever the journal has grown, at once for what it holds, and None after each look without news.

    It ends after the step in which the search is over. Raises JournalError for a file that is no journal, or that is
    replaced by a shorter one.
    """
    path, size, known = Path(path), -1, 0
    search: Search | None = None
    while True:
        now = os.stat(path).st_size if path.exists() else -1
        if now != size:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the last line may be torn while it is written
                journal = read_journal(path)
            size = now
            search = search or start(plan_to_view(journal, space))
            new = journal.events[known:]
            if len(journal.events) < known:
                raise AutotuneError(f"{path} has become shorter, so it is another journal; follow it anew")
            known = len(journal.events)
            for event in new:
                search = advance(search, event)
            step = FollowedSearch(journal, search, new)
            yield step
            if step.over:
                return
        else:
            yield None
        time.sleep(poll_s)


class OutcomeLine(Struct, frozen=True, kw_only=True):
    """One outcome, as `show --follow --json` prints it. time_ms: the median. best_ms: the best until then."""

    at_s: float
    trial: int
    config: dict[str, object]
    outcome: str
    time_ms: float | None
    best_ms: float | None
    message: str

    def text(self) -> str:
        """The outcome on one line."""
        said = self.outcome if self.time_ms is None else format_milliseconds(self.time_ms)
        star = " *" if self.time_ms is not None and self.time_ms == self.best_ms else ""
        config = ", ".join(f"{name}={value}" for name, value in self.config.items())
        message = f": {self.message}" if self.message else ""
        return escape_controls(f"{format_duration(self.at_s):>8}  {self.trial:>5}  {said}{star}{message}  {config}")


def outcome_lines(step: FollowedSearch) -> Iterator[OutcomeLine]:
    """The outcomes among the new events. A best is by first timings, each taken alone."""
    best = None
    earlier = step.journal.events[: len(step.journal.events) - len(step.new)]
    for at, trial, outcome, fresh in _outcomes(earlier, step.new):
        if isinstance(outcome, Timed) and (best is None or outcome.time_ms < best):
            best = outcome.time_ms
        if fresh:
            yield OutcomeLine(
                at_s=at, trial=trial, config=dict(step.search.trials[trial].config),
                outcome="timed" if isinstance(outcome, Timed) else outcome.kind.replace("_", " "),
                time_ms=outcome.time_ms if isinstance(outcome, Timed) else None, best_ms=best,
                message="" if isinstance(outcome, Timed) else outcome.message,
            )  # fmt: skip


def _outcomes(earlier: tuple[Event, ...], new: tuple[Event, ...]) -> Iterator[tuple[float, int, Outcome, bool]]:
    for events, fresh in ((earlier, False), (new, True)):
        for event in events:
            if isinstance(event, Observed):
                yield event.at, event.trial, event.outcome, fresh
            elif isinstance(event, Told):
                yield event.at, event.trial.id, event.outcome, fresh


def last_line(step: FollowedSearch) -> str:
    """How the search stands, on one line."""
    best = best_so_far(step.search)
    said = "no time yet" if best is None else f"best {format_milliseconds(best.time_ms)}"
    return f"{step.search.observed:,} configs in {format_duration(step.search.clock)}, {said}"
