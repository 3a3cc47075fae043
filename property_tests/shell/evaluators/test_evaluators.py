"""The evaluators keep the laws of evaluators: simulated ones, and callables in this process and in workers."""

from collections.abc import Mapping

import pytest

from autotune import CallableEvaluator, Config, Space
from autotune.shell.evaluators.protocol import Evaluator
from autotune.testing import (
    FAULTS,
    HARMLESS_FAULTS,
    EvaluatorLaws,
    SessionLaws,
    build_kernel,
    fault_configs,
    kernel_space,
)
from autotune.testing.kernels import INPUT, reference
from property_tests.registry import EVALUATORS


class TestEvaluatorsOfAnySpace(EvaluatorLaws):
    name: str

    @pytest.fixture(autouse=True, params=EVALUATORS)
    def _each(self, request: pytest.FixtureRequest) -> None:
        self.name = request.param

    def make_evaluator(self) -> Evaluator:
        return EVALUATORS[self.name]()


QUICK_FAULTS = {name: kinds for name, kinds in FAULTS.items() if name != "hangs"}
"""Without the one that costs its whole timeout each time: tests/shell/evaluators tries that."""


class TestCallablesInWorkers(SessionLaws):
    def make_evaluator(self) -> Evaluator:
        return CallableEvaluator(
            build_kernel, (INPUT,), reference=reference, workers=2, run_timeout_s=2.0, warmup_ms=1.0, target_ms=2.0,
            max_repeats=3, memory_limit_mb=1024,
        )  # fmt: skip

    def make_space(self) -> Space:
        return kernel_space("slow", "quick", *QUICK_FAULTS)

    def make_faults(self) -> Mapping[Config, frozenset[str]]:
        return fault_configs(QUICK_FAULTS)


@pytest.mark.slow
class TestJournalsOfCallablesInWorkers(TestCallablesInWorkers, EvaluatorLaws):
    evaluations = 3


class TestCallablesInThisProcess(EvaluatorLaws):
    evaluations = 3

    def make_evaluator(self) -> Evaluator:
        return CallableEvaluator(
            build_kernel, (INPUT,), reference=reference, isolation="in_process", warmup_ms=0.5, target_ms=1.0,
            max_repeats=3,
        )  # fmt: skip

    def make_space(self) -> Space:
        return kernel_space("slow", "quick", *HARMLESS_FAULTS)

    def make_faults(self) -> Mapping[Config, frozenset[str]]:
        return fault_configs(HARMLESS_FAULTS)
