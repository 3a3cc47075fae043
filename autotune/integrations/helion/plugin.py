"""What Helion calls instead of its own autotuner, and the search that it then runs."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from helion import Config as HelionConfig
from helion import exc
from helion.autotuner import cache_classes
from helion.autotuner.base_search import BaseAutotuner, PopulationBasedSearch

from autotune.core.errors import PlanError
from autotune.core.search.result import Result, TuningFailed
from autotune.core.strategies.protocol import AnyStrategy
from autotune.integrations.helion.evaluation import HelionEvaluator
from autotune.integrations.helion.options import Wishes, given, options_of, plan_of
from autotune.integrations.helion.provider import use_ahead_provider
from autotune.integrations.helion.record import SEARCH, Record
from autotune.integrations.helion.translation import Translation, translate
from autotune.shell.options import PathLike, Progress
from autotune.shell.settings import environment
from autotune.shell.tuning import run_plan


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
    wishes = Wishes(strategy, effort, seconds, evaluations, seed, dict(settings or {}), journal, progress, timeline)

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
        return Forced(cached) if environment().force else cached

    return fn


class Forced(BaseAutotuner):  # type: ignore[misc]  # Helion asks for its own base
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
        wishes: Wishes,
        batch: int | None = None,
        on_result: Callable[[Result], None] | None = None,
    ) -> None:
        super().__init__(kernel, args)
        self._record = Record(wishes.timeline)
        if batch is None:
            use_ahead_provider(self, self._record)
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
        translation = translate(self.config_gen, given(self))
        self._record.note(SEARCH, "space", began)
        plan = plan_of(self, self._wishes, translation)
        evaluator = HelionEvaluator(self, translation, plan.budget.seconds, self._batch)
        options = options_of(self, self._wishes, plan)
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
