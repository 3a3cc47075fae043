"""What the core asks of the shell (requests), and all that can happen to a search (events). Both are plain data.

A run is `reduce(advance, events, start(plan))`; a journal is its events, one JSON line each. Times called `at` are
seconds since the search began, by the evaluator's clock, downtime between a kill and its resume left out.

What a resume takes back: the hurried end that an interrupt put into a journal.
"""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from autotune.core.outcomes import Outcome, Trial

Reason = Literal["evaluations", "seconds", "generations", "strategy", "exhausted", "interrupted", "effort"]
"""Why the search for better configs ended: a budget, the strategy itself, no unseen point, Ctrl-C, no search wanted."""


Purpose = Literal["confirm", "qualify", "simplify", "verify"]
"""What a comparison is for."""


class Limits(Struct, frozen=True, omit_defaults=True):
    """How long the trials of a batch may take; None: as long as the evaluator's own settings allow.

    compile_timeout_s: kill a compile after this many seconds.
    cutoff_ms: a config whose first runs take longer than this is clearly slower than the best; time it no further.
    near_ms: one that takes longer than this is not the best; a few runs say enough of it. Evaluators may take more.
    """

    compile_timeout_s: float | None = None
    cutoff_ms: float | None = None
    near_ms: float | None = None


class Measure(Struct, frozen=True, tag="measure", omit_defaults=True):
    """Build and time these new trials, in any order and as many at a time as there is room for.

    rejected: proposals left out of this batch because they were outside the space or not new.
    why: the strategy's own words on this batch, if it has any.
    restart: above 0 where the strategy had ended by itself, and this is the first batch of its n-th new beginning.
    """

    trials: tuple[Trial, ...]
    limits: Limits = Limits()
    rejected: int = 0
    why: str = ""
    restart: int = 0


class Compare(Struct, frozen=True, tag="compare", omit_defaults=True):
    """Time these already measured trials again, interleaved: `rounds` rounds of one sample each.

    The sample at index i of every trial is from round i, so that drift of the machine falls on all alike.
    purpose: "confirm", during the search; "qualify", whose outcomes only say which configs get into the last one;
    "simplify", whose outcomes only say which parameters matter; "verify", the last one, its trials by what was known
    before it, the likeliest pick first.
    until: begin no round that would not be over by then, and report those that are; None: do them all.
    order: a key, from which `order_of_round` gives the order within each round; None: that of the trials.
    """

    trials: tuple[Trial, ...]
    rounds: int
    purpose: Purpose
    until: float | None = None
    order: int | None = None


class Conclude(Struct, frozen=True, tag="conclude", omit_defaults=True):
    """The strategy's part is over, for this reason; what follows is simplification and verification."""

    reason: Reason
    detail: str = ""


class Wait(Struct, frozen=True, tag="wait", omit_defaults=True):
    """Nothing new before an outcome arrives, or the clock reaches `until` (then send Ticked)."""

    until: float | None = None


class Finished(Struct, frozen=True, tag="finished", omit_defaults=True):
    """There is nothing left to do; `result` tells what was found."""

    reason: Reason
    complete: bool


Task = Measure | Compare | Conclude
"""What is recorded when asked."""

Request = Measure | Compare | Conclude | Wait | Finished


class Asked(Struct, frozen=True, tag="asked", omit_defaults=True):
    """The core asked for `task` when the shell had room for `room` more trials."""

    at: float
    room: int
    task: Task


class Observed(Struct, frozen=True, tag="observed", omit_defaults=True):
    """A trial is done."""

    at: float
    trial: int
    outcome: Outcome


class Compared(Struct, frozen=True, tag="compared", omit_defaults=True):
    """A comparison is done: one (trial id, outcome) for each of its trials."""

    at: float
    outcomes: tuple[tuple[int, Outcome], ...]


class Ticked(Struct, frozen=True, tag="ticked", omit_defaults=True):
    """Time has passed and nothing else happened."""

    at: float


class Interrupted(Struct, frozen=True, tag="interrupted", omit_defaults=True):
    """The user wants the best so far: no more trials, a short verification. A resume takes back all from here on."""

    at: float


class Resumed(Struct, frozen=True, tag="resumed", omit_defaults=True):
    """Another process goes on with this search from what was recorded so far."""

    at: float


class Reported(Struct, frozen=True, tag="reported", omit_defaults=True):
    """The result at this moment was given out; `digest` is that of `result_digest`. It changes nothing in the search:
    whoever replays the events checks that they lead to this result."""

    at: float
    digest: str


Event = Asked | Observed | Compared | Ticked | Interrupted | Resumed | Reported


def without_interrupted_tail(events: Iterable[Event]) -> list[Event]:
    """What counts for a process that resumes from these events: all but each interrupt and what followed it.

    Folding these gives the same search as folding them all and a `Resumed`: `advance` takes back in the same way.
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
