"""Requests of the core to the shell, and events that happen to a search. Both are plain data.

A run is `reduce(advance, events, start(plan))`; a journal is its events, one JSON line each. Times called `at` are
seconds since the search began, by the evaluator's clock; downtime between a kill and its resume is not counted.
"""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from autotune.core.outcomes import Outcome, Trial

Reason = Literal[
    "evaluations", "seconds", "generations", "strategy", "exhausted", "interrupted", "effort", "regret", "alike"
]
"""Why the search for better configs ended: a budget, the strategy itself, no unseen point, Ctrl-C, no search wanted,
the belief that nothing much better is left, failures that are all alike."""


Purpose = Literal["confirm", "qualify", "simplify", "verify"]
"""The purpose of a comparison; see `Compare`."""


class Limits(Struct, frozen=True, omit_defaults=True):
    """Limits on the time that trials of a batch take; None: the evaluator's own settings decide.

    compile_timeout_s: kill a compile after this many seconds.
    cutoff_ms: a config whose first runs take longer than this is clearly slower than the best; time it no further.
    near_ms: a config that takes longer than this is not the best; a few runs are enough. Evaluators may take more.
    """

    compile_timeout_s: float | None = None
    cutoff_ms: float | None = None
    near_ms: float | None = None

    def compile_seconds(self, timeout_s: float) -> float:
        """The seconds that a compile may take where the evaluator allows `timeout_s` by its own settings."""
        return timeout_s if self.compile_timeout_s is None else min(self.compile_timeout_s, timeout_s)


class Measure(Struct, frozen=True, tag="measure", omit_defaults=True):
    """Build and time these new trials, in any order, as many at a time as there is room for.

    rejected: proposals left out of this batch because they were outside the space or not new.
    why: the strategy's words on this batch, or "".
    restart: n > 0 in the first batch after the strategy's n-th restart.
    """

    trials: tuple[Trial, ...]
    limits: Limits = Limits()
    rejected: int = 0
    why: str = ""
    restart: int = 0


class Compare(Struct, frozen=True, tag="compare", omit_defaults=True):
    """Time these already measured trials again, interleaved: `rounds` rounds of one sample each.

    The sample at index i of every trial is from round i, so that drift of the machine falls on all alike.
    purpose: "confirm" settles the ranking during the search; "qualify" selects the finalists; "simplify" shows which
    parameters matter; "verify" is the last comparison, its trials ordered by what was known before it, the likeliest
    pick first.
    until: start no round that would end later, and report the rounds done; None: do all rounds.
    order: the key from which `order_of_round` derives the order within each round; None: the order of the trials.
    fixed: take no more rounds than these, even if they leave open which config is the fastest.
    """

    trials: tuple[Trial, ...]
    rounds: int
    purpose: Purpose
    until: float | None = None
    order: int | None = None
    fixed: bool = False


class Conclude(Struct, frozen=True, tag="conclude", omit_defaults=True):
    """The strategy's part is over, for this reason; simplification and verification follow."""

    reason: Reason
    detail: str = ""


class Wait(Struct, frozen=True, tag="wait", omit_defaults=True):
    """Nothing to do until an outcome arrives or the clock reaches `until` (then send Ticked)."""

    until: float | None = None


class Finished(Struct, frozen=True, tag="finished", omit_defaults=True):
    """Nothing is left to do; `result` gives the pick."""

    reason: Reason
    complete: bool


Task = Measure | Compare | Conclude
"""The requests that are recorded with an `Asked` event."""

Request = Measure | Compare | Conclude | Wait | Finished


class Asked(Struct, frozen=True, tag="asked", omit_defaults=True):
    """The core asked for `task` when the shell had room for `room` more trials.

    at: of every event, the seconds since the search began, by the evaluator's clock.
    """

    at: float
    room: int
    task: Task


class TrialWork(Struct, frozen=True, array_like=True):
    """The time that one process spent on a trial; in a journal an array of its fields.

    lane: the process, such as "gpu 0". what: "compile" or "run". start_s, end_s: on the search's clock, like `at`.
    """

    lane: str
    what: str
    start_s: float
    end_s: float


class Observed(Struct, frozen=True, tag="observed", omit_defaults=True):
    """A trial is done. trial: its number, from 0. at: as in `Asked`.

    work: when which processes worked on it, where the evaluator tells; it decides nothing.
    """

    at: float
    trial: int
    outcome: Outcome
    work: tuple[TrialWork, ...] = ()


class Compared(Struct, frozen=True, tag="compared", omit_defaults=True):
    """A comparison is done. outcomes: the number and the outcome of each of its trials. at: as in `Asked`."""

    at: float
    outcomes: tuple[tuple[int, Outcome], ...]


class Ticked(Struct, frozen=True, tag="ticked", omit_defaults=True):
    """Time has passed and nothing else happened."""

    at: float


class Interrupted(Struct, frozen=True, tag="interrupted", omit_defaults=True):
    """The user wants the best so far: no more trials, a short verification. A resume takes back this event and
    all later ones."""

    at: float


class Resumed(Struct, frozen=True, tag="resumed", omit_defaults=True):
    """Another process continues this search from the events recorded so far."""

    at: float


class Reported(Struct, frozen=True, tag="reported", omit_defaults=True):
    """The result at this moment was reported; `digest` is from `result_digest`. The search itself does not change; a
    replay checks that its events lead to the same result."""

    at: float
    digest: str


class Dispatched(Struct, frozen=True, tag="dispatched", omit_defaults=True):
    """A loop outside was given this trial to measure, or to sample once for the comparison under way. The search itself
    does not change."""

    at: float
    trial: int


class Sampled(Struct, frozen=True, tag="sampled", omit_defaults=True):
    """A loop outside took one sample of a trial for the comparison under way. The search changes with `Compared`, which
    holds the samples of all its rounds."""

    at: float
    trial: int
    outcome: Outcome


class Told(Struct, frozen=True, tag="told", omit_defaults=True):
    """The outcome of a config that the search had not asked for; the trial gets the next number. It counts as no
    evaluation of the budget."""

    at: float
    trial: Trial
    outcome: Outcome


Event = Asked | Observed | Compared | Ticked | Interrupted | Resumed | Reported | Dispatched | Sampled | Told


def without_interrupted_tail(events: Iterable[Event]) -> list[Event]:
    """The events that count for a process that resumes: all but each interrupt and the events that followed it.

    Folding them gives the same search as folding all events and a `Resumed`: `advance` takes back the same tail.
    """
    kept: list[Event] = []
    interrupted: int | None = None
    for event in events:
        if isinstance(event, Resumed):
            kept, interrupted = kept[:interrupted], None
            continue
        if isinstance(event, Interrupted) and interrupted is None:
            interrupted = len(kept)
        kept.append(event)
    return kept[:interrupted]
