"""Whether a remembered search will do in place of the search that is asked for now. Pure: no clock, no files.

There is one rule, for `tune`, for `autotune cache explain` and for decorated kernels: a search that came to its end
and had at least the effort, the budget and the configs that are asked for now. `reuse.KeyedCache.hit` applies it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Struct

from autotune.core.config import Config
from autotune.core.outcomes import FailureKind, Timed
from autotune.core.search.effort import EFFORTS
from autotune.core.search.plan import Budget

if TYPE_CHECKING:
    from autotune.shell.cache.cache import CachedMeasurement
    from autotune.shell.cache.entries import Entry, Provenance

ENDED_BY_ITSELF = ("strategy", "exhausted", "effort")
"""Why a search ended that no larger budget would have continued."""

_LIMITS = ("evaluations", "seconds", "generations")
"""The limits of a budget that bound the work."""

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
    considered = {*entry.taken, *(m.config.digest for m in entry.measurements), *_judged(run)}
    measured = asked & considered
    most = budget.evaluations
    needed = len(asked) if most is None else min(len(asked), max(most - 1 - most // 10, 1))
    if len(measured) < needed:
        return f"it measured {len(measured)} of the {len(asked)} configs that are asked for"
    return ""


def _judged(run: "Provenance") -> list[str]:
    """The digests of the configs that a finite search need not measure: known to be slow before it, or believed to be
    after it had measured others."""
    found: list[str] = []
    for name in ("left_out", "configs") if run.stopped == "regret" else ("left_out",):
        configs = None if run.strategy is None else run.strategy.settings.get(name)
        if isinstance(configs, list | tuple):
            found += [Config(one).digest for one in configs if isinstance(one, dict)]
    return found


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
    said = [f"{limit:g} {name}" for name in _LIMITS if (limit := getattr(budget, name)) is not None]
    if budget.regret is not None:
        said.append(f"a regret of {budget.regret:g} with confidence {budget.confidence:g}")
    return " and ".join(said) or "no limit"


def _allows(had: Budget, asked: Budget) -> bool:
    """Whether one budget has at least the limits of another."""
    for name in _LIMITS:
        mine, other = getattr(had, name), getattr(asked, name)
        if mine is not None and (other is None or mine < other):
            return False
    if had.regret is None:
        return True
    return asked.regret is not None and had.regret <= asked.regret and had.confidence >= asked.confidence
