"""What the laws are tried on: the registered strategies with settings that make them small, and evaluators.

A strategy without an entry in SMALL is tried with its defaults, so that a new one inherits the laws.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from autotune import STRATEGIES, CallableEvaluator, Config, Disturbance, Failed, SimulatedEvaluator, Space
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import make_strategy
from autotune.shell.evaluators.protocol import Evaluator
from autotune.testing import HashedTable

Make = Callable[[Space], Mapping[str, Any]]


def some_configs(space: Space) -> Mapping[str, Any]:
    rows = space.rows()
    chosen = rows[np.linspace(0, len(rows) - 1, 9).astype(int)]
    return {"configs": tuple(dict(config) for config in space.decode(chosen))}


SMALL: dict[str, tuple[Make, ...]] = {
    "random_search": (lambda space: {"count": 14},),
    "finite_search": (some_configs,),
    "pattern_search": (
        lambda space: {"initial_population": 6, "copies": 2, "max_generations": 3},
        lambda space: {"initial_population": 4, "copies": 3, "max_generations": 2, "num_neighbors_cap": 3},
    ),
    "lfbo_pattern_search": (
        lambda space: {"initial_population": 6, "copies": 2, "max_generations": 3, "num_neighbors": 12},
    ),
    "lfbo_tree_search": (
        lambda space: {"initial_population": 8, "copies": 2, "max_generations": 4, "num_neighbors": 9, "quantile": 0.4},
    ),
    "de_surrogate_hybrid": (
        lambda space: {
            "population_size": 4,
            "max_generations": 4,
            "surrogate_threshold": 9,
            "refit_frequency": 2,
            "n_estimators": 5,
        },
    ),
    "gaussian_process": (lambda space: {"initial_points": 4, "candidates": 12, "neighbourhoods": 1, "count": 12},),
    "differential_evolution": (
        lambda space: {"population_size": 4, "max_generations": 3},
        lambda space: {"population_size": 4, "max_generations": 2, "immediate_update": True},
        lambda space: {"population_size": 5, "max_generations": 4, "min_improvement_delta": 0.01, "patience": 1},
    ),
}
"""Settings that make a search small, for the strategies whose defaults do not. Any other is tried with its defaults."""

Which = tuple[str, int]
INSTANCES: list[Which] = [(name, i) for name in STRATEGIES for i in range(len(SMALL.get(name, (dict,))))]
"""(registered name, index of its settings): what to parametrise by."""


def instance(which: Which, space: Space) -> AnyStrategy:
    """A strategy for a space."""
    name, i = which
    settings = SMALL[name][i](space) if name in SMALL else {}
    return make_strategy(name, dict(settings))


def called(which: Which) -> str:
    return f"{which[0]}-{which[1]}"


TOPPING_UP: set[str] = set()
"""Strategies with `max_generations` that may propose before a generation is in, so that completion order matters."""

LISTED = {"finite_search"}
"""Strategies that measure a fixed list of configs: neither the seed nor the user's seeds change it."""


LAST = [1.0]
TABLE = HashedTable()
DISTURBED = Disturbance(
    jitter=0.01,
    tails=4,
    outliers=0.05,
    outlier_size=0.02,
    walk=0.003,
    trend=0.05,
    trend_s=5.0,
    carry_over=0.001,
    neighbour=0.001,
    alone=0.005,
    process=0.002,
)


def in_process(exact: bool) -> CallableEvaluator:
    return CallableEvaluator(
        remembering, isolation="in_process", timer=remembered, warmup_ms=0.0, target_ms=0.0, max_repeats=3, exact=exact
    )


def remembering(config: Config) -> Callable[[], float]:
    """A kernel that returns the time that the table has for the config."""
    outcome = TABLE.outcome(config)
    if isinstance(outcome, Failed):
        raise RuntimeError(outcome.message)

    def kernel() -> float:
        LAST[0] = outcome.time_ms
        return LAST[0]

    return kernel


def remembered(call: Callable[[], Any]) -> float:
    """A timer that believes what the function said, so that no run depends on how busy the machine is."""
    call()
    return LAST[0]


EVALUATORS: dict[str, Callable[[], Evaluator]] = {
    "simulated exact": lambda: SimulatedEvaluator(TABLE),
    "simulated noisy": lambda: SimulatedEvaluator(TABLE, noise="resample", repeats=5, seed=3),
    "simulated wide": lambda: SimulatedEvaluator(TABLE, compile_workers=5, devices=2, noise="resample", repeats=4),
    "simulated wide exact": lambda: SimulatedEvaluator(TABLE, compile_workers=6, devices=3),
    "simulated disturbed": lambda: SimulatedEvaluator(
        TABLE, compile_workers=3, seed=5, disturbance=DISTURBED, processes=2
    ),
    "simulated in batches": lambda: SimulatedEvaluator(TABLE, compile_workers=3, batch=4),
    "callable in this process": lambda: in_process(exact=False),
    "callable in this process, exact": lambda: in_process(exact=True),
}

REPEATABLE = {name: make for name, make in EVALUATORS.items() if isinstance(make(), SimulatedEvaluator)}
"""Those whose runs, clock included, are a pure function of plan and seed."""
