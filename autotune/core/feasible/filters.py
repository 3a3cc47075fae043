"""Filters on partial points: whether any completion of a partial point could still satisfy a constraint.

A constraint over few combinations becomes a table, whose projections answer exactly. Membership in rows is projected
in the same way. A larger expression is bounded by interval arithmetic, an equation also by the values that its unbound
terms can reach. A constraint whose names are all bound is evaluated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autotune.core.constraints.kinds import Members
from autotune.core.constraints.verdicts import NO, RAISES
from autotune.core.feasible.compiled import CompiledConstraint
from autotune.core.feasible.equations import Equation, equation_filter
from autotune.core.feasible.intervals import IntervalTest, interval_test
from autotune.core.points import Ranks, is_among, join_ranks, sorted_unique, split_ranks

FAST_TABLE = 1 << 18
UNARY_TABLE = 1 << 22
SLOW_TABLE = 1 << 14
"""A constraint over at most this many combinations is tabulated: one that columns evaluate, one that reads a single
parameter, and one that costs a call of Python for each combination. A table takes some tens of milliseconds at most."""


class Filter(Protocol):
    """A necessary condition on the ranks of some names."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names that it reads, at least one."""

    def keep(self, ranks: Mapping[str, Ranks]) -> NDArray[np.bool_]:
        """Which of n partial points, ranks [n] by name, may still become valid; shape [n]."""


@dataclass(frozen=True, eq=False)
class AllowedTable:
    """allowed: for every combination of ranks, one axis a name, whether a completion may satisfy the constraint.

    raises: whether evaluating the constraint raises for any combination.
    """

    names: tuple[str, ...]
    allowed: NDArray[np.bool_]
    raises: bool = False

    def project(self, bound: frozenset[str]) -> "AllowedTable":
        """The table over the names among `bound`: which of their combinations occur in an allowed one."""
        unbound = tuple(i for i, name in enumerate(self.names) if name not in bound)
        allowed = np.asarray(self.allowed.any(axis=unbound)) if unbound else self.allowed
        return AllowedTable(tuple(name for name in self.names if name in bound), allowed)

    def keep(self, ranks: Mapping[str, Ranks]) -> NDArray[np.bool_]:
        key = join_ranks([ranks[name] for name in self.names], self.allowed.shape)
        found: NDArray[np.bool_] = self.allowed.reshape(-1)[key]
        return found


@dataclass(frozen=True, eq=False)
class RowsFilter:
    """keys: the ascending joint ranks, over names of these sizes, that occur among the allowed rows."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    keys: Ranks

    def keep(self, ranks: Mapping[str, Ranks]) -> NDArray[np.bool_]:
        return is_among(join_ranks([ranks[name] for name in self.names], self.sizes), self.keys)


@dataclass(frozen=True, eq=False)
class VerdictFilter:
    """A constraint whose names are all bound. A point where it raises is kept: another constraint may be its guard."""

    constraint: CompiledConstraint

    @property
    def names(self) -> tuple[str, ...]:
        return self.constraint.names

    def keep(self, ranks: Mapping[str, Ranks]) -> NDArray[np.bool_]:
        kept: NDArray[np.bool_] = self.constraint.verdicts_of_ranks(ranks) != NO
        return kept


@dataclass(frozen=True, eq=False)
class IntervalFilter:
    """Interval arithmetic with the other names anywhere within their values."""

    names: tuple[str, ...]
    test: IntervalTest

    def keep(self, ranks: Mapping[str, Ranks]) -> NDArray[np.bool_]:
        n = len(ranks[self.names[0]])
        return np.broadcast_to(self.test({name: ranks[name] for name in self.names}), (n,))


def tabulate_constraint(constraint: CompiledConstraint) -> AllowedTable | None:
    """The constraint as a table; None where it has too many combinations."""
    sizes, total = constraint.sizes, prod(constraint.sizes)
    if total > (SLOW_TABLE if not constraint.fast else UNARY_TABLE if len(sizes) == 1 else FAST_TABLE):
        return None
    if isinstance(constraint.constraint, Members):
        allowed = np.zeros(total, bool)
        allowed[constraint.constraint.table] = True
        return AllowedTable(constraint.names, allowed.reshape(sizes))
    ranks = [np.broadcast_to(axis, sizes).reshape(-1) for axis in np.ix_(*map(np.arange, sizes))]
    verdicts = constraint.verdicts_of_ranks(dict(zip(constraint.names, ranks, strict=True)))
    return AllowedTable(constraint.names, (verdicts != NO).reshape(sizes), bool((verdicts == RAISES).any()))


def untabled_filters(
    constraint: CompiledConstraint, bound: frozenset[str], equation: Equation | None
) -> tuple[Filter, ...]:
    """The conditions that a constraint without a table puts on the names in `bound`. equation: it as one, if it is."""
    known = tuple(name for name in constraint.names if name in bound)
    if len(known) == len(constraint.names):
        return (VerdictFilter(constraint),)
    if isinstance(constraint.constraint, Members):
        columns = dict(zip(constraint.names, split_ranks(constraint.constraint.table, constraint.sizes), strict=True))
        sizes = tuple(constraint.parameters[name].size for name in known)
        return (RowsFilter(known, sizes, sorted_unique(join_ranks([columns[name] for name in known], sizes))),)
    test = interval_test(constraint, frozenset(known))
    reachable = equation_filter(equation, bound) if equation is not None else None
    filters: list[Filter] = [IntervalFilter(known, test)] if test is not None else []
    return (*filters, reachable) if reachable is not None else tuple(filters)


def span_filters(constraint: CompiledConstraint, bound: frozenset[str], name: str, span: int) -> tuple[Filter, ...]:
    """The same where one of the bound names is known only to within `span` ranks."""
    known = tuple(each for each in constraint.names if each in bound)
    test = interval_test(constraint, frozenset(known), {name: span})
    return () if test is None else (IntervalFilter(known, test),)
