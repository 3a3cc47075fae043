"""The suite for evaluators: an honest one of somebody else passes it, and every planted fault breaks its law."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from autotune import Config, Space
from autotune.core.outcomes import Detail, Failed, Outcome, Timed, Trial
from autotune.core.search.messages import Asked, Compare, Compared, Event, Limits, Observed
from autotune.shell.evaluators.protocol import Evaluator, QueueSession, Session, WallClock, clock_after
from autotune.testing import EvaluatorLaws, HashedTable, kernel_space
from tests.testing.runner import break_of

pytestmark = pytest.mark.filterwarnings("ignore:.*is torn and was dropped")

TABLE = HashedTable(failing=0.0)
FAULT = Config(kernel="wrong")
QUIET_S = 1.0
"""How long the suite waits here for what never comes."""


class Lookup:
    """An honest evaluator: it looks times up, one config a poll, on the wall clock."""

    exact = True
    recovers = False

    def describe(self) -> dict[str, Detail]:
        return {"kind": "lookup"}

    def open(self, space: Space, past: Sequence[Event] = ()) -> Session:
        return LookupSession(clock_after(past))


class LookupSession(QueueSession):
    def _measure(self, trials: Sequence[Trial], limits: Limits) -> list[Outcome]:
        return [self.outcome(trial.config) for trial in trials]

    def _compare(self, task: Compare) -> tuple[tuple[int, Outcome], ...]:
        return tuple((trial.id, self.repeated(trial.config, task.rounds)) for trial in task.trials)

    def outcome(self, config: Config) -> Outcome:
        return Failed("wrong_answer", "it is wrong") if config == FAULT else TABLE.outcome(config)

    def repeated(self, config: Config, rounds: int) -> Outcome:
        outcome = self.outcome(config)
        return outcome if isinstance(outcome, Failed) else structs.replace(outcome, times_ms=outcome.times_ms * rounds)


class Laws(EvaluatorLaws):
    patience_s = QUIET_S

    def make_evaluator(self) -> Evaluator:
        return Lookup()

    def make_space(self) -> Space:
        return kernel_space()

    def make_faults(self) -> Mapping[Config, frozenset[str]]:
        return {FAULT: frozenset({"wrong_answer"})}


class TestAnHonestEvaluator(Laws):
    patience_s = 60.0


def with_session(kind: type[LookupSession], **attributes: Any) -> type[Lookup]:
    """An evaluator with a session of another kind, or with other attributes."""

    def open(self: Lookup, space: Space, past: Sequence[Event] = ()) -> Session:
        return kind(clock_after(past))

    return type(kind.__name__, (Lookup,), {"open": open, **attributes})


class Twice(LookupSession):
    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        return [event for event in super().poll(timeout_s) for _ in range(2)]


class Loses(LookupSession):
    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        return [event for event in super().poll(timeout_s) if getattr(event, "trial", 0) != 2]


class Strange(LookupSession):
    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        return [structs.replace(e, trial=e.trial + 100) for e in super().poll(timeout_s) if isinstance(e, Observed)]


class Busy(LookupSession):
    @property
    def idle(self) -> bool:
        return False


class GoesBack(LookupSession):
    def now(self) -> float:
        return -super().now()


class Early(LookupSession):
    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        return [structs.replace(event, at=event.at + 5.0) for event in super().poll(timeout_s)]


class Keeps(LookupSession):
    def abandon(self) -> None:
        pass


class Forgets(LookupSession):
    def _compare(self, task: Compare) -> tuple[tuple[int, Outcome], ...]:
        return super()._compare(task)[1:]


class Eager(LookupSession):
    def repeated(self, config: Config, rounds: int) -> Outcome:
        return super().repeated(config, rounds + 1)


class Uneven(LookupSession):
    def repeated(self, config: Config, rounds: int) -> Outcome:
        return super().repeated(config, rounds - (config["kernel"] == "quick"))


class Noisy(LookupSession):
    calls = 0

    def outcome(self, config: Config) -> Outcome:
        Noisy.calls += 1
        return Timed((1.0 + Noisy.calls,))


class Nothing(LookupSession):
    def outcome(self, config: Config) -> Outcome:
        return Timed((float("inf"),))


class Invents(LookupSession):
    def outcome(self, config: Config) -> Outcome:
        return Failed("bad_luck")  # type: ignore[arg-type]


class Forgives(LookupSession):
    def outcome(self, config: Config) -> Outcome:
        return Timed((1.0,))


class Spreads(LookupSession):
    broken = False

    def outcome(self, config: Config) -> Outcome:
        self.broken |= config == FAULT
        return Failed("wrong_answer", "it is wrong") if self.broken else Timed((1.0,))


class Litters(LookupSession):
    def outcome(self, config: Config) -> Outcome:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(5)"])
        return Timed((1.0,))


class Opaque(Lookup):
    def describe(self) -> dict[str, Detail]:
        return {"kind": "lookup", "table": (1, 2)}  # type: ignore[dict-item]


class Fickle(Lookup):
    calls = 0

    def describe(self) -> dict[str, Detail]:
        Fickle.calls += 1
        return {"kind": "lookup", "calls": Fickle.calls}


class BeginsAnew(Lookup):
    def open(self, space: Space, past: Sequence[Event] = ()) -> Session:
        return LookupSession(WallClock())


class Resubmits(Lookup):
    def open(self, space: Space, past: Sequence[Event] = ()) -> Session:
        session = super().open(space, past)
        for event in past:
            if isinstance(event, Asked) and not isinstance(event.task, Compare):
                session.submit(getattr(event.task, "trials", ()), Limits())
        return session


class SaysItRecovers(Lookup):
    recovers = True


JOURNAL = "test_a_cut_journal_resumes_to_the_same_search"
BROKEN = [
    (with_session(Twice), "test_every_trial_is_reported_once", "reported twice"),
    (with_session(Loses), "test_every_trial_is_reported_once", "never reported"),
    (with_session(Strange), "test_every_trial_is_reported_once", "not submitted"),
    (with_session(Nothing), "test_every_trial_is_reported_once", ""),
    (with_session(Invents), "test_every_trial_is_reported_once", ""),
    (with_session(Busy), "test_every_trial_is_reported_once", ""),
    (with_session(Busy), "test_a_comparison_reports_every_trial", ""),
    (with_session(GoesBack), "test_the_clock_never_goes_back", ""),
    (with_session(Early), "test_the_clock_never_goes_back", "between then and now"),
    (with_session(Keeps), "test_abandoned_trials_are_never_reported", "not idle after abandon"),
    (with_session(Forgets), "test_a_comparison_reports_every_trial", ""),
    (with_session(Eager), "test_a_comparison_reports_every_trial", ""),
    (with_session(Uneven), "test_a_comparison_reports_every_trial", "different numbers"),
    (with_session(Noisy), "test_exact_times_repeat", "another time"),
    (with_session(Forgives), "test_a_fault_costs_one_config", "did not fail"),
    (with_session(Spreads), "test_a_fault_costs_one_config", "beside a fault"),
    (with_session(Litters), "test_no_process_is_left_behind", "left behind"),
    (Opaque, "test_it_describes_itself_in_plain_data", ""),
    (Fickle, "test_it_describes_itself_in_plain_data", ""),
    (BeginsAnew, "test_a_session_goes_on_after_a_journal", "begins anew"),
    (Resubmits, "test_a_session_goes_on_after_a_journal", "leaves unfinished"),
    (SaysItRecovers, "test_a_session_goes_on_after_a_journal", "leaves unfinished"),
    (SaysItRecovers, "test_an_interrupted_search_resumes_to_the_same_search", ""),
    (Resubmits, JOURNAL, ""),
    (BeginsAnew, JOURNAL, ""),
]


@pytest.mark.parametrize(("kind", "law", "words"), BROKEN, ids=lambda part: getattr(part, "__name__", part))
def test_a_planted_fault_breaks_its_law(kind: type[Lookup], law: str, words: str, tmp_path: Path) -> None:
    class Suite(Laws):
        def make_evaluator(self) -> Evaluator:
            return kind()

    error = break_of(Suite, law, tmp_path)
    assert error is not None
    assert words in str(error)


@pytest.mark.parametrize("law", ["test_every_trial_is_reported_once", "test_a_fault_costs_one_config", JOURNAL])
def test_an_honest_evaluator_breaks_none(law: str, tmp_path: Path) -> None:
    """The runner itself breaks nothing."""
    assert break_of(TestAnHonestEvaluator, law, tmp_path) is None
