"""The autotuner that Helion calls instead of its own, its plan, and the search that it runs.

An argument of `autotuner(…)` goes before the kernel's setting, that before AUTOTUNE_ variables and defaults.
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
from autotune.backends.helion.space import HelionSpace, make_space
from autotune.core.config import Config
from autotune.core.errors import PlanError
from autotune.core.search.effort import check_effort, strategy_for
from autotune.core.search.plan import Budget, Plan, Settings
from autotune.core.search.result import Result, TuningFailed
from autotune.core.strategies.population import POPULATION_SETTING, BeginsWithPopulation, InitialPopulationStrategy
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import DEFAULT_STRATEGY, name_of
from autotune.shell.files import PathLike
from autotune.shell.options import Options, Progress, leaves_population_open, new_journal_path
from autotune.shell.plans import make_plan
from autotune.shell.settings import POPULATION_NAMES, environment, resolve_setting
from autotune.shell.timeline import SEARCH, PhaseTimeline
from autotune.shell.tuning import run_plan

_INITIAL_CONFIGS = {"initial_population": 1, "population_size": 2}
"""Settings of strategies that begin with random configs, and how many configs one unit of them is."""

_DESIGNED = "gaussian_process"
"""The strategy that begins with its own design, of so few configs that Helion's draws must not replace them."""

_POPULATION_VARIABLE = "HELION_AUTOTUNER_INITIAL_POPULATION"


@dataclass(frozen=True, kw_only=True)
class AutotunerOptions:
    """The arguments of `autotuner` that determine the plan and how it is carried out; see `autotuner`."""

    strategy: str | AnyStrategy | None = None
    effort: str | None = None
    seconds: float | None = None
    evaluations: int | None = None
    seed: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    journal: PathLike | None = None
    progress: Progress = None
    timeline: PathLike | None = None


def make_plan_for(search: Any, arguments: AutotunerOptions, helion_space: HelionSpace) -> Plan:
    """The plan for a search object of Helion's, with its kernel's settings, its seeds, and the best configs of its
    cache.

    Raises PlanError or StrategyError for arguments that cannot work.
    """
    theirs = search.settings
    effort = check_effort(arguments.effort or theirs.autotune_effort)
    strategy = arguments.strategy or environment().strategy or DEFAULT_STRATEGY
    settings = _settings(theirs, arguments, strategy)
    seconds = resolve_setting(arguments.seconds, theirs.autotune_budget_seconds, environment().budget_seconds)
    own = {n: v for n, v in settings.items() if n not in Settings.__struct_fields__}
    made = strategy_for(strategy, effort, own)
    budget = Budget(arguments.evaluations, seconds, theirs.autotune_max_generations)
    seeds = [*map(helion_space.point, seed_configs_of(search)), *_draw_initial(search, helion_space, made)]
    return make_plan(
        helion_space.space,
        strategy,
        rebuild=False,  # binaries are kept in Triton's cache
        effort=effort,
        budget=budget,
        seed=resolve_setting(arguments.seed, theirs.autotune_random_seed, 0),
        seeds=_distinct(seeds),
        best_available=_distinct(_list_cached(search, helion_space)),
        settings=settings,
    )


def _settings(theirs: Any, arguments: AutotunerOptions, strategy: str | AnyStrategy) -> dict[str, Any]:
    found: dict[str, Any] = {"compile_timeout_s": float(theirs.autotune_compile_timeout)}
    if theirs.autotune_rebenchmark_threshold is not None:
        found["rebenchmark_threshold"] = float(theirs.autotune_rebenchmark_threshold)
    asked = theirs.autotune_initial_population_strategy or os.environ.get(_POPULATION_VARIABLE, "").lower()
    population = asked or environment().initial_population
    if population and leaves_population_open(strategy, arguments.settings):
        if population not in POPULATION_NAMES:
            raise PlanError(
                f"Helion's initial population {population!r} is not known; use {', '.join(POPULATION_NAMES)}"
            )
        found[POPULATION_SETTING] = population
    return {**found, **arguments.settings}


def make_options(search: Any, arguments: AutotunerOptions, plan: Plan) -> Options:
    """How the plan is carried out: journal and progress."""
    log, label = environment().log, getattr(getattr(search.kernel, "kernel", None), "name", "") or "helion"
    journal = arguments.journal if arguments.journal is not None else new_journal_path(log, label) if log else None
    return Options(
        strategy=name_of(plan.strategy), effort="full", budget=plan.budget, seed=plan.seed,
        journal=None if journal is None else Path(journal), settings={},
        progress=environment().progress or False if arguments.progress is None else arguments.progress,
    )  # fmt: skip


def seed_configs_of(search: Any) -> list[Any]:
    """Flat configs that a search tries first: the user's seeds, then the compiler's heuristics."""
    generation = search.config_gen
    pairs = generation.user_seed_flat_config_pairs(search._autotune_seed_configs(), search.log)
    if not search.settings.disable_autotuner_heuristics:
        pairs = [*pairs, *generation.seed_flat_config_pairs(search.log)]
    return [flat for flat, _ in pairs]


def _draw_initial(search: Any, helion_space: HelionSpace, strategy: AnyStrategy) -> Iterator[Config | None]:
    """The initial population as Helion draws it: random configs with tiles of a size that a device can hold."""
    chosen = strategy.initial_population_strategy if isinstance(strategy, BeginsWithPopulation) else None
    if chosen not in (None, InitialPopulationStrategy.FROM_RANDOM) or name_of(strategy) == _DESIGNED:
        return
    sizes = [n * getattr(strategy, name, 0) for name, n in _INITIAL_CONFIGS.items()]
    count = next((size for size in sizes if size), 0)
    for flat in search.config_gen.random_population_flat(count) if count else ():
        yield helion_space.point(flat)


def _list_cached(search: Any, helion_space: HelionSpace) -> Iterator[Config | None]:
    """The best configs in Helion's own cache for this hardware and these arguments."""
    if environment().skip_cache:
        return
    most = search.settings.autotune_best_available_max_configs
    for entry in search._find_similar_cached_configs(most) if search.kernel.is_cacheable() else ():
        yield helion_space.point(entry.to_mutable_flat_config())


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
    """A value for the setting `autotuner_fn` of `helion.kernel`.

    strategy, settings: as for `tune`. effort, seconds, seed: None: the kernel's settings
    (autotune_effort, autotune_budget_seconds, autotune_random_seed); its other settings hold, too. evaluations: a limit
    on the configs that are measured, which Helion has not. batch: how many configs are compiled side by side and then
    timed; None: a pipeline if compiling and timing can overlap, else as many as Helion has compile jobs, at most 16.
    journal: a new file that receives every event.
    progress: as for `tune`; None: AUTOTUNE_PROGRESS, else no progress, since Helion shows its own.
    timeline: a file that receives the spans of each process.
    cache: whether Helion's cache of the best configs is used. AUTOTUNE_SKIP_CACHE: it is neither read nor written;
    AUTOTUNE_FORCE: it is written only.
    on_result: is called with the result of the search.
    """
    arguments = AutotunerOptions(
        strategy=strategy, effort=effort, seconds=seconds, evaluations=evaluations, seed=seed,
        settings=dict(settings or {}), journal=journal, progress=progress, timeline=timeline,
    )  # fmt: skip

    def fn(kernel: Any, args: Sequence[object], **kwargs: Any) -> BaseAutotuner:
        if kwargs:
            raise PlanError(f"autotune(…, {', '.join(kwargs)}=…) is not understood; give it to autotuner(…) instead")

        def make() -> StrategySearch:
            return StrategySearch(kernel, args, arguments=arguments, batch=batch, on_result=on_result)

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
    """A search whose result replaces the one in Helion's cache."""

    def __init__(self, cached: BaseAutotuner) -> None:
        self._cached = cached

    def autotune(self, *, skip_cache: bool = False) -> HelionConfig:
        """As Helion calls it. skip_cache: ignored; the cache is never read."""
        return self._cached.autotune(skip_cache=True)


class StrategySearch(PopulationBasedSearch):  # type: ignore[misc]  # Helion asks for its own base
    """A search of this library inside of Helion, which goes on to compile, check, time, log and cache configs."""

    def __init__(
        self,
        kernel: Any,
        args: Sequence[object],
        *,
        arguments: AutotunerOptions,
        batch: int | None = None,
        on_result: Callable[[Result], None] | None = None,
    ) -> None:
        super().__init__(kernel, args)
        self._timeline = PhaseTimeline(arguments.timeline)
        if batch is None:
            use_pipeline_provider(self, self._timeline)
        self.final_selection = None  # the verification is ours: Helion need not keep a part of the budget for its own
        self._arguments, self._batch, self._on_result = arguments, batch, on_result

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
        helion_space = make_space(self.config_gen, seed_configs_of(self))
        self._timeline.add_span(SEARCH, "space", began)
        plan = make_plan_for(self, self._arguments, helion_space)
        evaluator = HelionEvaluator(self, helion_space, plan.budget.seconds, self._batch)
        options = make_options(self, self._arguments, plan)
        self.log(f"Starting autotune's {options.strategy} on {len(helion_space.space.names)} parameters")
        try:
            found = run_plan(plan, evaluator, options)
        except TuningFailed as failure:
            self.log.warning(str(failure))
            raise exc.NoConfigFound from failure
        finally:
            self._timeline.close()
        return self._settle(found, evaluator, helion_space)

    def _settle(self, found: Result, evaluator: HelionEvaluator, helion_space: HelionSpace) -> HelionConfig:
        member = evaluator.bench.member(found.best.config)
        assert member is not None  # the best config was timed
        self.population, self._selected_member = [member], member
        self.best_perf_so_far = found.best.time_ms
        self.log(f"{found.detail}; {found.evaluations} evaluations, best {self.format_performance(found.best.time_ms)}")
        if self._on_result is not None:
            self._on_result(found)
        return member.config
