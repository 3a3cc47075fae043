"""The budget that a search has left: evaluations, seconds, and the limits of a single compile or run."""

from collections.abc import Sequence
from statistics import median

import numpy as np

from autotune.core.search.messages import Limits
from autotune.core.search.state import Search
from autotune.core.statistics import LARGEST
from autotune.core.strategies.protocol import AdaptsCompileTimeout

STARTING_S = 0.2
"""Seconds that an evaluator needs to prepare one config of a comparison: a process, its arguments, a warm-up."""

TOGETHER = 2
"""Evaluations of simplification besides one for each parameter: sets of parameters put back together."""

_STRAGGLER, _STRAGGLER_S, _COMPILES = 5.0, 10.0, 5
"""A compile is a straggler after five times the median of at least five others, and after ten seconds at least: the
slowest of the useful configs take a few times the median, and short compiles vary more."""


def deadline(search: Search) -> float | None:
    """When everything must be over, in seconds on the search's clock."""
    return search.plan.budget.seconds


def search_deadline(search: Search) -> float | None:
    """When the current step must be over, in seconds on the search's clock.

    The deadline less the time that the verification seems to need (at least the share `reserve`, at most a third of
    the budget) and, while the strategy goes on, less the time for simplification (at most a tenth).
    """
    seconds, settings = search.plan.budget.seconds, search.plan.settings
    if seconds is None:
        return None
    ends = seconds
    if not settings.exact and settings.verify_rounds:
        ends -= max(min(verification_seconds(search), seconds / 3), seconds * settings.reserve)
    return ends if search.concluded is not None else ends - simplification_seconds(search)


def verification_seconds(search: Search) -> float:
    """Estimated seconds to build the finalists, where they must be built again, and to time them for a few rounds."""
    if search.best_ms is None:
        return 0.0
    settings = search.plan.settings
    configs = settings.finalists + 2  # the default, and the result of simplification
    building = search.archive.typical_compile_s if settings.rebuild else 0.0
    return configs * (building + STARTING_S + min(settings.verify_rounds, 5) * sample_seconds(search))


def sample_seconds(search: Search) -> float:
    """Estimated seconds of one sample of a near-best config in a comparison, with one run to warm up."""
    return 2 * (search.best_ms or 0.0) / 1000


def simplification_reserve(search: Search) -> int:
    """Evaluations kept for simplification: one for each parameter and TOGETHER more, at most a tenth of the budget."""
    plan = search.plan
    if plan.budget.evaluations is None or not _simplifies(search):
        return 0
    return min(len(plan.space.names) + TOGETHER, plan.budget.evaluations // 10)


def simplification_seconds(search: Search) -> float:
    """Seconds kept for simplification at the pace of the search so far; at most a tenth of the budget."""
    if not _simplifies(search) or not search.observed:
        return 0.0
    pace = search.clock / search.observed
    compared = 0.0 if search.plan.settings.exact else verification_seconds(search)
    return min((len(search.plan.space.names) + TOGETHER) * pace + compared, (search.plan.budget.seconds or 0.0) / 10)


def _simplifies(search: Search) -> bool:
    return bool(search.plan.settings.simplify_rounds) and search.plan.space.default is not None


def remaining_evaluations(search: Search, reserved: bool = True) -> int | None:
    """How many more configs may be measured; None: no limit. reserved: keep the evaluations of simplification.

    Configs that the search had not asked for cost it nothing.
    """
    evaluations = search.plan.budget.evaluations
    if evaluations is None:
        return None
    return evaluations - (len(search.trials) - search.told) - (simplification_reserve(search) if reserved else 0)


def limits_for(search: Search, generation: int = 0) -> Limits:
    """The limits of a batch that is requested now; `generation` 0 is the initial population."""
    settings = search.plan.settings
    cutoff, near = (
        None if factor is None or search.best_ms is None else min(search.best_ms * factor, LARGEST)
        for factor in (settings.cutoff_factor, settings.near_factor)
    )
    return Limits(compile_timeout(search) if generation > 0 else settings.compile_timeout_s, cutoff, near)


def compile_timeout(search: Search) -> float:
    """The compile timeout in seconds: min(max(quantile of compile times, lower bound), setting).

    Strategies with a population have `compile_timeout_quantile` and `compile_timeout_lower_bound`; the others keep the
    setting.
    """
    original = search.plan.settings.compile_timeout_s
    strategy = search.plan.strategy
    if not isinstance(strategy, AdaptsCompileTimeout):
        return original
    archive = search.archive
    times = archive.compile_s[archive.ok]
    if not len(times):
        return original
    quantile = float(np.quantile(times, strategy.compile_timeout_quantile))
    return min(max(quantile, float(strategy.compile_timeout_lower_bound)), original)


def straggler_timeout(compile_s: Sequence[float], original_s: float) -> float:
    """The compile timeout of an evaluator that compiles many configs side by side: a straggler must not hold them up.

    compile_s: seconds of the compiles that have worked, in any order. It is _STRAGGLER times their median, at least
    _STRAGGLER_S and at most the original timeout; the original one while there are fewer than _COMPILES.
    """
    if len(compile_s) < _COMPILES:
        return original_s
    return min(original_s, max(_STRAGGLER_S, _STRAGGLER * median(compile_s)))
