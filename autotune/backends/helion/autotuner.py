"""What Helion calls instead of its own autotuner, and the search that it then runs.

The plan of a search: what `autotuner(…)` was given, else what the kernel's settings say.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helion import Config as HelionConfig
from helion import exc
from helion.autotuner import cache_classes
from helion.autotuner.base_search import BaseAutotuner, PopulationBasedSearch

from autotune.backends.helion.evaluator import HelionEvaluator
from autotune.backends.helion.provider import use_pipeline_provider
from autotune.backends.helion.space import Translation, make_space
from autotune.core.config import Config
from autotune.core.errors import PlanError
from autotune.core.search.effort import check_effort, strategy_for
from autotune.core.search.plan import Budget, Plan, Settings
from autotune.core.search.result import Result, TuningFailed
from autotune.core.strategies.population import POPULATION_SETTING, InitialPopulationStrategy
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import DEFAULT_STRATEGY, name_of
from autotune.shell.options import Options, PathLike, Progress, leaves_population_open, new_journal_path
from autotune.shell.settings import POPULATION_NAMES, environment, first_given
from autotune.shell.timeline import SEARCH, PhaseTimeline
from autotune.shell.tuning import make_plan, run_plan

DRAWN = {"initial_population": 1, "population_size": 2}
"""Settings of strategies that begin with random configs: how many, and how many times as many that is."""

DESIGNED = "gaussian_process"
"""A strategy that begins with a design of its own, of so few configs that none of them may be drawn by others."""

POPULATION_VARIABLE = "HELION_AUTOTUNER_INITIAL_POPULATION"


@dataclass(frozen=True)
class AutotunerOptions:
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


def make_plan_for(search: Any, wishes: AutotunerOptions, translation: Translation) -> Plan:
    """The plan for Helion's search object: its kernel's settings, its seeds, the best configs of its cache."""
    theirs = search.settings
    effort = check_effort(wishes.effort or theirs.autotune_effort)
    strategy = wishes.strategy or environment().strategy or DEFAULT_STRATEGY
    settings = _settings(theirs, wishes, strategy)
    seconds = first_given(wishes.seconds, theirs.autotune_budget_seconds, environment().budget_seconds)
    own = {n: v for n, v in settings.items() if n not in Settings.__struct_fields__}
    made = strategy_for(strategy, effort, own)
    budget = Budget(wishes.evaluations, seconds, theirs.autotune_max_generations)
    seeds = [*map(translation.point, seed_configs_of(search)), *_drawn(search, translation, made)]
    return make_plan(
        translation.space,
        strategy,
        rebuild=False,  # binaries are kept in Triton's cache
        effort=effort,
        budget=budget,
        seed=first_given(wishes.seed, theirs.autotune_random_seed, 0),
        seeds=_distinct(seeds),
        best_available=_distinct(_cached(search, translation)),
        settings=settings,
    )


def _settings(theirs: Any, wishes: AutotunerOptions, strategy: str | AnyStrategy) -> dict[str, Any]:
    found: dict[str, Any] = {"compile_timeout_s": float(theirs.autotune_compile_timeout)}
    if theirs.autotune_rebenchmark_threshold is not None:
        found["rebenchmark_threshold"] = float(theirs.autotune_rebenchmark_threshold)
    asked = theirs.autotune_initial_population_strategy or os.environ.get(POPULATION_VARIABLE, "").lower()
    population = asked or environment().initial_population
    if population and leaves_population_open(strategy, wishes.settings):
        if population not in POPULATION_NAMES:
            raise PlanError(
                f"Helion's initial population {population!r} is not known; use {', '.join(POPULATION_NAMES)}"
            )
        found[POPULATION_SETTING] = population
    return {**found, **wishes.settings}


def make_options(search: Any, wishes: AutotunerOptions, plan: Plan) -> Options:
    """How the plan is carried out: journal and progress."""
    log, label = environment().log, getattr(getattr(search.kernel, "kernel", None), "name", "") or "helion"
    journal = wishes.journal if wishes.journal is not None else new_journal_path(log, label) if log else None
    return Options(
        strategy=name_of(plan.strategy), effort="full", budget=plan.budget, seed=plan.seed,
        journal=None if journal is None else Path(journal), settings={},
        progress=environment().progress or False if wishes.progress is None else wishes.progress,
    )  # fmt: skip


def seed_configs_of(search: Any) -> list[Any]:
    """Flat configs to try first: the user's seeds, then those of the compiler's heuristics."""
    generation = search.config_gen
    pairs = generation.user_seed_flat_config_pairs(search._autotune_seed_configs(), search.log)
    if not search.settings.disable_autotuner_heuristics:
        pairs = [*pairs, *generation.seed_flat_config_pairs(search.log)]
    return [flat for flat, _ in pairs]


def _drawn(search: Any, translation: Translation, strategy: AnyStrategy) -> Iterator[Config | None]:
    """Random configs as Helion draws them, in tiles of a size that a device can hold: the initial population."""
    if getattr(strategy, POPULATION_SETTING, None) not in (None, InitialPopulationStrategy.FROM_RANDOM):
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


def autotuner(
    strategy: str | AnyStrategy | None = None,
    *,
    effort: str | None = None,
    seconds: float | None = None,
    evaluations: int | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    batch: int | None = None,
    journal: PathLike | None = None,
    progress: Progress = None,
    timeline: PathLike | None = None,
    cache: bool = True,
    on_result: Callable[[Result], None] | None = None,
) -> Callable[..., BaseAutotuner]:
    """What `helion.kernel` takes for its setting `autotuner_fn`.

    strategy, settings: as for `tune`. effort, seconds, seed: None means what the kernel's settings say
    (autotune_effort, autotune_budget_seconds, autotune_random_seed); so it is with all its other settings.
    evaluations: a limit on the configs that are tried, which Helion does not know. batch: configs compiled side by
    side, then timed; None: a pipeline, where compiling and timing can overlap, else as many as Helion has compile jobs,
    at most 16. journal: a new file for what happens.
    progress: as for `tune`; None: what AUTOTUNE_PROGRESS says, else none, since Helion shows progress of its own.
    timeline: a file that receives what each process did when.
    cache: whether Helion's cache of the best configs is used. AUTOTUNE_SKIP_CACHE: it is neither read nor written;
    AUTOTUNE_FORCE: it is written only.
    on_result: is told what the search found, with the measurements.
    """
    wishes = AutotunerOptions(
        strategy, effort, seconds, evaluations, seed, dict(settings or {}), journal, progress, timeline
    )

    def fn(kernel: Any, args: Sequence[object], **kwargs: Any) -> BaseAutotuner:
        if kwargs:
            raise PlanError(f"autotune(…, {', '.join(kwargs)}=…) is not understood; give it to autotuner(…) instead")

        def make() -> StrategySearch:
            return StrategySearch(kernel, args, wishes=wishes, batch=batch, on_result=on_result)

        name = kernel.settings.autotune_cache
        if not cache or not kernel.is_cacheable() or environment().skip_cache:
            return make()
        if name not in cache_classes:
            raise PlanError(
                f"Helion has no cache {name!r}, which autotune_cache names; it has {', '.join(cache_classes)}"
            )
        cached: BaseAutotuner = cache_classes[name](make(), autotuner_factory=make)
        return ForcedCache(cached) if environment().force else cached

    return fn


class ForcedCache(BaseAutotuner):  # type: ignore[misc]  # Helion asks for its own base
    """A search whose result is kept in the cache, whatever is there already."""

    def __init__(self, cached: BaseAutotuner) -> None:
        self._cached = cached

    def autotune(self, *, skip_cache: bool = False) -> HelionConfig:
        """Helion calls it so; skip_cache: whether to look nothing up, as is done here in any case."""
        return self._cached.autotune(skip_cache=True)


class StrategySearch(PopulationBasedSearch):  # type: ignore[misc]  # Helion asks for its own base
    """A search of ours inside of Helion: what it compiles, checks, times, logs and caches with remains Helion's."""

    def __init__(
        self,
        kernel: Any,
        args: Sequence[object],
        *,
        wishes: AutotunerOptions,
        batch: int | None = None,
        on_result: Callable[[Result], None] | None = None,
    ) -> None:
        super().__init__(kernel, args)
        self._record = PhaseTimeline(wishes.timeline)
        if batch is None:
            use_pipeline_provider(self, self._record)
        self.final_selection = None  # the verification is ours, so no part of the budget is kept back for Helion's
        self._wishes, self._batch, self._on_result = wishes, batch, on_result

    def _autotune(self) -> HelionConfig:
        if self.kernel.env.process_group_name is not None:
            raise PlanError("kernels that run on several ranks are not tuned by autotune; leave autotuner_fn to Helion")
        if environment().disallow:
            name = getattr(getattr(self.kernel, "kernel", None), "name", "this kernel")
            raise PlanError(
                f"AUTOTUNE_DISALLOW is set and Helion's cache has no result for {name}; tune it where that is allowed,"
                " or unset the variable"
            )
        began = time.perf_counter()
        translation = make_space(self.config_gen, seed_configs_of(self))
        self._record.note(SEARCH, "space", began)
        plan = make_plan_for(self, self._wishes, translation)
        evaluator = HelionEvaluator(self, translation, plan.budget.seconds, self._batch)
        options = make_options(self, self._wishes, plan)
        self.log(f"Starting autotune's {options.strategy} on {len(translation.space.names)} parameters")
        try:
            found = run_plan(plan, evaluator, options)
        except TuningFailed as failure:
            self.log.warning(str(failure))
            raise exc.NoConfigFound from failure
        finally:
            self._record.close()
        return self._settle(found, evaluator, translation)

    def _settle(self, found: Result, evaluator: HelionEvaluator, translation: Translation) -> HelionConfig:
        member = evaluator.bench.member(found.best.config)
        assert member is not None  # it was timed
        self.population, self._selected_member = [member], member
        self.best_perf_so_far = found.best.time_ms
        self.log(f"{found.detail}; {found.evaluations} evaluations, best {self.format_performance(found.best.time_ms)}")
        if self._on_result is not None:
            self._on_result(found)
        return member.config
