"""Restarts of walks; `StrategyLaws` has the laws of every restart."""

import pytest

from autotune import Plan, Settings
from autotune.core.strategies.registry import make_strategy
from autotune.testing import HandShell, gemm_space
from autotune.testing.strategy_laws import smooth


@pytest.mark.parametrize("which", ["pattern_search", "lfbo_pattern_search", "lfbo_tree_search"])
def test_walks_that_begin_again_begin_among_fewer_points(which):
    plan = Plan(
        gemm_space(),
        make_strategy(which, {"initial_population": 40, "max_generations": 1}),
        seed=2,
        settings=Settings(restarts=1, simplify_rounds=0),
    )
    shell = HandShell(plan, lambda trial, n: smooth(gemm_space(), trial), 3)
    shell.run(lambda n: 0)
    generations = [trial.generation for trial in shell.search.trials if trial.origin == "strategy"]
    begun = shell.search.strategy_start
    assert begun.restarts == 1
    assert generations.count(0) + (shell.search.default_trial is not None) == 20  # the better half
    assert generations.count(begun.generation) <= 8
