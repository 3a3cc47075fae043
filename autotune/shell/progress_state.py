"""How far a search is, as plain data and in words: phase, counts, best so far, time left. Nothing here has an effect.

The texts are functions of the state alone. A line has at most WIDTH columns: the label is cut, and the words that
matter least are left out, but no number is ever cut.
"""

import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from autotune.core.errors import StrategyError
from autotune.core.formatting import escape_controls, format_count, format_duration, format_milliseconds
from autotune.core.outcomes import Failed
from autotune.core.search.forecast import evaluation_limit, finish_seconds
from autotune.core.search.messages import Event, Observed
from autotune.core.search.plan import Budget, Plan
from autotune.core.search.result import BestSoFar, best_so_far
from autotune.core.search.state import SIMPLIFY, Search
from autotune.core.strategies.registry import name_of

WIDTH = 80
"""Columns of a line in a log."""

DOZEN = 12
"""After so many failures and no success of the strategy, something is wrong with more than single configs."""

_PREFIX, _LEAST_LABEL = "autotune: ", 4


@dataclass(frozen=True)
class Pace:
    """The evaluations, the generation and the clock of a search when a watcher began; its speed is measured from
    there."""

    observed: int
    generation: int
    clock: float

    @classmethod
    def of(cls, search: Search) -> Self:
        return cls(search.observed, search.generation, search.clock)

    def seconds_left(self, search: Search, watched_s: float, silent_s: float = 0.0) -> float | None:
        """Seconds of the watcher's clock until the end of the search, verification included; None where no limit tells.

        The estimate is of the first limit that will be reached, by the pace so far, and of the steps that follow it.
        watched_s: seconds since the watcher began. silent_s: seconds since the last event; the search's clock stands
        still between events.
        """
        plan, heard_s, passed_s = search.plan, watched_s - silent_s, search.clock - self.clock
        # The evaluator's clock runs ahead of ours in a simulation.
        rate = min(heard_s / passed_s, 1.0) if passed_s > 0 and heard_s > 0 else 1.0
        after = finish_seconds(search) * rate
        estimates: list[float] = []
        if search.concluded is not None or search.interrupted:
            estimates.append(after)
        else:
            limit, generations = evaluation_limit(plan), plan.budget.generations
            spans = [] if limit is None else [(search.observed - self.observed, limit - search.observed)]
            if generations is not None:
                spans.append((search.generation - self.generation, generations - search.generation - 1))
            estimates += [heard_s * max(left, 0) / done + after for done, left in spans if done > 0]
        if plan.budget.seconds is not None:  # the steps at the end included, however slow the search is
            estimates.append((plan.budget.seconds - search.clock) * rate)
        return max(min(estimates) - silent_s, 0.0) if estimates else None


@dataclass(frozen=True, kw_only=True)
class ProgressState:
    """How far a search is.

    evaluated, of: trials with an outcome, and the most that there will be; `of` is None without such a limit. limited:
    whether anything bounds the search. best_ms: the best time so far; speedup: over the default; None without one.
    default_failed: whether the default config gave no time. timing: the kind of these times: "first timing": each
    taken alone; "verified": of the verification; "best": exact. share: the part of the budget that is spent, of the
    limit that will be reached first; None without a budget. left_s: seconds that are left until the end; None if
    unknown.
    """

    phase: str
    generation: int | None
    evaluated: int
    of: int | None
    limited: bool
    failed: int
    best_ms: float | None
    speedup: float | None
    default_failed: bool
    timing: str
    share: float | None
    left_s: float | None

    def counts(self) -> str:
        """Evaluations, failures, generation and time left, on one line."""
        parts = [
            f"evaluated {self._total()}",
            f"failed {self.failed:,}",
            "" if self.generation is None else f"generation {self.generation}",
            "" if self.left_s is None else f"eta {format_duration(self.left_s)}",
        ]
        return "  ".join(part for part in parts if part)

    def best(self) -> str:
        """The best time so far, and how it compares."""
        if self.best_ms is None:
            return "no time yet, the default failed" if self.default_failed else "no time yet"
        against = "" if self.speedup is None else f"{_times(self.speedup)} over the default"
        kind = {"first timing": "by first timings", "verified": "verified"}.get(self.timing, "")
        compared = "the default failed" if self.default_failed else against
        return ", ".join(part for part in (f"best {format_milliseconds(self.best_ms)}", compared, kind) if part)

    def line(self, width: int = WIDTH) -> str:
        """Phase, counts and best time on one line of at most `width` columns."""
        numbers, least = "", len(self.phase)
        for numbers in self._numbers():
            room = width - len(_PREFIX) - len(numbers) - 1
            if room >= min(len(self.phase), least):
                label = self.phase if len(self.phase) <= room else self.phase[: room - 1] + "…"
                return f"{_PREFIX}{label} {numbers}"
            least = _LEAST_LABEL  # rather a cut label than fewer numbers
        return numbers if len(numbers) <= width else ""

    def _total(self) -> str:
        if self.of is not None:
            return f"{self.evaluated:,}/{self.of:,}"
        return f"{self.evaluated:,}" if self.limited else f"{self.evaluated:,}, no limit"

    def _numbers(self) -> Iterator[str]:
        """The numbers of a line, each time with fewer words."""
        failed = f"{self.failed:,} failed" if self.failed else ""
        left = "" if self.left_s is None else f"eta {format_duration(self.left_s)}"
        best = "no time yet" if self.best_ms is None else f"{self.timing} {format_milliseconds(self.best_ms)}"
        ratio = "" if self.speedup is None else _times(self.speedup)
        against = "the default failed" if self.default_failed else ratio and f"{ratio} over the default"
        for parts in (
            (self._total(), failed, left, best, against),
            (self._total(), failed, left, best, ratio),
            (self._total(), left, best, ratio),
            (self._total(), best),
            (self._total(),),
        ):
            yield ", ".join(part for part in parts if part)


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x" if ratio < 100 else f"{ratio:.3g}x"


def progress_state(search: Search, left_s: float | None = None, silent_s: float = 0.0) -> ProgressState:
    """How far a search is. Its trials count by their latest outcome. silent_s: see `Pace.seconds_left`."""
    ok, best, budget = search.archive.ok, best_so_far(search), search.plan.budget
    limit = evaluation_limit(search.plan)
    of = None if limit is None else max(limit, search.observed)  # simplification may come on top
    return ProgressState(
        phase=phase(search),
        generation=search.generation if search.generation >= 0 else None,
        evaluated=search.observed,
        of=of,
        limited=of is not None or budget != Budget(),
        failed=len(ok) - int(np.count_nonzero(ok)),
        best_ms=None if best is None else best.time_ms,
        speedup=None if best is None else best.speedup,
        default_failed=_default_failed(search),
        timing=_timing(search, best),
        share=_share(search, of, silent_s),
        left_s=left_s,
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


def _timing(search: Search, best: BestSoFar | None) -> str:
    if search.plan.settings.exact:
        return "best"
    return "verified" if best is not None and best.verified else "first timing"


def _default_failed(search: Search) -> bool:
    latest = search.archive.latest
    measured = search.default_trial is not None and len(latest) and latest[0]["trial"] == search.default_trial
    return bool(measured and not latest[0]["ok"])


def _share(search: Search, of: int | None, silent_s: float) -> float | None:
    budget = search.plan.budget
    shares = [search.observed / of] if of is not None else []
    shares += [(search.clock + silent_s) / budget.seconds] if budget.seconds is not None else []
    shares += [(search.generation + 1) / budget.generations] if budget.generations is not None else []
    return min(max(shares), 1.0) if shares else None


# Sentences


def opening(plan: Plan, what: str, journal: Path | None) -> str:
    """What is tuned, among how many configs, within which budget, and the journal.

    what: the thing that is tuned, such as the name of the function.
    """
    among = format_count(plan.space.size, "config")
    budget = plan.budget
    limits = [
        "" if (most := evaluation_limit(plan)) is None else f"at most {format_count(most, 'evaluation')}",
        "" if budget.seconds is None else f"at most {format_duration(budget.seconds)}",
        "" if budget.generations is None else f"at most {format_count(budget.generations, 'generation')}",
    ]
    limit = ", ".join(text for text in limits if text) or "until the strategy ends"
    kept = "no journal" if journal is None else f"journal {journal}"
    return wrap(
        f"tuning {what} by {_strategy_name(plan)} among {'at most ' if plan.space.constraints else ''}{among}; "
        f"{limit}; {kept}"
    )


def _strategy_name(plan: Plan) -> str:
    try:
        return name_of(plan.strategy)
    except StrategyError:  # a strategy needs a name only where there is a journal or a cache
        return type(plan.strategy).__name__


def failure_notice(search: Search, event: Event) -> str | None:
    """What is to be said at once about failures, at the event that shows it: the default failed, or the first dozen of
    the strategy's configs did."""
    if not isinstance(event, Observed) or not isinstance(event.outcome, Failed):
        return None
    default = search.default_trial
    if event.trial == default:
        return wrap(f"the default config failed: {_kind(event.outcome)}: {event.outcome.message}".rstrip(": "))
    if not DOZEN <= search.observed <= DOZEN + 1:
        return None
    failed = [outcome for _, outcome in search.outcomes if isinstance(outcome, Failed)]
    timed = [i for i, outcome in search.outcomes if not isinstance(outcome, Failed)]
    if len(failed) != DOZEN or timed not in ([], [default]):
        return None
    kinds = Counter(outcome.kind for outcome in failed)
    lines = [f"{len(failed)} of {search.observed} failed:"]
    for kind, count in kinds.most_common():
        first = next(outcome for outcome in failed if outcome.kind == kind)
        lines.append(wrap(f"{count} {_kind(first)}: {first.message}".rstrip(": "), "  "))
    return "\n".join(lines)


def _kind(failed: Failed) -> str:
    return failed.kind.replace("_", " ")


def wrap(text: str, indent: str = "") -> str:
    """A text on lines that have at most WIDTH columns behind the prefix of the first."""
    text = escape_controls(" ".join(text.split()))
    room = WIDTH - len(_PREFIX)
    return "\n".join(textwrap.wrap(text, room, initial_indent=indent, subsequent_indent="  ", break_on_hyphens=False))
