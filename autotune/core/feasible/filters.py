"""What a constraint says of a partial point: whether any completion could still satisfy it.

A constraint over few combinations becomes a table, whose projections answer exactly; membership in rows is projected
the same way; a large expression is bounded by interval arithmetic, an equation also by what is reachable; and a
complete point is simply judged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autotune.core.constraints.kinds import Members, among
from autotune.core.constraints.verdicts import NO, RAISES, unique
from autotune.core.feasible.compiled import Judge, Ranks
from autotune.core.feasible.equations import Equation, reach
from autotune.core.feasible.intervals import Bounds, bounds

FAST_GRID = 1 << 18
UNARY_GRID = 1 << 22
SLOW_GRID = 1 << 14
"""A constraint over at most this many combinations is tabulated: more of one parameter alone, fewer where each costs a
call of Python."""


class Filter(Protocol):
    """A necessary condition on the named ranks."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names it reads, at least one."""

    def keep(self, ranks: Mapping[str, Ranks]) -> NDArray[np.bool_]:
        """Which of n partial points may still become valid, shape [n]."""


@dataclass(frozen=True, eq=False)
class Grid:
    """allowed: for every combination of ranks, one axis a name, whether a completion may satisfy the constraint."""

    names: tuple[str, ...]
    allowed: NDArray[np.bool_]
    raises: bool = False

    def onto(self, bound: frozenset[str]) -> "Grid":
        """The projection on the names among `bound`."""
        gone = tuple(i for i, name in enumerate(self.names) if name not in bound)
        allowed = np.asarray(self.allowed.any(axis=gone)) if gone else self.allowed
        return Grid(tuple(name for name in self.names if name in bound), allowed)

    def keep(self, ranks: Mapping[str, Ranks]) -> NDArray[np.bool_]:
        """See Filter."""
        key = mixed(ranks, self.names, self.allowed.shape)
        found: NDArray[np.bool_] = self.allowed.reshape(-1)[key]
        return found


@dataclass(frozen=True, eq=False)
class Rows:
    """keys: the sorted joint ranks, over the names with the given sizes, that occur among the allowed rows."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    keys: Ranks

    def keep(self, ranks: Mapping[str, Ranks]) -> NDArray[np.bool_]:
        """See Filter."""
        return among(mixed(ranks, self.names, self.sizes), self.keys)


@dataclass(frozen=True, eq=False)
class Judged:
    """A constraint with all names bound. A verdict that raises is kept: another constraint may yet be its guard."""

    judge: Judge

    @property
    def names(self) -> tuple[str, ...]:
        """See Filter."""
        return self.judge.names

    def keep(self, ranks: Mapping[str, Ranks]) -> NDArray[np.bool_]:
        """See Filter."""
        open_: NDArray[np.bool_] = self.judge.ranks(ranks) != NO
        return open_


@dataclass(frozen=True, eq=False)
class Bounded:
    """Interval arithmetic with the other names anywhere within their values."""

    names: tuple[str, ...]
    bounds: Bounds

    def keep(self, ranks: Mapping[str, Ranks]) -> NDArray[np.bool_]:
        """See Filter."""
        n = len(ranks[self.names[0]])
        return np.broadcast_to(self.bounds({name: ranks[name] for name in self.names}), (n,))


def mixed(ranks: Mapping[str, Ranks], names: Sequence[str], sizes: Sequence[int]) -> Ranks:
    """Mixed-radix ranks [n] over the names, first most significant."""
    key = ranks[names[0]]
    for name, size in zip(names[1:], sizes[1:], strict=True):
        key = key * size + ranks[name]
    return key


def digits(keys: Ranks, sizes: Sequence[int]) -> list[Ranks]:
    """The ranks that `mixed` joined."""
    found = []
    for size in reversed(sizes[1:]):
        keys, digit = np.divmod(keys, size)
        found.append(digit)
    return [keys, *found[::-1]]


def grid(judge: Judge) -> Grid | None:
    """The constraint as a table; None where it has too many combinations."""
    sizes = [judge.parameters[name].size for name in judge.names]
    total = prod(sizes)
    if total > (SLOW_GRID if not judge.fast else UNARY_GRID if len(sizes) == 1 else FAST_GRID):
        return None
    if isinstance(judge.constraint, Members):
        allowed = np.zeros(total, bool)
        allowed[judge.constraint.table] = True
        return Grid(judge.names, allowed.reshape(sizes))
    ranks = [np.broadcast_to(axis, sizes).reshape(-1) for axis in np.ix_(*map(np.arange, sizes))]
    verdicts = judge.ranks(dict(zip(judge.names, ranks, strict=True)))
    return Grid(judge.names, (verdicts != NO).reshape(sizes), bool((verdicts == RAISES).any()))


def partial(judge: Judge, bound: frozenset[str], equation: Equation | None) -> tuple[Filter, ...]:
    """What a constraint that is no table says once the names in `bound` are. equation: the same one, if it is any."""
    known = tuple(name for name in judge.names if name in bound)
    if len(known) == len(judge.names):
        return (Judged(judge),)
    if isinstance(judge.constraint, Members):
        sizes = [judge.parameters[name].size for name in judge.names]
        columns = dict(zip(judge.names, digits(judge.constraint.table, sizes), strict=True))
        kept = tuple(judge.parameters[name].size for name in known)
        return (Rows(known, kept, unique(mixed(columns, known, kept))),)
    within = bounds(judge, frozenset(known))
    reachable = reach(equation, bound) if equation is not None else None
    filters: list[Filter] = [Bounded(known, within)] if within is not None else []
    return (*filters, reachable) if reachable is not None else tuple(filters)


def narrowing(judge: Judge, bound: frozenset[str], name: str, span: int) -> tuple[Filter, ...]:
    """What a constraint that is no table says once the names in `bound` are, one of them to within `span` ranks."""
    known = tuple(each for each in judge.names if each in bound)
    within = bounds(judge, frozenset(known), {name: span})
    return () if within is None else (Bounded(known, within),)
