"""The settings of the Triton evaluator: refused and described without torch."""

from collections.abc import Callable
from typing import Any

import pytest

from autotune import ArgumentSet, Config, EvaluatorError, TritonEvaluator


def build(config: Config) -> Callable[..., Any]:
    return lambda *args: None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "give either kernel= with grid=, or build="),
        ({"kernel": len}, "not a @triton.jit function"),
        ({"build": build, "l2": "cold"}, "l2 is 'cold'; use one of 'flush', 'rotate', 'warm'"),
        ({"build": build, "target": "90"}, "target is '90'"),
        ({"build": build, "rtol": -1}, "rtol is -1; give a number from 0 to 1e+30"),
        ({"build": build, "min_repeats": 9, "max_repeats": 8}, "max_repeats is 8, below min_repeats"),
        ({"build": build, "outputs": "c"}, "outputs is 'c'; give a tuple of argument names"),
        ({"build": build, "checker": 3}, "checker is 3; give a function"),
        ({"build": build, "arguments": (1,), "workloads": [ArgumentSet((1,))]}, "arguments and workloads"),
        ({"build": build, "workloads": [ArgumentSet((1,), 0.0)]}, "all workloads have weight 0"),
        ({"build": build, "workloads": [ArgumentSet((), name="a"), ArgumentSet((), name="a")]}, "the same name"),
        ({"build": build, "workloads": [(1,)]}, "give ArgumentSet"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(EvaluatorError) as caught:
        TritonEvaluator(**settings)
    assert words in str(caught.value)


def test_an_evaluator_describes_what_is_not_as_by_default() -> None:
    tool = TritonEvaluator(build=build, arguments=(1,), outputs=(0,), rtol=0.5, l2="warm")
    said = tool.describe()
    assert (said.pop("compile_timeout_s"), said.pop("run_timeout_s")) == (60.0, 30.0)
    assert said == {
        "kind": "triton", "build": f"{__name__}.build", "outputs": "0", "rtol": 0.5, "l2": "warm", "workloads": "0",
    }  # fmt: skip
    assert not tool.exact
    assert not tool.recovers
