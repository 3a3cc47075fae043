"""Callbacks for each trial, and the logger."""

import logging
from typing import Any

import pytest

from autotune import Failed, Integer, PlanError, SimulatedEvaluator, Space, Timed, tune
from autotune.core.config import Config
from autotune.core.search.report import TrialRecord

SPACE = Space({"x": Integer(0, 9)}, default={"x": 0})


class Table:
    """x takes 10 - x ms; `broken` fails."""

    def __init__(self, broken: int = -1) -> None:
        self.broken = broken

    def outcome(self, config: Config) -> Timed | Failed:
        x = int(config["x"])  # type: ignore[arg-type]
        return Failed("run_error", "no luck") if x == self.broken else Timed((10.0 - x,), run_s=0.1)


def run(broken: int = -1, **options: Any) -> Any:
    return tune(SPACE, SimulatedEvaluator(Table(broken)), "random_search", budget=8, progress=False, **options)


def test_each_trial_is_told_once_and_a_callback_that_fails_is_a_warning_and_no_end() -> None:
    told: list[TrialRecord] = []

    def fail(record: TrialRecord) -> None:
        raise RuntimeError(f"no server at {record.trial}")

    with pytest.warns(UserWarning, match=r"callbacks\[0\] failed at trial 0.*no server at 0") as caught:
        result = run(3, callbacks=[fail, told.append])
    assert len(caught) == 1
    assert [one.trial for one in told] == [one.trial for one in result.trials()]
    assert result.best.config == run(3).best.config
    assert {one.status for one in told} <= {"timed", "run_error"}


@pytest.mark.parametrize("wrong", [3, [3]])
def test_what_is_no_function_is_refused(wrong: Any) -> None:
    with pytest.raises(PlanError, match="callbacks"):
        run(callbacks=wrong)


def test_the_logger_has_phases_improvements_and_failures(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "autotune"):
        run(0)
    (warning,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert warning == "the default config failed: run error: no luck"
    lines = [one.getMessage() for one in caplog.records if one.levelno == logging.INFO]
    assert lines[0] == "measuring the default: 0 evaluated"
    times = [float(line.split()[2]) for line in lines if line.startswith("first timing")]
    assert times == sorted(times, reverse=True)
    assert times
