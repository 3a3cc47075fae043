"""Effort profiles: the settings that "none", "quick" and "full" give the machine and each strategy."""

from typing import Any, Literal, get_args

import msgspec

from autotune.core.arguments import short_repr
from autotune.core.certificate.verdicts import EPS
from autotune.core.errors import PlanError
from autotune.core.search.plan import Settings
from autotune.core.strategies.differential_evolution import DifferentialEvolutionSearch
from autotune.core.strategies.gaussian_process import GaussianProcessSearch
from autotune.core.strategies.population import BeginsWithPopulation, InitialPopulationStrategy
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import as_strategy, make_strategy, with_settings

Effort = Literal["none", "quick", "full"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)

HOPELESS = 6
"""Failures that are all alike before a search ends: the default's and a few others, of which one would differ if the
reason were in the configs."""

MACHINE: dict[Effort, dict[str, Any]] = {
    "none": {"search": False, "verify_rounds": 0},
    "quick": {
        "rebenchmark_threshold": 0.9,
        "verify_rounds": 9,
        "pad": False,
        "all_samples": True,
        "eps": EPS,
        "hopeless": HOPELESS,
    },
    "full": {"simplify_rounds": 3, "all_samples": True, "eps": EPS, "processes": 3, "hopeless": HOPELESS},
}
"""Settings of the machine that differ from the defaults of `Settings`."""

QUICK: dict[str, dict[str, Any]] = {
    "random_search": {"count": 100},
    "gaussian_process": {"count": 100},
    "pattern_search": {"initial_population": 30, "copies": 2, "max_generations": 5},
    "lfbo_pattern_search": {"initial_population": 30, "copies": 2, "max_generations": 5},
    "lfbo_tree_search": {"initial_population": 30, "copies": 2, "max_generations": 5},
    "differential_evolution": {"population_size": 20, "max_generations": 8},
    "de_surrogate_hybrid": {"population_size": 20, "max_generations": 8},
}
"""Settings of each strategy that differ from its defaults in a quick search; a full search takes the defaults."""

POPULATION: dict[Effort, InitialPopulationStrategy] = {
    "none": InitialPopulationStrategy.FROM_DEFAULT,
    "quick": InitialPopulationStrategy.FROM_BEST_AVAILABLE,
    "full": InitialPopulationStrategy.FROM_RANDOM,
}
"""The initial population of strategies with `initial_population_strategy=None`."""

OF_THEIR_OWN: tuple[type[Any], ...] = (GaussianProcessSearch,)
"""Strategies for which None is a way to begin of their own, which no effort changes."""

LONG_SAMPLES: dict[str, Any] = {"verify_rounds": 5, "confirm_rounds": 3}
"""Settings of comparisons whose samples are themselves the medians of many runs, such as those of a `do_bench`: a few
rounds tell as much."""

FIRST_CALL: dict[str, Any] = {"verify_rounds": 7, "confirm_rounds": 3}
"""Settings of a list that a program waits for at its first call: fewer rounds than QUICK, and no more where times are
noisy, since configs of a list that are so close may take the place of one another."""


def check_effort(effort: object) -> Effort:
    for known in EFFORTS:
        if isinstance(effort, str) and effort == known:
            return known
    raise PlanError(f"no effort is called {short_repr(effort)}; there are {', '.join(EFFORTS)}")


def settings_for(effort: Effort, overrides: dict[str, Any]) -> Settings:
    """The machine's settings for an effort, single values overridden; raises PlanError for an override out of range."""
    return Settings(**{**MACHINE[effort], **overrides})


def strategy_for(
    strategy: str | AnyStrategy, effort: Effort, overrides: dict[str, Any], one_at_a_time: bool = False
) -> AnyStrategy:
    """A strategy by name or class with the settings of an effort, or a strategy object with single settings replaced.

    one_at_a_time: whether the evaluator takes one config at a time, so that waiting for other outcomes gains nothing.
    Raises StrategyError for an unknown name or setting.
    """
    strategy = as_strategy(strategy)
    if isinstance(strategy, str):
        profile = QUICK.get(strategy, {}) if effort == "quick" else {}
        made = make_strategy(strategy, {**profile, **overrides})
    else:
        made = with_settings(strategy, overrides)
    open_start = isinstance(made, BeginsWithPopulation) and made.initial_population_strategy is None
    if open_start and type(made) not in OF_THEIR_OWN:
        made = msgspec.structs.replace(made, initial_population_strategy=POPULATION[effort])  # type: ignore[type-var]
    if one_at_a_time and isinstance(made, DifferentialEvolutionSearch) and made.immediate_update is None:
        made = msgspec.structs.replace(made, immediate_update=True)
    return made
