"""Outcomes of a Triton session: samples on several workloads, gauges, and the default config in a journal."""

import pytest

from autotune.backends.triton.comparison import median_gauges
from autotune.backends.triton.jobs import SessionRules, default_times, timed_outcome
from autotune.backends.triton.messages import MeasureReply
from autotune.backends.triton.timing import WorkloadObjective
from autotune.core.outcomes import Failed, Timed
from autotune.core.search.messages import Observed


def test_rounds_of_several_shapes_become_one_number_each() -> None:
    rules = SessionRules(
        compile_timeout_s=60.0,
        run_timeout_s=30.0,
        objective=WorkloadObjective("worst", True, (1.0, 1.0)),
        names=("a", "b"),
    )
    measured = MeasureReply(times_ms=((1.0, 2.0, 3.0), (4.0, 4.0, 8.0, 8.0)), run_s=0.5, details={"runs": 3})
    outcome = timed_outcome(measured, rules, (1.0, 4.0))
    assert isinstance(outcome, Timed)
    assert outcome.times_ms == pytest.approx((2.0, 4.0, 6.0)), "the ratios to the default, times its mean of 2 ms"
    assert outcome.details == {"runs": 3, "ms[a]": 2.0, "ms[b]": 6.0}
    assert outcome.run_s == 0.5
    alone = timed_outcome(
        MeasureReply(times_ms=((2.0, 4.0),), run_s=0.5, cut=True),
        SessionRules(compile_timeout_s=60.0, run_timeout_s=30.0, objective=WorkloadObjective(), names=("0",)),
        None,
    )
    assert isinstance(alone, Timed)
    assert (alone.times_ms, alone.cut, alone.details) == ((2.0, 4.0), True, {})
    assert isinstance(timed_outcome(MeasureReply(times_ms=((1.0,), ()), run_s=0.5), rules, None), Failed)


def test_gauges_of_a_comparison_are_those_that_were_usual() -> None:
    shown = [{"sm_clock_mhz": 1980, "temperature_c": 40}, {"sm_clock_mhz": 1500}, {"sm_clock_mhz": 1520}, {}]
    assert median_gauges(shown) == {"sm_clock_mhz": 1520, "temperature_c": 40}
    assert median_gauges([]) == {}


def test_the_defaults_times_are_found_in_a_journal() -> None:
    outcome = Timed((1.0,), details={"ms[a]": 2.0, "ms[b]": 3.0})
    assert default_times([Observed(1.0, 0, outcome)], ("a", "b")) == (2.0, 3.0)
    assert default_times([Observed(1.0, 0, outcome)], ("a", "c")) is None
    assert default_times([Observed(1.0, 1, outcome)], ("a", "b")) is None
