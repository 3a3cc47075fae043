"""Effort profiles: what "none", "quick" and "full" mean for the machine and each strategy. Single values override."""

from typing import Any, Literal, get_args

import msgspec

from autotune.core.errors import PlanError
from autotune.core.search.plan import Settings
from autotune.core.strategies.initial import InitialPopulation
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import canonical_name, make_strategy, name_of

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


def checked_effort(effort: str) -> Effort:
    for known in EFFORTS:
        if effort == known:
            return known
    raise PlanError(f"no effort is called {effort!r}; there are {', '.join(EFFORTS)}")


def settings_for(effort: Effort, overrides: dict[str, Any]) -> Settings:
    """The machine's settings for an effort; raises PlanError for an override that does not fit."""
    try:
        return msgspec.convert({**MACHINE[effort], **overrides}, Settings, strict=True)
    except msgspec.ValidationError as error:
        raise PlanError(f"a setting does not fit: {error}; see docs/tutorial.md for the settings") from None


def strategy_for(strategy: str | AnyStrategy, effort: Effort, overrides: dict[str, Any]) -> AnyStrategy:
    """The strategy by name with its settings for an effort, or a given one with single settings replaced."""
    if isinstance(strategy, str):
        name, given = canonical_name(strategy), {}
        profile = QUICK.get(name, {}) if effort == "quick" else {}
    else:
        name, given, profile = name_of(strategy), msgspec.to_builtins(strategy), {}
        given.pop("type", None)
    made = make_strategy(name, {**profile, **given, **overrides})
    if getattr(made, "initial_population_strategy", "") is None:
        made = msgspec.structs.replace(made, initial_population_strategy=POPULATION[effort])  # type: ignore[type-var]
    return made
