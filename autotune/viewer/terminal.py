"""The state of a search that runs, for a terminal: progress, the course of the best time, failures, last configs."""

from collections import Counter
from collections.abc import Sequence
from math import log
from typing import TYPE_CHECKING

from autotune.core.formatting import escape_controls, format_count, format_duration, format_milliseconds
from autotune.core.outcomes import Timed
from autotune.core.search.messages import Asked, Measure
from autotune.shell.progress_state import progress_state
from autotune.viewer.follow import FollowedSearch

if TYPE_CHECKING:
    from rich.console import Group

LAST = 8
"""Configs that are listed, the latest first."""

_BARS = "▁▂▃▄▅▆▇█"


def screen(step: FollowedSearch, width: int, silent_s: float = 0.0) -> "Group":
    """Everything about the search on one screen. width: of the terminal. silent_s: seconds since the last event."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    search = step.search
    state = progress_state(search)
    head = Text.assemble(
        (escape_controls(step.journal.path.name), "bold"), f"  {'over' if step.over else state.phase}", no_wrap=True
    )
    lines = [head, Text(state.counts(), no_wrap=True), Text(state.best(), no_wrap=True, style="green")]
    why = next(
        (e.task.why for e in reversed(step.journal.events) if isinstance(e, Asked) and isinstance(e.task, Measure)), ""
    )
    if why:
        lines.append(Text(f"last batch: {escape_controls(why)}", no_wrap=True, overflow="ellipsis", style="dim"))
    course = best_course([o.time_ms if isinstance(o, Timed) else None for _, o in search.outcomes], max(width - 2, 10))
    lines.append(Text(course, style="cyan", no_wrap=True))
    kinds = Counter(outcome.kind for outcome in dict(search.outcomes).values() if not isinstance(outcome, Timed))
    if kinds:
        counted = ", ".join(f"{n:,} {kind.replace('_', ' ')}" for kind, n in kinds.most_common())
        lines.append(Text(f"failed: {counted}", style="red", no_wrap=True, overflow="ellipsis"))
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for name, share in (("config", None), ("time", None), ("values", 1)):
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=share)
    for trial, outcome in search.outcomes[max(len(search.outcomes) - LAST, 0) :][::-1]:
        config = ", ".join(f"{n}={v}" for n, v in search.trials[trial].config.items())
        if isinstance(outcome, Timed):
            said = Text(format_milliseconds(outcome.time_ms))
        else:
            said = Text(outcome.kind.replace("_", " "), style="red")
        table.add_row(str(trial), said, escape_controls(config))
    tail = f"no event for {format_duration(silent_s)}; is it still running?" if silent_s > 60 else ""
    return Group(
        *lines, table, Text(tail or f"{format_count(len(step.journal.events), 'event')}; Ctrl-C leaves", style="dim")
    )


def best_course(times_ms: Sequence[float | None], width: int) -> str:
    """The best time after each of `width` equal parts of the outcomes as bars, on a logarithmic scale; low is fast.

    >>> best_course([8.0, 4.0, None, 2.0, 1.0], 5)
    '█▆▆▃▁'
    """
    course: list[float] = []
    best: float | None = None
    for time_ms in times_ms:
        best = time_ms if best is None or (time_ms is not None and time_ms < best) else best
        if best is not None:
            course.append(log(best))
    if not course:
        return ""
    width = min(width, len(course))
    ends = [course[(i + 1) * len(course) // width - 1] for i in range(width)]
    low, high = min(ends), max(ends)
    top = len(_BARS) - 1
    return "".join(_BARS[round(top * (value - low) / (high - low)) if high > low else 0] for value in ends)
