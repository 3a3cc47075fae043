"""A shell without clock or evaluator: it steps a search through any sequence of events and checks each step."""

from collections.abc import Callable
from typing import Any, get_args

from autotune.core.outcomes import Failed, Outcome, Timed, Trial
from autotune.core.search.limits import deadline, search_deadline
from autotune.core.search.messages import (
    Asked,
    Compare,
    Compared,
    Conclude,
    Event,
    Finished,
    Interrupted,
    Measure,
    Observed,
    Reason,
    Request,
    Resumed,
    Ticked,
    Wait,
)
from autotune.core.search.plan import Plan
from autotune.core.search.request import request
from autotune.core.search.result import Result, TuningFailed, result
from autotune.core.search.state import Search, advance, start
from autotune.shell.codec import decode_event, encode

Oracle = Callable[[Trial, int], Outcome]
"""The outcome of a trial that is measured for the n-th time (0: the first)."""


def snapshot(search: Search) -> tuple[Any, ...]:
    """The whole state of a search by value: equal exactly for searches that behave the same."""
    fields = {name: getattr(search, name) for name in search.__struct_fields__}
    for name in ("plan", "before", "state", "points", "records", "trials", "outcomes"):
        fields.pop(name)
    return (
        encode([list(search.trials), [(i, o) for i, o in search.outcomes]]),
        search.points.rows.tobytes(),
        search.records.array.tobytes(),
        repr(search.state),
        repr(sorted(fields.items())),
        None if search.before is None else snapshot(search.before),
    )


class HandShell:
    """A search whose requests are answered when the test says so, by `oracle`, with `room` trials in flight at most.

    search: the search so far. events: all events in order; folding them gives `search`. flying: the trials without an
    outcome. lost: the trials that were given up. Every step checks laws 1, 2, 4 and 5.
    """

    def __init__(self, plan: Plan, oracle: Oracle, room: int = 4) -> None:
        self.plan = plan
        self.search = start(plan)
        self.oracle = oracle
        self.room = room
        self.events: list[Event] = []
        self.flying: list[Trial] = []
        self.lost: list[Trial] = []
        self.clock = 0.0
        self.times_measured: dict[int, int] = {}
        self.tasks = 0
        self.past: list[tuple[Search, tuple[Any, ...]]] = []
        self.interrupts = 0

    def record(self, event: Event) -> None:
        assert decode_event(encode(event)) == event, "an event does not survive being written down"
        before = self.search
        if len(self.events) % 7 == 0:
            self.past.append((before, snapshot(before)))
        self.search = advance(before, event)
        self.events.append(event)
        assert self.search.clock >= before.clock or isinstance(event, Resumed)

    def ask(self) -> Request:
        """The request of the search, checked; a task becomes an event."""
        search, was = self.search, snapshot(self.search)
        todo = request(search, self.room)
        assert request(search, self.room) == todo, "asked twice, another answer"
        assert snapshot(search) == was, "asking changed the search"
        check_request(search, todo, self.room)
        match todo:
            case Measure(trials=trials):
                self._task(todo)
                self.flying.extend(trials)
            case Compare():
                self._task(todo)
            case Conclude():
                self._task(todo)
                self.lost.extend(self.flying)
                self.flying.clear()
            case Wait():
                assert self.flying or self.lost or search.comparing or todo.until is not None or self.room <= 0
            case Finished():
                check_finished(search, todo)
        return todo

    def _task(self, task: Measure | Compare | Conclude) -> None:
        self.tasks += 1
        points = self.plan.space.count()
        assert points is not None
        most = points * (2 + self.plan.settings.confirm_times) + 3 * self.interrupts + 10
        most += self.plan.settings.simplify_rounds
        assert self.tasks <= most, "it asks for more tasks than its points allow"
        self.record(Asked(self.clock, self.room, task))

    def outcome(self, trial: Trial) -> Outcome:
        n = self.times_measured.get(trial.id, 0)
        self.times_measured[trial.id] = n + 1
        return self.oracle(trial, n)

    def finish(self, i: int) -> bool:
        """Report the outcome of the i-th trial in flight, or of the comparison; False if nothing is in flight."""
        if self.search.comparing is not None:
            self.finish_comparison(self.search.comparing)
            return True
        if not self.flying:
            return False
        trial = self.flying.pop(i % len(self.flying))
        self.record(Observed(self.clock, trial.id, self.outcome(trial)))
        return True

    def finish_comparison(self, task: Compare) -> None:
        found = tuple((trial.id, self._repeat(trial, task.rounds)) for trial in task.trials)
        self.record(Compared(self.clock, found))

    def _repeat(self, trial: Trial, rounds: int) -> Outcome:
        outcome = self.outcome(trial)
        if isinstance(outcome, Failed):
            return outcome
        return Timed((outcome.times_ms * rounds)[:rounds], outcome.compile_s, outcome.run_s)

    def pass_time(self, seconds: float) -> None:
        self.clock += seconds

    def tick(self) -> None:
        self.record(Ticked(self.clock))

    def interrupt(self) -> None:
        self.interrupts += 1
        self.record(Interrupted(self.clock))
        self.lost.extend(self.flying)
        self.flying.clear()

    def resume(self) -> None:
        """Do as a new process: take the interrupt back and put the pending trials back in flight."""
        self.record(Resumed(self.clock))
        search = self.search
        self.clock = max(self.clock, search.clock)
        known = {trial.id for trial in search.pending}
        self.lost = []
        self.flying = [trial for trial in search.trials if trial.id in known] if search.concluded is None else [
            trial for trial in search.pending if trial.origin == "simplify"
        ]  # fmt: skip

    def run(self, pick: Callable[[int], int] = lambda n: 0) -> Finished:
        """Run the search to its end: every outcome arrives, in the order of `pick` (of n in flight, which one)."""
        while True:
            todo = self.ask()
            if isinstance(todo, Finished):
                return todo
            if not isinstance(todo, Wait):
                continue
            if self.finish(pick(len(self.flying)) if self.flying else 0):
                self.clock += 0.01
            elif todo.until is not None:
                self.clock = max(self.clock, todo.until)
                self.tick()
            else:
                assert self.lost, "it waits, and nothing is in flight"
                self.flying, self.lost = self.lost, []

    def check_past(self) -> None:
        """Check that no earlier search has changed, and that folding the events again gives this one."""
        for search, was in self.past:
            assert snapshot(search) == was, "a later version changed an older one"
        again = start(self.plan)
        for event in self.events:
            again = advance(again, event)
        assert snapshot(again) == snapshot(self.search), "folding the events leads elsewhere"


def check_request(search: Search, todo: Request, room: int) -> None:
    """Laws 1 and 4 for one request."""
    plan, ends, last = search.plan, search_deadline(search), deadline(search)
    budget = plan.budget
    match todo:
        case Measure(trials=trials, rejected=rejected):
            assert trials, "an empty batch"
            assert ends is None or search.clock < ends, "trials asked for after the deadline less the reserve"
            assert not search.interrupted
            assert rejected == 0, "the strategy proposed an invalid, known or repeated point"
            seen = {trial.config for trial in search.trials}
            assert [trial.id for trial in trials] == list(range(len(seen), len(seen) + len(trials)))
            for trial in trials:
                assert plan.space.check(trial.config) == trial.config
                assert trial.config not in seen, "a point that was asked for before"
                seen.add(trial.config)
            assert budget.evaluations is None or len(seen) - search.told <= budget.evaluations
            own = [trial.generation for trial in trials if trial.origin == "strategy"]
            assert budget.generations is None or all(generation < budget.generations for generation in own)
        case Compare(trials=trials, rounds=rounds, purpose=purpose):
            assert len({trial.id for trial in trials}) == len(trials) >= 2
            assert rounds >= 1
            assert not plan.settings.exact
            if purpose == "confirm":
                assert len(trials) <= plan.settings.confirm_at_most
                assert ends is None or search.clock < ends
            elif purpose in ("qualify", "simplify"):
                assert search.concluded is not None
                assert search.verified is None
                assert len(trials) <= max(plan.settings.contenders, 2)
                assert last is None or search.clock < last
            else:
                assert last is None or search.clock < last, "a verification after the deadline"
                outcomes = dict(search.outcomes)
                default = search.default_trial
                if default is not None and search.verified is None and isinstance(outcomes.get(default), Timed):
                    assert default in [trial.id for trial in trials], "the default is not a finalist"
        case Conclude(reason=reason, detail=detail):
            assert reason in get_args(Reason)
            assert detail
            assert search.concluded is None
        case Wait(until=until):
            assert until is None or until > search.clock, "it waits for a time that is over"
        case Finished():
            pass


def check_finished(search: Search, todo: Finished) -> None:
    """Law 5: the result is not slower than the default, and the counts and the reason agree with the search."""
    assert todo.reason in get_args(Reason)
    assert todo.complete is (not search.interrupted)
    outcomes = dict(search.outcomes)
    budget = search.plan.budget
    assert budget.evaluations is None or len(outcomes) <= budget.evaluations
    found = result_or_error(search)
    if isinstance(found, TuningFailed):
        assert not any(isinstance(outcome, Timed) for outcome in outcomes.values())
        assert sum(found.counts.values()) == len(outcomes)
        assert all(kind.replace("_", " ") in str(found) for kind in found.counts)
        return
    assert found.stopped == todo.reason
    assert found.complete is todo.complete
    assert found.detail
    assert found.evaluations == len(outcomes) == sum(found.counts.values())
    assert search.plan.space.check(found.best.config) == found.best.config
    for measured in (found.best, *([found.default] if found.default else [])):
        assert min(measured.times_ms) <= measured.low_ms <= measured.time_ms <= measured.high_ms
        assert measured.high_ms <= max(measured.times_ms)
    numbers = [found.best.time_ms, *(finalist.ratio.value for finalist in found.finalists)]
    if found.default is not None:
        assert found.best.time_ms <= found.default.time_ms, "slower than the default"
        assert found.speedup is not None
        assert found.speedup.low <= found.speedup.value <= found.speedup.high
        tied = found.speedup.low <= 1
        assert not tied or found.best.trial == found.default.trial, "the default is a tie, and is not the pick"
        numbers += [found.speedup.low, found.speedup.value, found.speedup.high]
    assert all(0 <= number < float("inf") for number in numbers), "a time or ratio that is not finite"


def result_or_error(search: Search) -> Result | TuningFailed:
    """The result of a search, or the TuningFailed that says why there is none."""
    try:
        return result(search)
    except TuningFailed as error:
        return error
