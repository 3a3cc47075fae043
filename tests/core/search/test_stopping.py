"""Searches of a list that stop because no config that is left can be much faster."""

from typing import Any

import numpy as np
import pytest

from autotune import Budget, Choice, Failed, Plan, PlanError, Settings, Space, Timed, advance, request, start
from autotune.core.outcomes import Outcome, Trial
from autotune.core.search.messages import Asked, Conclude, Finished, Measure, Observed
from autotune.core.search.result import result
from autotune.core.search.state import Search
from autotune.core.search.stopping import chances_to_beat
from autotune.core.strategies.random_search import FiniteSearch
from autotune.studies.recordings.load import load_recording
from autotune.testing.hand_shell import HandShell

BLOCKS, WARPS = (16, 32, 64, 128), (1, 2, 4)
SPACE = Space({"block": Choice(BLOCKS), "warps": Choice(WARPS)}, default={"block": 16, "warps": 4})
CONFIGS = tuple({"block": block, "warps": warps} for block in BLOCKS for warps in WARPS)
MACHINE = Settings(verify_rounds=0, simplify_rounds=0, rebenchmark_threshold=0.0)


def few_warps_are_slow(trial: Trial, again: int) -> Outcome:
    block, warps = trial.config["block"], trial.config["warps"]
    assert isinstance(block, int)
    assert isinstance(warps, int)
    return Timed((0.1 * (block / warps / 8) ** 0.7 + 0.05 * warps,) * 5)


def plan(budget: Budget, **more: Any) -> Plan:
    return Plan(SPACE, FiniteSearch(CONFIGS), budget, settings=MACHINE, **more)


def run(budget: Budget, last: set[tuple[int, int]], oracle: Any = few_warps_are_slow) -> Search:
    """A search with room for the whole list. The outcomes of some configs come last."""
    shell = HandShell(plan(budget), oracle, room=len(CONFIGS))
    while not isinstance(shell.ask(), Finished):
        waiting = [trial.config for trial in shell.flying]
        late = [(config["block"], config["warps"]) in last for config in waiting]
        shell.finish(late.index(False) if False in late else 0)
    shell.check_past()
    return shell.search


def test_a_search_does_not_wait_for_configs_whose_neighbours_are_slow() -> None:
    late = {(128, 1), (64, 1)}
    search = run(Budget(regret=0.01), late)
    found = result(search)
    assert found.stopped == "regret"
    left = [search.trials[i].config for i in range(len(CONFIGS)) if not search.records.has(i)]
    assert late <= {(config["block"], config["warps"]) for config in left}
    assert f"none of the {len(left)} configs that are left is more than 1 % faster than the best" in found.detail
    assert found.best.config == result(run(Budget(), late)).best.config


def test_it_waits_for_the_one_config_that_may_be_the_fastest() -> None:
    best = result(run(Budget(), set())).best.config
    late = {(best["block"], best["warps"])}
    search = run(Budget(regret=0.01), late)  # type: ignore[arg-type]
    assert result(search).stopped == "strategy"
    assert result(search).best.config == best


def test_it_waits_for_the_default() -> None:
    late = {(16, 4), (128, 1)}
    found = result(run(Budget(regret=0.01), late))
    assert found.stopped == "regret"
    assert found.speedup is not None


def test_failures_count_as_evidence() -> None:
    def fails(trial: Trial, again: int) -> Outcome:
        slow = trial.config["warps"] == 1
        return Failed("compile_error", "out of registers") if slow else few_warps_are_slow(trial, again)

    search = run(Budget(regret=0.01), {(128, 1)}, fails)
    assert result(search).stopped == "regret"
    assert not search.records.has([t.config for t in search.trials].index({"block": 128, "warps": 1}))  # type: ignore[arg-type]


def test_a_third_of_the_list_tells_nothing() -> None:
    search = start(plan(Budget(regret=0.5, confidence=0.5)))
    for _ in range(2):
        todo = request(search, len(CONFIGS))
        assert isinstance(todo, Measure)
        search = advance(search, Asked(0.0, 0, todo))
    for trial in search.trials[: 2 * len(CONFIGS) // 3 - 1]:
        search = advance(search, Observed(1.0, trial.id, few_warps_are_slow(trial, 0)))
        assert not isinstance(request(search, 1), Conclude)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"regret": 0}, "regret = 0;"),
        ({"regret": 1.5}, "regret = 1.5;"),
        ({"regret": True}, "regret = True;"),
        ({"confidence": 1}, "confidence = 1;"),
        ({"confidence": "high"}, "confidence = 'high';"),
    ],
)
def test_a_budget_out_of_range_is_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(PlanError, match=named):
        Budget(**values)


def test_a_strategy_that_does_not_know_what_is_left_says_so() -> None:
    from autotune import PatternSearch

    with pytest.raises(PlanError, match="a strategy that knows what is left, such as finite_search"):
        Plan(SPACE, PatternSearch(), Budget(regret=0.01))


def test_probabilities_are_calibrated_on_a_recorded_kernel() -> None:
    """Of the configs that beat the best with a chance of at most 1 in 100, at most 2 in 100 do."""
    recording = load_recording("builtin:rms_norm")
    rng = np.random.default_rng(0)
    timed = np.flatnonzero(recording.kinds == 0)
    space = Space(
        {name: Choice(values) for name, values in zip(recording.parameters, recording.values, strict=True)},
        default=None,
    )
    surprises = unlikely = 0
    for _ in range(10):
        rows = rng.choice(timed, 48, replace=False)
        configs = [
            {
                name: recording.values[i][code]
                for i, (name, code) in enumerate(zip(recording.parameters, codes, strict=True))
            }
            for codes in recording.codes[rows].tolist()
        ]
        search = start(Plan(space, FiniteSearch(tuple(configs)), Budget(regret=0.01), settings=MACHINE))
        todo = request(search, 48)
        assert isinstance(todo, Measure)
        search = advance(search, Asked(0.0, 0, todo))
        for trial in range(32):
            search = advance(search, Observed(0.0, trial, Timed((float(recording.time_ms[rows[trial]]),))))
        chances = chances_to_beat(search, search.points.rows[32:], 0.01)
        beats = recording.time_ms[rows[32:]] < 0.99 * recording.time_ms[rows[:32]].min()
        unlikely += int((chances <= 0.01).sum())
        surprises += int((beats & (chances <= 0.01)).sum())
    assert unlikely > 100
    assert surprises <= 0.02 * unlikely
