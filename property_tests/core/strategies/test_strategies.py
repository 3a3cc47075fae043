"""Every registered strategy keeps the laws of strategies."""

from collections.abc import Callable, Mapping

import pytest

from autotune import STRATEGIES, Space, make_plan
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import make_strategy, name_of
from autotune.shell.evaluators.protocol import Evaluator
from autotune.testing import HandShell, JournalLaws, StrategyLaws, gemm_space
from autotune.testing.strategy_laws import hashed_outcome
from property_tests.registry import (
    EVALUATORS,
    INSTANCES,
    LISTED,
    REPEATABLE,
    TOPPING_UP,
    Which,
    called,
    instance,
    some_configs,
)

SIMULATED = list(REPEATABLE)
REAL = [name for name in EVALUATORS if name not in REPEATABLE]


def by_turns(which: Which) -> list[str]:
    """Two simulated evaluators and one that measures in this process, others for each strategy."""
    i = INSTANCES.index(which)
    return [SIMULATED[i % len(SIMULATED)], SIMULATED[(i + 2) % len(SIMULATED)], REAL[i % len(REAL)]]


class TestRegisteredStrategies(StrategyLaws):
    which: Which

    @pytest.fixture(autouse=True, params=INSTANCES, ids=called)
    def _each(self, request: pytest.FixtureRequest) -> None:
        self.which = request.param
        name, _ = self.which
        strategy = self.make_strategy(gemm_space())
        self.generational = hasattr(strategy, "max_generations") and name not in TOPPING_UP
        self.random = self.takes_seeds = name not in LISTED

    def make_strategy(self, space: Space) -> AnyStrategy:
        return instance(self.which, space)

    def make_evaluators(self) -> Mapping[str, Callable[[], Evaluator]]:
        return {name: EVALUATORS[name] for name in by_turns(self.which)}

    def test_its_name_is_the_registered_one(self) -> None:
        assert name_of(self.make_strategy(gemm_space())) == self.which[0]


@pytest.mark.slow
class TestEveryStrategyWithEveryEvaluator(JournalLaws):
    which: Which
    evaluator: str

    @pytest.fixture(
        autouse=True,
        params=[(which, name) for which in INSTANCES for name in EVALUATORS if name not in by_turns(which)],
        ids=lambda pair: f"{called(pair[0])} {pair[1]}",
    )
    def _each(self, request: pytest.FixtureRequest) -> None:
        self.which, self.evaluator = request.param

    def make_strategy(self, space: Space) -> AnyStrategy:
        return instance(self.which, space)

    def make_evaluators(self) -> Mapping[str, Callable[[], Evaluator]]:
        return {self.evaluator: EVALUATORS[self.evaluator]}


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_defaults_of_a_strategy_work_too(name: str) -> None:
    """As a user meets it: no setting given (but for the configs of a finite search), a budget of a hundred."""
    space = gemm_space()
    settings = dict(some_configs(space)) if name in LISTED else {}
    plan = make_plan(space, make_strategy(name, settings), settings={"exact": True})
    shell = HandShell(plan, lambda trial, n: hashed_outcome(trial.config), 7)
    for _ in range(150):
        shell.ask()
        shell.finish(0)
    assert len(shell.search.trials) >= 9
    shell.check_past()
