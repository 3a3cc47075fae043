"""How long the steps after the search for better configs will take: simplification and the comparisons at the end.

Estimates for people: no decision of the search depends on them.
"""

from autotune.core.search.limits import STARTING_S, TOGETHER, sample_seconds
from autotune.core.search.plan import Plan
from autotune.core.search.state import SIMPLIFY, Search
from autotune.core.strategies.random_search import FiniteSearch, RandomSearch

CERTIFYING_ROUNDS = 8
"""Rounds of one comparison of a verification that goes on until it is certain: those of its first."""


def evaluation_limit(plan: Plan) -> int | None:
    """How many configs the search measures at most, by its budget or its strategy's list; None: no such limit."""
    if not plan.settings.search:
        return 1
    limits = [] if plan.budget.evaluations is None else [plan.budget.evaluations]
    strategy = plan.strategy
    if isinstance(strategy, RandomSearch) and not plan.settings.restarts:
        limits.append(min(strategy.count, plan.space.size))
    elif isinstance(strategy, FiniteSearch):
        default = plan.space.default
        limits.append(len(strategy.configs) + (default is not None and dict(default) not in strategy.configs))
    return min(limits, default=None)


def finish_seconds(search: Search) -> float:
    """Estimated seconds, on the search's clock, that the steps after the strategy's last trial still take.

    0 where nothing is timed yet. A comparison under way counts in full: it began with the last event.
    """
    if search.best_ms is None:
        return 0.0
    settings = search.plan.settings
    purpose = None if search.comparing is None else search.comparing.purpose
    if settings.exact or not settings.verify_rounds:
        comparisons, rounds = 0, 0
    elif search.interrupted:
        comparisons, rounds = int(search.verified is None), settings.hurried_rounds
    elif settings.certifies:
        comparisons, rounds = (
            max(settings.processes - len(search.verifying), int(purpose == "verify")),
            CERTIFYING_ROUNDS,
        )
    else:
        comparisons, rounds = int(search.verified is None), settings.verify_rounds
    before = purpose != "verify" and not search.verifying and search.verified is None and not search.interrupted
    resets = 0.0
    if before and settings.simplify_rounds and search.plan.space.default is not None:
        tried = sum(trial.origin == SIMPLIFY for trial in search.trials[-len(search.plan.space.names) - TOGETHER :])
        pace = search.clock / search.observed if search.observed else 0.0
        resets = max(len(search.plan.space.names) + TOGETHER - tried, 0) * pace
        comparisons += int(comparisons > 0)
    if before and comparisons and search.qualified is None:
        comparisons += 1
    building = search.archive.typical_compile_s if settings.rebuild else 0.0
    each = (settings.finalists + 2) * (building + STARTING_S + rounds * sample_seconds(search))
    return resets + comparisons * each
