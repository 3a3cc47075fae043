"""The plan of a search: what `autotuner(…)` was given, else what the kernel's settings say."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autotune.core.config import Config
from autotune.core.errors import PlanError
from autotune.core.search.effort import checked_effort, strategy_for
from autotune.core.search.plan import Budget, Plan, Settings
from autotune.core.strategies.population import POPULATION, InitialPopulationStrategy
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import DEFAULT_STRATEGY, name_of
from autotune.integrations.helion.translation import Translation
from autotune.shell.options import Options, PathLike, Progress, free_journal, leaves_population_open
from autotune.shell.settings import POPULATIONS, chosen, environment
from autotune.shell.tuning import make_plan

DRAWN = {"initial_population": 1, "population_size": 2}
"""Settings of strategies that begin with random configs: how many, and how many times as many that is."""

DESIGNED = "gaussian_process"
"""A strategy that begins with a design of its own, of so few configs that none of them may be drawn by others."""

POPULATION_VARIABLE = "HELION_AUTOTUNER_INITIAL_POPULATION"


@dataclass(frozen=True)
class Wishes:
    """The arguments of `autotuner` that make the plan."""

    strategy: str | AnyStrategy | None = None
    effort: str | None = None
    seconds: float | None = None
    evaluations: int | None = None
    seed: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    journal: PathLike | None = None
    progress: Progress = None
    timeline: PathLike | None = None


def plan_of(search: Any, wishes: Wishes, translation: Translation) -> Plan:
    """The plan for Helion's search object: its kernel's settings, its seeds, the best configs of its cache."""
    theirs = search.settings
    effort = checked_effort(wishes.effort or theirs.autotune_effort)
    strategy = wishes.strategy or environment().strategy or DEFAULT_STRATEGY
    settings = _settings(theirs, wishes, strategy)
    seconds = chosen(wishes.seconds, theirs.autotune_budget_seconds, environment().budget_seconds)
    own = {n: v for n, v in settings.items() if n not in Settings.__struct_fields__}
    made = strategy_for(strategy, effort, own)
    budget = Budget(wishes.evaluations, seconds, theirs.autotune_max_generations)
    seeds = [*map(translation.point, given(search)), *_drawn(search, translation, made)]
    return make_plan(
        translation.space,
        strategy,
        rebuild=False,  # binaries are kept in Triton's cache
        effort=effort,
        budget=budget,
        seed=chosen(wishes.seed, theirs.autotune_random_seed, 0),
        seeds=_distinct(seeds),
        best_available=_distinct(_cached(search, translation)),
        settings=settings,
    )


def _settings(theirs: Any, wishes: Wishes, strategy: str | AnyStrategy) -> dict[str, Any]:
    found: dict[str, Any] = {"compile_timeout_s": float(theirs.autotune_compile_timeout)}
    if theirs.autotune_rebenchmark_threshold is not None:
        found["rebenchmark_threshold"] = float(theirs.autotune_rebenchmark_threshold)
    asked = theirs.autotune_initial_population_strategy or os.environ.get(POPULATION_VARIABLE, "").lower()
    population = asked or environment().initial_population
    if population and leaves_population_open(strategy, wishes.settings):
        if population not in POPULATIONS:
            raise PlanError(f"Helion's initial population {population!r} is not known; use {', '.join(POPULATIONS)}")
        found[POPULATION] = population
    return {**found, **wishes.settings}


def options_of(search: Any, wishes: Wishes, plan: Plan) -> Options:
    """How the plan is carried out: journal and progress."""
    log, label = environment().log, getattr(getattr(search.kernel, "kernel", None), "name", "") or "helion"
    journal = wishes.journal if wishes.journal is not None else free_journal(log, label) if log else None
    return Options(
        strategy=name_of(plan.strategy), effort="full", budget=plan.budget, seed=plan.seed,
        journal=None if journal is None else Path(journal), settings={},
        progress=environment().progress or False if wishes.progress is None else wishes.progress,
    )  # fmt: skip


def given(search: Any) -> list[Any]:
    """Flat configs to try first: the user's seeds, then those of the compiler's heuristics."""
    generation = search.config_gen
    pairs = generation.user_seed_flat_config_pairs(search._autotune_seed_configs(), search.log)
    if not search.settings.disable_autotuner_heuristics:
        pairs = [*pairs, *generation.seed_flat_config_pairs(search.log)]
    return [flat for flat, _ in pairs]


def _drawn(search: Any, translation: Translation, strategy: AnyStrategy) -> Iterator[Config | None]:
    """Random configs as Helion draws them, in tiles of a size that a device can hold: the initial population."""
    if getattr(strategy, POPULATION, None) not in (None, InitialPopulationStrategy.FROM_RANDOM):
        return
    if name_of(strategy) == DESIGNED:
        return
    sizes = [n * getattr(strategy, name, 0) for name, n in DRAWN.items()]
    count = next((size for size in sizes if size), 0)
    for flat in search.config_gen.random_population_flat(count) if count else ():
        yield translation.point(flat)


def _cached(search: Any, translation: Translation) -> Iterator[Config | None]:
    """The best configs of earlier runs of Helion on this hardware and these arguments."""
    if environment().skip_cache:
        return
    most = search.settings.autotune_best_available_max_configs
    for entry in search._find_similar_cached_configs(most) if search.kernel.is_cacheable() else ():
        yield translation.point(entry.to_mutable_flat_config())


def _distinct(points: Any) -> list[Config]:
    return list(dict.fromkeys(point for point in points if point is not None))
