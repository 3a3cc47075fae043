"""Whether a remembered search will do in place of the search that is asked for now. Pure: no clock, no files.

There is one rule, for `tune`, for `autotune cache explain` and for decorated kernels: a search that came to its end
and had at least the effort, the budget and the configs that are asked for now. `reuse.KeyedCache.hit` applies it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from autotune.core.config import Config
from autotune.core.outcomes import FailureKind, Timed
from autotune.core.search.effort import EFFORTS
from autotune.core.search.plan import Budget

if TYPE_CHECKING:
    from autotune.shell.cache.cache import CachedMeasurement
    from autotune.shell.cache.entries import Entry, Provenance

ENDED_BY_ITSELF = ("strategy", "exhausted", "effort")
"""Why a search ended that no larger budget would have continued."""

REPEATABLE_FAILURES: frozenset[FailureKind] = frozenset({"compile_error", "run_error", "wrong_answer"})
"""Failures that would come again; the others may be the machine's, and are measured again."""


class Requirements(Struct, frozen=True, kw_only=True):
    """The least that an earlier search must have done to stand in for another one.

    effort: at least this one. budget: at least these limits. configs: measured among others: the user's seeds, and the
    configs of a finite search.
    """

    effort: str
    budget: Budget
    configs: tuple[Config, ...] = ()


def shortfall(entry: "Entry", wanted: Requirements) -> str:
    """How an earlier search falls short of the requirements, in words; "" if it does not.

    A search that ended by itself did all it could, with any budget. Where more configs are wanted than the
    budget allows to measure, as many are required as it allows: a tenth of it may go into simplification, and one
    evaluation is the default config.
    """
    run, budget = entry.run, wanted.budget
    if not entry.finished:
        return "it did not come to its end"
    if EFFORTS.index(run.effort) < EFFORTS.index(wanted.effort):
        return f"its effort was {run.effort!r}, and {wanted.effort!r} is asked for"
    if run.stopped not in ENDED_BY_ITSELF and not _allows(run.budget, budget):
        return f"it was allowed {_limits(run.budget)}, and {_limits(budget)} is asked for"
    asked = {config.digest for config in wanted.configs}
    if not asked:
        return ""
    considered = {*entry.taken, *(m.config.digest for m in entry.measurements), *_left_out(run)}
    measured = asked & considered
    most = budget.evaluations
    needed = len(asked) if most is None else min(len(asked), max(most - 1 - most // 10, 1))
    if len(measured) < needed:
        return f"it measured {len(measured)} of the {len(asked)} configs that are asked for"
    return ""


def _left_out(run: "Provenance") -> list[str]:
    """The digests of the configs that a finite search knew not to be worth a measurement."""
    configs = None if run.strategy is None else run.strategy.settings.get("left_out")
    return [Config(one).digest for one in configs if isinstance(one, dict)] if isinstance(configs, list | tuple) else []


def reusable(measurements: Iterable["CachedMeasurement"]) -> list["CachedMeasurement"]:
    """The measurements that need not be made again: times, and repeatable failures of runs with a time."""
    found = [(one, one.measurement.outcome) for one in measurements]
    working = {one.run.id for one, outcome in found if isinstance(outcome, Timed)}
    return [
        one
        for one, outcome in found
        if isinstance(outcome, Timed) or (outcome.kind in REPEATABLE_FAILURES and one.run.id in working)
    ]


def _limits(budget: Budget) -> str:
    said = [f"{limit:g} {name}" for name, limit in structs.asdict(budget).items() if limit is not None]
    return " and ".join(said) or "no limit"


def _allows(had: Budget, asked: Budget) -> bool:
    """Whether one budget has at least the limits of another."""
    limits = zip(structs.astuple(had), structs.astuple(asked), strict=True)
    return all(mine is None or (other is not None and mine >= other) for mine, other in limits)
