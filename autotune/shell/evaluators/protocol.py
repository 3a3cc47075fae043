"""What an evaluator is to the driver: something that opens a session, and a session that turns trials into outcomes.

The rounds of a comparison under way: in which order it runs, and when it is over.

It is over after all its rounds, or when the next one would not be done in time.
"""

import time
from collections.abc import Sequence
from functools import cache
from types import TracebackType
from typing import Protocol, Self

from autotune.core.outcomes import Detail, Trial
from autotune.core.search.messages import Compare, Compared, Conclude, Event, Limits, Observed, Task
from autotune.core.search.rounds import order_of_round
from autotune.core.space import Space


class Session(Protocol):
    """Evaluation under way. A config's failure is an outcome; a session that cannot go on raises EvaluatorError."""

    @property
    def room(self) -> int:
        """How many more trials the session would take now to keep all its workers busy (0: enough are queued)."""

    @property
    def idle(self) -> bool:
        """Whether nothing is queued, running or waiting to be reported."""

    def now(self) -> float:
        """Seconds since the search began, on the clock that the events carry; never goes back."""

    def submit(self, trials: Sequence[Trial], limits: Limits) -> None:
        """Queue new trials. Any number is accepted; those past the room wait inside."""

    def compare(self, task: Compare) -> None:
        """Queue one interleaved comparison, each round in the order that `order_of_round` gives. The driver sends it
        only when nothing else is in flight."""

    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        """What has finished, waiting for the first of it; empty after `timeout_s` seconds, or if nothing is in flight.

        A session on a wall clock returns after a quarter of a second at the latest, so that an interrupt is seen.
        Each trial yields one Observed, in any order; each comparison one Compared.
        """

    def abandon(self) -> None:
        """Drop all that is queued or running; nothing of it may be reported later."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release every process and device, whatever state they are in."""


class Evaluator(Protocol):
    """Anything that can measure configs.

    exact: the same config always gets the same time, so nothing is gained by measuring it twice.
    It may also have `rebuilds`: False where what it has built once is there when configs are compared; and `takes_one`:
    True where it takes one config at a time.
    """

    @property
    def exact(self) -> bool: ...

    def describe(self) -> dict[str, Detail]:
        """Kind and settings, for the journal's header."""

    def open(self, space: Space, past: Sequence[Event] = ()) -> Session:
        """A session that goes on where `past`, the events of a journal, left off.

        Trials that `past` asked for without an outcome are submitted again by the driver, unless the session is
        one that recovers its queue from `past` by itself (`recovers`).
        """

    @property
    def recovers(self) -> bool:
        """Whether `open` puts the unfinished trials of `past` back in the queue, as a simulated clock must."""


def rebuilds(evaluator: Evaluator) -> bool:
    """Whether configs are built again to be compared, as far as the evaluator says."""
    return bool(getattr(evaluator, "rebuilds", True))


def takes_one(evaluator: Evaluator) -> bool:
    """Whether it takes one config at a time; what an evaluator does not say is taken to be False."""
    return bool(getattr(evaluator, "takes_one", False))


def gives_up(task: Task) -> bool:
    """Whether all that is queued or running is dropped before this is done: nothing may disturb a verification."""
    return isinstance(task, Conclude) or (isinstance(task, Compare) and task.purpose == "verify")


class WallClock:
    """Seconds since the search began, by the monotonic clock, going on from `start_at`."""

    def __init__(self, start_at: float = 0.0) -> None:
        self._zero = time.monotonic() - start_at

    def __call__(self) -> float:
        return time.monotonic() - self._zero


def clock_after(past: Sequence[Event]) -> WallClock:
    """A wall clock that goes on from the last event of `past`."""
    return WallClock(max((event.at for event in past), default=0.0))


class Rounds:
    """The rounds of one comparison, timed as they go by. Every evaluator that compares in turns keeps to them."""

    def __init__(self, task: Compare, clock: WallClock) -> None:
        self._rounds, self._until = task.rounds, task.until
        self._clock = clock
        self._began: float | None = None
        self._longest = 0.0
        self.order = cache(lambda number: order_of_round(task, number))
        """The order of round `number`, as positions in the task's trials."""

    def over(self, done: int) -> bool:
        """To be asked before each round: whether it is not to be begun, `done` of them being whole."""
        now = self._clock()
        if self._began is not None:
            self._longest = max(self._longest, now - self._began)
        self._began = now
        late = self._until is not None and now + self._longest > self._until
        return done >= self._rounds or (late and done > 0)
