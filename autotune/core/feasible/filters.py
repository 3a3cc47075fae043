"""Filters on partial points: whether any completion of a partial point could still satisfy a constraint.

A constraint over few combinations becomes a table, whose projections answer exactly. Membership in rows is projected
in the same way. A larger expression is bounded by interval arithmetic, an equation also by the values that its unbound
terms can reach. A constraint whose names are all bound is evaluated.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from autotune.core.constraints.kinds import Members
from autotune.core.constraints.verdicts import NO, RAISES
from autotune.core.feasible.compiled import CompiledConstraint
from autotune.core.feasible.equations import Equation, completing_values
from autotune.core.feasible.intervals import interval_test
from autotune.core.points import Ranks, is_among, join_ranks, sorted_unique, split_ranks

FAST_TABLE = 1 << 18
UNARY_TABLE = 1 << 22
SLOW_TABLE = 1 << 14
"""A constraint over at most this many combinations is tabulated: one that columns evaluate, one that reads a single
parameter, and one that costs a call of Python for each combination. A table takes some tens of milliseconds at most."""


@dataclass(frozen=True, eq=False)
class Filter:
    """A necessary condition on the ranks of some names, at least one.

    keep: from these ranks [n] by name to which of n partial points may still become valid, a mask [n].
    """

    names: tuple[str, ...]
    keep: Callable[[Mapping[str, Ranks]], NDArray[np.bool_]]


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

    @property
    def filter(self) -> Filter:
        """The condition that a combination is allowed."""
        names, sizes, allowed = self.names, self.allowed.shape, self.allowed.reshape(-1)
        return Filter(names, lambda ranks: allowed[join_ranks([ranks[name] for name in names], sizes)])


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
    if len(known) == len(constraint.names):  # a point where it raises is kept: another constraint may be its guard
        return (Filter(known, lambda ranks: constraint.verdicts_of_ranks(ranks) != NO),)
    if isinstance(constraint.constraint, Members):
        columns = dict(zip(constraint.names, split_ranks(constraint.constraint.table, constraint.sizes), strict=True))
        sizes = tuple(constraint.parameters[name].size for name in known)
        rows = sorted_unique(join_ranks([columns[name] for name in known], sizes))
        return (Filter(known, lambda ranks: is_among(join_ranks([ranks[name] for name in known], sizes), rows)),)
    found = _interval_filters(constraint, known, {})
    return found if equation is None else (*found, *_equation_filters(equation, bound))


def span_filters(constraint: CompiledConstraint, bound: frozenset[str], name: str, span: int) -> tuple[Filter, ...]:
    """The same where one of the bound names is known only to within `span` ranks."""
    return _interval_filters(constraint, tuple(each for each in constraint.names if each in bound), {name: span})


def _interval_filters(
    constraint: CompiledConstraint, known: tuple[str, ...], spans: Mapping[str, int]
) -> tuple[Filter, ...]:
    """Interval arithmetic with the other names anywhere within their values."""
    test = interval_test(constraint, frozenset(known), spans)
    if test is None:
        return ()
    return (Filter(known, lambda ranks: np.broadcast_to(test(ranks), ranks[known[0]].shape)),)


def _equation_filters(equation: Equation, bound: frozenset[str]) -> tuple[Filter, ...]:
    """The bound terms, combined, must be among the values that the others can complete to the target."""
    wanted = completing_values(equation, bound)
    if wanted is None:
        return ()
    known = tuple(name for name in equation.terms if name in bound)

    def keep(ranks: Mapping[str, Ranks]) -> NDArray[np.bool_]:
        total = equation.total(ranks, known)
        return is_among(total if equation.modulus is None else total % equation.modulus, wanted)

    return (Filter(known, keep),)
