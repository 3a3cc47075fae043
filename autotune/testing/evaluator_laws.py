"""The laws of an evaluator: its sessions, its clock, its faults, and its journals."""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from autotune.core.config import Config
from autotune.core.outcomes import FAILURE_KINDS, Failed, Outcome, Timed, Trial
from autotune.core.search.messages import Asked, Compare, Compared, Event, Limits, Measure, Observed
from autotune.core.space import Space
from autotune.shell.evaluators.protocol import Evaluator, Session
from autotune.testing.journal_laws import JournalLaws
from autotune.testing.spaces import gemm_space


class SessionLaws:
    """The contract of `Evaluator` and `Session` without journals: the quick part of `EvaluatorLaws`."""

    patience_s = 60.0
    """Seconds after which an outcome counts as lost, and a process as left behind."""

    def make_evaluator(self) -> Evaluator:
        """A new evaluator, equal to any other that this method returns."""
        raise NotImplementedError(f"{type(self).__name__} must define make_evaluator(self)")

    def make_space(self) -> Space:
        """The space that is measured. Its first configs that are not in `make_faults` should not fail by accident."""
        return gemm_space()

    def make_faults(self) -> Mapping[Config, frozenset[str]]:
        """Configs of the space that must fail, with the kinds of `Failed` that are allowed for each."""
        return {}

    def test_it_describes_itself_in_plain_data(self) -> None:
        """`describe` is JSON, the same for equal evaluators, and names the kind."""
        told = self.make_evaluator().describe()
        assert msgspec.json.decode(msgspec.json.encode(told)) == told == self.make_evaluator().describe()
        assert isinstance(told.get("kind"), str), "describe() needs the field 'kind'"
        assert isinstance(self.make_evaluator().exact, bool)
        assert isinstance(self.make_evaluator().recovers, bool)

    def test_every_trial_is_reported_once(self) -> None:
        """Any number of trials is taken; each yields one outcome that can be written to a journal."""
        trials = self.trials(9)
        with self.make_evaluator().open(self.make_space()) as session:
            assert session.idle
            assert session.room >= 1
            session.submit(trials[:1], Limits())
            session.submit(trials[1:], Limits())
            assert not session.idle
            found = self.collect(session, trials)
            assert session.idle, "it is not idle after the last outcome"
            assert session.room >= 1
            assert list(session.poll(0.0)) == []
        for outcome in found.values():
            check_outcome(outcome)

    def test_the_clock_never_goes_back(self) -> None:
        """`now`, and the times of events, which lie between the submission and the moment of the report."""
        with self.make_evaluator().open(self.make_space()) as session:
            last = began = session.now()
            assert 0 <= began < math.inf
            session.submit(trials := self.trials(5), Limits())
            left, until = len(trials), time.monotonic() + self.patience_s
            while left:
                assert time.monotonic() < until, "an outcome did not arrive"
                for event in session.poll(1.0):
                    assert began <= event.at <= session.now(), "an event that did not happen between then and now"
                    left -= 1
                assert session.now() >= last, "the clock went back"
                last = session.now()

    def test_abandoned_trials_are_never_reported(self) -> None:
        """And the session goes on with new ones."""
        trials = self.trials(6)
        with self.make_evaluator().open(self.make_space()) as session:
            session.submit(trials[:4], Limits())
            session.poll(0.0)
            session.abandon()
            assert session.idle, "it is not idle after abandon"
            session.submit(trials[4:], Limits())
            assert set(self.collect(session, trials[4:])) == {trial.id for trial in trials[4:]}
            assert list(session.poll(0.0)) == []

    def test_a_comparison_reports_every_trial(self) -> None:
        """One `Compared` with an outcome for each trial, of at most as many samples as rounds."""
        trials, rounds = self.trials(3), 3
        with self.make_evaluator().open(self.make_space()) as session:
            session.submit(trials, Limits())
            self.collect(session, trials)
            session.compare(Compare(trials, rounds, "verify"))
            assert not session.idle
            found = self.compared(session)
            assert session.idle
        assert [number for number, _ in found.outcomes] == [trial.id for trial in trials]
        counts = set()
        for _, outcome in found.outcomes:
            check_outcome(outcome)
            if isinstance(outcome, Timed):
                counts.add(len(outcome.times_ms))
        assert len(counts) <= 1, "trials of one comparison have different numbers of samples"
        assert all(1 <= count <= rounds for count in counts)

    def test_exact_times_repeat(self) -> None:
        """An evaluator that calls itself exact gives the same time for the same config, in any session."""
        evaluator = self.make_evaluator()
        if not evaluator.exact:
            return
        found = []
        for _ in range(2):
            with self.make_evaluator().open(self.make_space()) as session:
                session.submit(trials := self.trials(4), Limits())
                found.append(self.collect(session, trials))
        for trial, outcome in found[0].items():
            other = found[1][trial]
            if isinstance(outcome, Timed):
                assert isinstance(other, Timed)
                assert other.time_ms == outcome.time_ms, "exact, and another time"

    def test_a_session_goes_on_after_a_journal(self) -> None:
        """The clock goes on from the last event. Unfinished trials are queued exactly where the evaluator recovers."""
        trials, past = self.trials(9), list[Event]()
        evaluator = self.make_evaluator()
        with evaluator.open(self.make_space()) as session:
            past.append(Asked(session.now(), len(trials), Measure(trials, Limits())))
            session.submit(trials, Limits())
            while not (news := session.poll(1.0)):
                pass
        later = 0.0 if evaluator.recovers else 1234.5
        past += [structs.replace(event, at=event.at + later) for event in news]
        done = {event.trial for event in past if isinstance(event, Observed)}
        left = tuple(trial for trial in trials if trial.id not in done) if evaluator.recovers else ()
        with self.make_evaluator().open(self.make_space(), past) as session:
            assert session.now() >= past[-1].at, "the clock begins anew"
            assert session.idle is not bool(left), "other trials are in flight than the journal leaves unfinished"
            assert self.collect(session, left).keys() == {trial.id for trial in left}

    def test_a_fault_costs_one_config(self, capfd: pytest.CaptureFixture[str]) -> None:
        """Between two good configs each fault fails in its way, and says why; nothing it prints reaches the program."""
        good = self.trials(2)
        faults = self.make_faults()
        trials = [Trial(i, config) for i, config in enumerate(c for fault in faults for c in (good[0].config, fault))]
        trials.append(Trial(len(trials), good[1].config))
        with self.make_evaluator().open(self.make_space()) as session:
            session.submit(trials, Limits())
            found = self.collect(session, trials)
        if not faults:
            return
        for trial in trials:
            outcome = found[trial.id]
            if trial.config in faults:
                assert isinstance(outcome, Failed), f"{trial.config} did not fail"
                assert outcome.kind in faults[trial.config], f"{trial.config}: {outcome}"
                assert outcome.message
            else:
                assert isinstance(outcome, Timed), f"{trial.config} failed beside a fault: {outcome}"

    @pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
    def test_no_process_is_left_behind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By a session that ends while it works, with a fault running where there is one."""
        mark = f"{os.getpid()}-{time.monotonic_ns()}"
        monkeypatch.setenv("AUTOTUNE_LAW", mark)
        configs = [*self.make_faults(), *(trial.config for trial in self.trials(2))][:4]
        with self.make_evaluator().open(self.make_space()) as session:
            session.submit([Trial(i, config) for i, config in enumerate(configs)], Limits())
            session.poll(0.2)
        until = time.monotonic() + self.patience_s  # a process takes a moment to end, longer on a busy machine
        while (left := _find_marked(mark)) and time.monotonic() < until:
            time.sleep(0.02)
        assert not left, f"processes {', '.join(left)} were left behind"

    def trials(self, count: int) -> tuple[Trial, ...]:
        """Trials of the first valid configs of the space that are no faults; of fewer, repeated."""
        faults = self.make_faults()
        space = self.make_space()
        configs = [config for config in islice(space.enumerate(), 100) if config not in faults]
        return tuple(Trial(i, configs[i % len(configs)]) for i in range(count))

    def collect(self, session: Session, trials: Sequence[Trial]) -> dict[int, Outcome]:
        """The outcomes of trials in flight by number."""
        found: dict[int, Outcome] = {}
        until = time.monotonic() + self.patience_s
        while len(found) < len(trials):
            assert time.monotonic() < until, f"trials were never reported: {len(trials) - len(found)}"
            assert found.keys() <= {trial.id for trial in trials}, "a trial was reported that was not submitted"
            for event in session.poll(1.0):
                assert isinstance(event, Observed), f"{event} in place of an outcome"
                assert event.trial not in found, "a trial was reported twice"
                found[event.trial] = event.outcome
        assert found.keys() == {trial.id for trial in trials}, "a trial was reported that was not submitted"
        return found

    def compared(self, session: Session) -> Compared:
        until = time.monotonic() + self.patience_s
        while time.monotonic() < until:
            for event in session.poll(1.0):
                assert isinstance(event, Compared), f"{event} in place of a comparison"
                return event
        raise AssertionError("the comparison was never reported")


class EvaluatorLaws(SessionLaws, JournalLaws):
    """The contract of `Evaluator` and `Session`, and law 3. Subclass it under a name that begins with `Test`:

        class TestMyEvaluator(EvaluatorLaws):
            def make_evaluator(self):
                return MyEvaluator(build, run_timeout_s=2.0)

            def make_space(self):
                return Space({"BLOCK": PowerOfTwo(16, 64)}, default={"BLOCK": 16})

    Nothing here holds measured times against bounds.
    """

    def make_evaluators(self) -> Mapping[str, Callable[[], Evaluator]]:
        return {"evaluator": self.make_evaluator}


def check_outcome(outcome: Outcome) -> None:
    """Check that an outcome is a success with finite positive samples, or a failure of a known kind."""
    assert isinstance(outcome, Timed | Failed), f"{outcome!r} is no outcome"
    assert 0 <= outcome.compile_s < math.inf
    assert 0 <= outcome.run_s < math.inf
    if isinstance(outcome, Failed):
        assert outcome.kind in FAILURE_KINDS
    else:
        assert outcome.times_ms, "a success without a sample"
        assert all(0 < sample < math.inf for sample in outcome.times_ms)


def _find_marked(mark: str) -> list[str]:
    """The processes, other than this one, that inherited the mark of a test."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            other = process.name.isdigit() and int(process.name) != os.getpid()
            if other and f"AUTOTUNE_LAW={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(process.name)
    return found
