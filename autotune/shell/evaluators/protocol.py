"""The contract between the driver and an evaluator, and the two kinds of session that our evaluators build on.

An evaluator opens a session; the session turns trials into outcomes. `QueueSession` measures inside of `poll`, in this
process; `WorkerSession` hands trials to worker processes and collects their answers in `poll`.
"""

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from autotune.core.outcomes import Detail, Outcome, Trial
from autotune.core.search.messages import Compare, Compared, Conclude, Event, Limits, Observed, Task
from autotune.core.space import Space

LONGEST_POLL_S = 0.25
"""Seconds after which a session on a wall clock returns from `poll`, so that the driver sees an interrupt."""


SAMPLING_SHARE = 0.8
"""The share of a run's timeout after which no new sample begins, so that a slow kernel is timed and not killed."""


class Session(Protocol):
    """An evaluation in progress.

    A config that fails is an outcome. A session that cannot go on raises EvaluatorError. A subclass inherits the
    context manager, which abandons the session at its end.
    """

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
        """The trials that have finished, waiting for the first one; empty after `timeout_s` seconds, or if nothing is
        in flight.

        A session on a wall clock returns after LONGEST_POLL_S at the latest. Each trial yields one Observed, in any
        order; each comparison one Compared.
        """

    def abandon(self) -> None:
        """Drop everything that is queued or running; none of it may be reported later."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release every process and device, in any state."""
        self.abandon()


class Evaluator(Protocol):
    """Anything that can measure configs.

    Two attributes are optional: `rebuilds` is False where a config that was built once need not be built again to be
    compared, and `takes_one` is True where the evaluator takes one config at a time.
    """

    @property
    def exact(self) -> bool:
        """Whether the same config always gets the same time, so that measuring it twice tells nothing."""
        return False

    @property
    def recovers(self) -> bool:
        """Whether `open` puts the unfinished trials of `past` back in the queue, as a simulated clock must. Where it
        is False the driver submits them again."""
        return False

    def describe(self) -> dict[str, Detail]:
        """Kind and settings, for the journal's header."""

    def open(self, space: Space, past: Sequence[Event] = ()) -> Session:
        """A session that goes on after `past`, the events of a journal."""


def rebuilds(evaluator: Evaluator) -> bool:
    """Whether configs are built again to be compared; an evaluator that does not say is taken to do so."""
    return bool(getattr(evaluator, "rebuilds", True))  # any class may be an evaluator, and need not define it


def takes_one(evaluator: Evaluator) -> bool:
    """Whether the evaluator takes one config at a time; one that does not say is taken not to."""
    return bool(getattr(evaluator, "takes_one", False))  # as above


def gives_up(task: Task) -> bool:
    """Whether the driver abandons the session before it begins this task: nothing may disturb a verification."""
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


class QueueSession(Session):
    """A session that measures in this process: each `poll` takes the next trials, or the next comparison, and returns
    when they are measured; it ignores its timeout.

    clock: seconds since the search began. batch: how many trials one `poll` takes.
    """

    def __init__(self, clock: Callable[[], float], batch: int = 1) -> None:
        self._clock = clock
        self._batch = batch
        self._queue: deque[tuple[Trial, Limits] | Compare] = deque()

    @property
    def room(self) -> int:
        return max(self._batch - len(self._queue), 0)

    @property
    def idle(self) -> bool:
        return not self._queue

    def now(self) -> float:
        return self._clock()

    def submit(self, trials: Sequence[Trial], limits: Limits) -> None:
        self._queue.extend((trial, limits) for trial in trials)

    def compare(self, task: Compare) -> None:
        self._queue.append(task)

    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        if not self._queue:
            return ()
        if isinstance(task := self._queue[0], Compare):
            self._queue.popleft()
            outcomes = self._compare(task)
            return (Compared(self.now(), outcomes),)
        taken: list[tuple[Trial, Limits]] = []
        while self._queue and len(taken) < self._batch and not isinstance(head := self._queue[0], Compare):
            taken.append(head)
            self._queue.popleft()
        trials = [trial for trial, _ in taken]
        found = self._measure(trials, taken[-1][1])
        at = self.now()
        return tuple(Observed(at, trial.id, outcome) for trial, outcome in zip(trials, found, strict=True))

    def abandon(self) -> None:
        self._queue.clear()

    @abstractmethod
    def _measure(self, trials: Sequence[Trial], limits: Limits) -> Sequence[Outcome]:
        """The outcome of each trial, at most `batch` of them, within the limits of the last one."""

    @abstractmethod
    def _compare(self, task: Compare) -> tuple[tuple[int, Outcome], ...]:
        """The outcome of each trial of a comparison, by the trial's number."""


class WorkerSession(Session):
    """A session whose trials are measured by worker processes.

    clock: seconds since the search began. A subclass appends to `_news` when a trial or a comparison is finished.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._news: list[Observed | Compared] = []

    @property
    def idle(self) -> bool:
        return not (self._busy or self._news)

    def now(self) -> float:
        return self._clock()

    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        """Empty as soon as there is room for more trials, so that no worker waits for the driver."""
        until = self.now() + (LONGEST_POLL_S if timeout_s is None else min(timeout_s, LONGEST_POLL_S))
        room = self.room
        while True:
            self._dispatch()
            left = until - self.now()
            ready = bool(self._news) or self.room > room
            if self._busy and self._receive(0.0 if ready else max(0.0, left)):
                self._dispatch()
            if self._news or not self._busy or left <= 0 or self.room > room:
                found, self._news = self._news, []
                return found

    @property
    @abstractmethod
    def _busy(self) -> bool:
        """Whether anything is queued or running."""

    @abstractmethod
    def _dispatch(self) -> None:
        """Give the workers all orders that can be given now."""

    @abstractmethod
    def _receive(self, seconds: float) -> bool:
        """Wait so long at most for answers of the workers, and take them in; whether there may have been any."""
