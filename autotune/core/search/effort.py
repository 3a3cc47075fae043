"""Effort profiles: what "none", "quick" and "full" mean for the machine and each strategy. Single values override."""

from typing import Any, Literal, get_args

import msgspec

from autotune.core.arguments import shown
from autotune.core.errors import PlanError
from autotune.core.search.plan import Settings
from autotune.core.strategies.initial import InitialPopulation
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import as_strategy, make_strategy, with_settings

Effort = Literal["none", "quick", "full"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)

MACHINE: dict[Effort, dict[str, Any]] = {
    "none": {"search": False, "verify_rounds": 0},
    "quick": {"rebenchmark_threshold": 0.9, "verify_rounds": 9, "pad": False},
    "full": {"simplify_rounds": 3},
}
"""What differs from the defaults of `Settings`."""

QUICK: dict[str, dict[str, Any]] = {
    "random_search": {"count": 100},
    "gaussian_process": {"count": 100},
    "pattern_search": {"initial_population": 30, "copies": 2, "max_generations": 5},
    "lfbo_pattern_search": {"initial_population": 30, "copies": 2, "max_generations": 5},
    "lfbo_tree_search": {"initial_population": 30, "copies": 2, "max_generations": 5},
    "differential_evolution": {"population_size": 20, "max_generations": 8},
    "de_surrogate_hybrid": {"population_size": 20, "max_generations": 8},
}
"""What differs from the defaults of each strategy in a quick search; a full one takes the defaults."""

POPULATION: dict[Effort, InitialPopulation] = {
    "none": "from_default",
    "quick": "from_best_available",
    "full": "from_random",
}
"""The initial population of strategies that leave it open (`initial_population_strategy=None`)."""


def checked_effort(effort: object) -> Effort:
    for known in EFFORTS:
        if isinstance(effort, str) and effort == known:
            return known
    raise PlanError(f"no effort is called {shown(effort)}; there are {', '.join(EFFORTS)}")


def settings_for(effort: Effort, overrides: dict[str, Any]) -> Settings:
    """The machine's settings for an effort; raises PlanError for an override that does not fit."""
    return Settings(**{**MACHINE[effort], **overrides})


def strategy_for(strategy: str | AnyStrategy, effort: Effort, overrides: dict[str, Any]) -> AnyStrategy:
    """The strategy by name or class with its settings for an effort, or a given one with single settings replaced."""
    strategy = as_strategy(strategy)
    if isinstance(strategy, str):
        profile = QUICK.get(strategy, {}) if effort == "quick" else {}
        made = make_strategy(strategy, {**profile, **overrides})
    else:
        made = with_settings(strategy, overrides)
    if getattr(made, "initial_population_strategy", "") is None:
        made = msgspec.structs.replace(made, initial_population_strategy=POPULATION[effort])  # type: ignore[type-var]
    return made
