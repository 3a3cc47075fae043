"""A budget of seconds holds however long it takes to draw a config, and the stated reason for the end is true."""

import time

import pytest

from autotune import Boolean, Budget, CallableEvaluator, Integer, Space, TuningFailed, replay, tune
from autotune.core.cancellation import checkpoint
from autotune.core.feasible import Feasible

SLOW_S = 0.05
UNVERIFIED = {"verify_rounds": 0, "confirm_times": 0}


def instant(config):
    return lambda: None


@pytest.mark.parametrize("strategy", ["random_search", "pattern_search", "gaussian_process"])
def test_a_sparse_space_costs_nothing_to_draw_from(strategy):
    space = Space({"p0": Integer(0, 2**40), "p1": Integer(7, 7)}, ["p0 + p1 == 11"])
    began = time.monotonic()
    result = tune(space, CallableEvaluator(instant), strategy, budget=Budget(seconds=60), progress=False)
    assert dict(result.best.config) == {"p0": 4, "p1": 7}
    assert time.monotonic() - began < 50


def test_every_valid_config_was_tried_is_true():
    space = Space({"p0": Integer(0, 2**40), "p1": Integer(0, 15)}, ["p0 + p1 == 15"])
    result = tune(
        space,
        CallableEvaluator(instant),
        "random_search",
        budget=Budget(evaluations=100),
        progress=False,
        settings=UNVERIFIED,
    )
    assert (result.evaluations, result.detail) == (16, "every valid config was tried")


def test_exhausted_is_not_said_where_points_cannot_be_counted(monkeypatch):
    space = Space({"a": Integer(0, 3)})
    monkeypatch.setattr(Feasible, "count", lambda self: None)
    result = tune(space, CallableEvaluator(instant), "random_search", progress=False, settings=UNVERIFIED)
    assert result.detail == f"no valid config was found besides the {result.evaluations} that were tried"


def endless(*_):
    while True:
        time.sleep(SLOW_S)
        checkpoint()


@pytest.mark.parametrize("strategy", ["random_search", "pattern_search"])
def test_a_budget_holds_while_the_first_points_are_drawn(monkeypatch, tmp_path, strategy):
    space = Space({"a": Boolean(), "b": Integer(0, 9)}, ["a or b > 1"])
    journal = tmp_path / "j.jsonl"
    monkeypatch.setattr(Feasible, "sample", endless)
    began = time.monotonic()
    with pytest.raises(TuningFailed, match="no config was measured before the search ended"):
        tune(
            space, CallableEvaluator(instant), strategy, budget=Budget(seconds=1), journal=journal, progress=False
        )  # fmt: skip
    assert time.monotonic() - began < 20, "without the budget it never ends"
    monkeypatch.undo()
    assert replay(journal).divergence is None


def test_a_budget_holds_while_later_points_are_drawn(monkeypatch, tmp_path):
    space = Space({"a": Boolean(), "b": Integer(0, 999)}, ["a or b > 1"], default={"a": True, "b": 1})
    journal, drawing, built = tmp_path / "j.jsonl", Feasible.sample, []

    def build(config):
        built.append(config)
        return lambda: None

    monkeypatch.setattr(Feasible, "sample", lambda self, key, n: endless() if built else drawing(self, key, n))
    began = time.monotonic()
    result = tune(
        space, CallableEvaluator(build), "differential_evolution", budget=Budget(seconds=3), journal=journal,
        progress=False, settings={"population_size": 4, "max_generations": 10_000, "patience": 10_000},
    )  # fmt: skip
    assert time.monotonic() - began < 20
    assert result.stopped == "seconds"
    monkeypatch.undo()
    assert replay(journal).divergence is None
