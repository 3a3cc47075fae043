"""The loop between a search and an evaluator: carry out requests, record events, stop when told to."""

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import Any, assert_never

import numpy.ma  # noqa: F401  # np.unique imports it at its first call, when there may be no descriptor left for it

from autotune.core.cancellation import Cancelled, cancellable
from autotune.core.errors import EvaluatorError
from autotune.core.search.limits import limits_for, search_deadline
from autotune.core.search.messages import (
    Asked,
    Compare,
    Conclude,
    Event,
    Finished,
    Interrupted,
    Measure,
    Request,
    Task,
    Ticked,
    Wait,
)
from autotune.core.search.plan import Plan
from autotune.core.search.request import request
from autotune.core.search.state import SIMPLIFY, Search, advance, start, start_without_strategy
from autotune.shell.evaluators.protocol import Session, gives_up
from autotune.shell.processes.os_process import NoProcess
from autotune.shell.warn import warn_user

SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
"""Errors of a system that has no descriptors, memory or processes left."""

Record = Callable[[Event], None]
"""Writes an event to the journal, before it is folded."""

Meter = Callable[[], float]
"""A clock in seconds."""

Watch = Callable[[Search, Event], None]
"""Called with the search after each event, and the event: to show progress, or to keep the search."""


class Interruption:
    """Whether the user has pressed Ctrl-C: once to finish with the best so far, twice to stop at once."""

    def __init__(self) -> None:
        self.requested = False
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}

    def signal(self, number: int, *_: object) -> None:
        """Handle one Ctrl-C; the second raises KeyboardInterrupt. A fork of the program has no search, and handles the
        signal as the program did before."""
        if os.getpid() != self._owner:
            signal.signal(number, self._before.get(number, signal.SIG_DFL))
            signal.raise_signal(number)
            return
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    @contextmanager
    def listen(self) -> Iterator["Interruption"]:
        """Handles SIGINT (and SIGTERM, which asks for the same) inside of the context, in the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for number in self._before:
                signal.signal(number, self.signal)
            yield self
        finally:
            for number, handler in self._before.items():
                # None: a handler that is not Python's and cannot be restored
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def ignore_event(event: Event) -> None:
    """A record without a journal."""


def ignore_search(search: Search, event: Event) -> None:
    """A watch that does nothing."""


def stand_still() -> float:
    """A meter that does not measure."""
    return 0.0


def begin_search(plan: Plan, session: Session, interruption: Interruption) -> Search:
    """The search of a plan; it ends at once if it is interrupted or out of time at the strategy's first draws."""

    def refuse_delay() -> None:
        if interruption.requested or (plan.budget.seconds is not None and session.now() >= plan.budget.seconds):
            raise Cancelled

    try:
        with cancellable(refuse_delay):
            return start(plan)
    except Cancelled:
        return start_without_strategy(plan)


class Driver:
    """A search under way. `search` is always the fold of all that was recorded.

    own_s: seconds that the core has taken by `meter`, without evaluation and journal. meter: such as
    `time.process_time`, which costs as much as a small step itself; by default nothing is measured.
    """

    def __init__(
        self,
        search: Search,
        session: Session,
        record: Record = ignore_event,
        watch: Watch = ignore_search,
        meter: Meter = stand_still,
    ) -> None:
        self.search = search
        self.own_s = 0.0
        self._meter = meter
        self._session = session
        self._record = record
        self._watch = watch

    def step(self, *events: Event) -> None:
        for event in events:
            self._record(event)
        began = self._meter()
        before, *stages = accumulate(events, advance, initial=self.search)
        self.own_s += self._meter() - began
        self.search = stages[-1] if stages else before
        for event, stage in zip(events, stages, strict=True):
            self._watch(stage, event)

    def next_request(self) -> Request:
        began = self._meter()
        todo = request(self.search, self._session.room)
        self.own_s += self._meter() - began
        return todo

    def resubmit(self) -> None:
        """Submit again the trials, or the comparison, that a killed process had asked for and not received."""
        search = self.search
        pending = search.pending
        if search.concluded is not None:  # the strategy's outstanding trials were abandoned then
            pending = tuple(trial for trial in pending if trial.origin == SIMPLIFY)
        if search.comparing is not None:  # a verification has abandoned all pending trials
            self._session.compare(search.comparing)
        elif pending:
            self._session.submit(pending, limits_for(search, search.generation))

    def run(self, interruption: Interruption) -> Search:
        """Run until the search is finished, or the system gives no more processes: then it ends with the best so far.

        Raises the session's error where nothing has worked yet.
        """
        try:
            return self._run(interruption)
        except (NoProcess, OSError) as error:
            short = isinstance(error, NoProcess) or error.errno in SHORTAGES
            if not short or not len(self.search.archive.ranking()):
                raise
            warn_user(f"the search ends early, with the best config so far: {error}")
            self._session.abandon()
            if not self.search.interrupted:
                self.step(Interrupted(self._session.now()))
            return self.search

    def _run(self, interruption: Interruption) -> Search:
        session = self._session
        while True:
            if interruption.requested and not self.search.interrupted:
                session.abandon()
                self.step(Interrupted(session.now()))
            ends = search_deadline(self.search)
            if ends is not None and self.search.clock < ends <= session.now():
                self.step(Ticked(session.now()))
            try:
                with cancellable(partial(self._refuse_delay, interruption, ends)):
                    todo = self.next_request()
            except Cancelled:
                continue
            match todo:
                case Finished():
                    return self.search
                case Wait(until=until):
                    self._wait(until)
                case Measure() | Compare() | Conclude():
                    self._begin(todo)
                case _:
                    assert_never(todo)

    def _refuse_delay(self, interruption: Interruption, ends: float | None) -> None:
        """Raise Cancelled in the middle of a computation of the strategy if an interrupt or the deadline has come."""
        if self.search.interrupted or self.search.concluded is not None:
            return
        if interruption.requested or (ends is not None and self.search.clock < ends <= self._session.now()):
            raise Cancelled

    def _begin(self, task: Task) -> None:
        session = self._session
        if gives_up(task):
            session.abandon()
        self.step(Asked(session.now(), session.room, task))
        if isinstance(task, Measure):
            session.submit(task.trials, task.limits)
        elif isinstance(task, Compare):
            session.compare(task)

    def _wait(self, until: float | None) -> None:
        session = self._session
        timeout = None if until is None else max(until - session.now(), 0.0)
        found = session.poll(timeout)
        self.step(*found)
        if not found and until is not None and session.now() >= until:
            self.step(Ticked(session.now()))
        elif not found and not session.idle:
            # Shows that time goes by; not recorded, as nothing happened.
            self._watch(self.search, Ticked(session.now()))
        elif not found:
            raise EvaluatorError(
                f"the evaluator lost {self.search.outstanding} trials without an outcome; report this as its defect"
            )
