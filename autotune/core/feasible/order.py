"""In which order to bind the parameters of a component, and what to check once each is bound.

A wide range is bound digit by digit, the most significant one first: interval arithmetic then excludes whole blocks of
its values, so that the few valid ones of 2 ** 40 are found in a few steps.

An order is grown greedily: next comes the parameter after which the fewest partial points are expected to remain, by
the densities of the constraints' tables. All tables that bind at a step are joined into one list of allowed values for
each combination of what is bound already, so that a partial point is only ever extended by values that they allow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Protocol

import numpy as np

from autotune.core.cancellation import checkpoint
from autotune.core.constraints.kinds import Members
from autotune.core.constraints.tables import Array
from autotune.core.feasible.compiled import Judge, Ranks, parts
from autotune.core.feasible.equations import Equation, equation
from autotune.core.feasible.filters import Filter, Grid, digits, grid, narrowing, partial
from autotune.core.keys import Key, integers
from autotune.core.parameters import Integer, Parameter

Choices = tuple[Ranks, Ranks]
"""How many values each of n points may take, shape [n], and all of these values, one point after another."""


class Options(Protocol):
    """The values of one parameter that are left for partial points."""

    @property
    def names(self) -> tuple[str, ...]:
        """The bound names that they depend on."""

    @property
    def fan(self) -> int:
        """About how many a point has."""

    def all(self, live: Mapping[str, Ranks], n: int) -> Choices:
        """All of them for each of n points."""

    def some(self, live: Mapping[str, Ranks], n: int, most: int, key: Key) -> Choices:
        """At most `most` of them a point; drawn at random, with repeats, where there are more."""


@dataclass(frozen=True, eq=False)
class Allowed:
    """The allowed values for each combination of ranks of `names` (of these sizes): values[starts:starts + counts]."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    starts: Ranks
    counts: Ranks
    values: Ranks

    @property
    def fan(self) -> int:
        """See Options."""
        return int(self.counts.mean()) + 1

    def _key(self, live: Mapping[str, Ranks], n: int) -> Ranks:
        key: Ranks = live[self.names[0]] if self.names else np.zeros(n, np.int64)
        for name, size in zip(self.names[1:], self.sizes[1:], strict=True):
            key = key * size + live[name]
        return key

    def all(self, live: Mapping[str, Ranks], n: int) -> Choices:
        """See Options."""
        key = self._key(live, n)
        counts = self.counts[key]
        return counts, self.values[_runs(self.starts[key], counts)]

    def some(self, live: Mapping[str, Ranks], n: int, most: int, key: Key) -> Choices:
        """See Options."""
        if int(self.counts.max(initial=0)) <= most:
            return self.all(live, n)
        where = self._key(live, n)
        counts = self.counts[where]
        few = np.minimum(counts, most)
        places = _runs(np.zeros(n, np.int64), few)
        bounds = np.repeat(counts, few)
        places = np.where(bounds > most, integers(key, bounds), places)
        return few, self.values[np.repeat(self.starts[where], few) + places]


@dataclass(frozen=True, eq=False)
class Solved:
    """The values of `name` that complete an equation whose other names are bound."""

    name: str
    equation: Equation
    order: Ranks
    values: Array

    @property
    def names(self) -> tuple[str, ...]:
        """See Options."""
        return tuple(name for name in self.equation.terms if name != self.name)

    @property
    def fan(self) -> int:
        """See Options."""
        return 1

    def all(self, live: Mapping[str, Ranks], n: int) -> Choices:
        """See Options."""
        equation = self.equation
        total = equation.total(live, self.names)
        if equation.op == "+":
            needed, possible = equation.target - total - equation.constant, np.ones(n, bool)
        else:
            factor = np.where(total == 0, 1, total * equation.constant)
            possible = (total != 0) & (equation.target % factor == 0)
            needed = equation.target // factor
        first = np.searchsorted(self.values, needed, "left")
        counts = np.where(possible, np.searchsorted(self.values, needed, "right") - first, 0)
        return counts, self.order[_runs(first, counts)]

    def some(self, live: Mapping[str, Ranks], n: int, most: int, key: Key) -> Choices:
        """See Options."""
        return self.all(live, n)


def solved(name: str, equation: Equation) -> Solved | None:
    """The equation solved for one of several names; None where a modulus leaves the value open."""
    if equation.modulus is not None or len(equation.terms) < 2:
        return None
    order = np.argsort(equation.terms[name], kind="stable")
    return Solved(name, equation, order, equation.terms[name][order])


def _runs(starts: Ranks, counts: Ranks) -> Ranks:
    """The indices start, start + 1, … of each run, one run after another."""
    ends = np.cumsum(counts)
    places: Ranks = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)
    return places


JOINT = 1 << 18
"""The largest joint table of a step, unless it is of one parameter."""

WIDE, RADIX = 1 << 12, 64
"""Ranges of more values than this are bound by digits of this radix, unless a table or an equation lists them."""

GUESS = 0.5
"""The share of points that a constraint without a table is taken to keep."""


@dataclass(frozen=True, eq=False)
class Step:
    """Bind `name` to its `allowed` values (None: to any of `size`), then filter. live: names needed after it.

    stride: how many ranks a value stands for, more than one for the upper digits of a wide range. continued: whether
    the values add to what earlier digits have bound. below: what the rank so bound is less than, where not all are.
    """

    name: str
    size: int
    allowed: Options | None
    filters: tuple[Filter, ...]
    live: frozenset[str]
    stride: int = 1
    continued: bool = False
    below: int | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """The steps of a component. seed: the ranks [n] that the first names start from, filtered already, if any."""

    seed: dict[str, Ranks] | None
    steps: tuple[Step, ...]
    raising: tuple[Judge, ...]


class _Planner:
    """Works out one plan."""

    def __init__(self, parameters: dict[str, Parameter], judges: Sequence[Judge], grids: dict[int, Grid]) -> None:
        self.parameters = parameters
        self.grids = [grids[id(judge)] for judge in judges if id(judge) in grids]
        self.others = [judge for judge in judges if id(judge) not in grids]
        self.equations = {id(judge): equation(judge) for judge in self.others}
        self._projections: dict[tuple[int, frozenset[str]], tuple[Grid, float]] = {}

    def partial(self, judge: Judge, bound: frozenset[str]) -> tuple[Filter, ...]:
        """What a constraint without a table says once these names are bound."""
        return partial(judge, bound, self.equations[id(judge)])

    def projected(self, table: Grid, bound: frozenset[str]) -> tuple[Grid, float]:
        """The projection of a table on the bound names, and the share of combinations that it allows."""
        key = (id(table), bound & frozenset(table.names))
        if key not in self._projections:
            found = table.onto(key[1])
            self._projections[key] = found, np.count_nonzero(found.allowed) / found.allowed.size
        return self._projections[key]

    def growth(self, name: str, bound: frozenset[str]) -> float:
        """By how much binding `name` multiplies the number of partial points, as the tables have it."""
        after, factor = bound | {name}, float(self.parameters[name].size)
        for table in self.grids:
            if name in table.names:
                factor *= self.projected(table, after)[1] / max(self.projected(table, bound)[1], 1e-12)
        for judge in self.others:
            if name in judge.names and after.issuperset(judge.names):
                factor *= GUESS
        return factor

    def order(self, bound: frozenset[str]) -> list[str]:
        """The names not bound yet, in the order to bind them: those next to bound ones, the slowest growth first."""
        found: list[str] = []
        rest = [name for name in self.parameters if name not in bound]
        while rest:
            checkpoint()
            near = [name for name in rest if self._touches(name, bound)] or rest
            name = min(near, key=lambda name: self.growth(name, bound))
            rest.remove(name)
            found.append(name)
            bound |= {name}
        return found

    def _touches(self, name: str, bound: frozenset[str]) -> bool:
        constraints: list[tuple[str, ...]] = [t.names for t in self.grids] + [j.names for j in self.others]
        return any(name in names and not bound.isdisjoint(names) for names in constraints)

    def step(self, name: str, bound: frozenset[str]) -> tuple[Options | None, tuple[Filter, ...]]:
        """What is allowed and what is filtered when `name` is bound after `bound`."""
        after = bound | {name}
        tables = [self.projected(table, after)[0] for table in self.grids if name in table.names]
        tables = sorted((t for t in tables if not t.allowed.all()), key=lambda t: t.allowed.size)
        joined: list[Grid] = []
        for table in tables:
            names = dict.fromkeys(n for t in [*joined, table] for n in t.names)
            if len(names) == 1 or prod(self.parameters[n].size for n in names) <= JOINT:
                joined.append(table)
        filters: list[Filter] = [table for table in tables if table not in joined]
        filters += [each for judge in self.others if name in judge.names for each in self.partial(judge, after)]
        return self._allowed(name, joined) if joined else self._solved(name, after), tuple(filters)

    def digits(self, name: str, bound: frozenset[str], last: tuple[Filter, ...]) -> list[Step]:
        """The steps that bind a wide range after `bound`; last: the filters once it is bound. Nothing is live yet."""
        size, after = self.parameters[name].size, bound | {name}
        stride = 1
        while stride * RADIX < size:
            stride *= RADIX
        steps, continued = [], False
        while stride:
            filters: list[Filter] = []
            if stride > 1:
                filters += [
                    each for judge in self.others if name in judge.names
                    for each in narrowing(judge, after, name, stride)
                ]  # fmt: skip
            count = min(RADIX, -(-size // stride))
            kept = tuple(filters) if stride > 1 else (*filters, *last)
            steps.append(Step(name, count, None, kept, frozenset(), stride, continued, size))
            stride, continued = stride // RADIX, True
        return steps

    def _solved(self, name: str, after: frozenset[str]) -> Options | None:
        for judge in self.others:
            found = self.equations[id(judge)] if name in judge.names and after.issuperset(judge.names) else None
            options = solved(name, found) if found is not None else None
            if options is not None:
                return options
        return None

    def _allowed(self, name: str, tables: Sequence[Grid]) -> Allowed:
        others = [n for n in self.parameters if n != name and any(n in table.names for table in tables)]
        axes = [*others, name]
        joint = np.ones([self.parameters[n].size for n in axes], bool)
        for table in tables:
            order = [table.names.index(n) for n in axes if n in table.names]
            shape = [self.parameters[n].size if n in table.names else 1 for n in axes]
            joint &= table.allowed.transpose(order).reshape(shape)
        size = self.parameters[name].size
        cells = np.flatnonzero(joint)
        rows = cells // size
        counts = np.bincount(rows, minlength=joint.size // size)
        sizes = tuple(self.parameters[n].size for n in others)
        return Allowed(tuple(others), sizes, np.cumsum(counts) - counts, counts, cells - rows * size)


def plan(parameters: dict[str, Parameter], constraints: Sequence[Judge]) -> Plan:
    """The plan for the points over `parameters` (in their order) that satisfy all judges."""
    judges = [part for whole in constraints for part in parts(whole)]
    grids = {id(judge): found for judge in judges if (found := grid(judge)) is not None}
    planner = _Planner(parameters, judges, grids)
    seeds = [judge for judge in planner.others if isinstance(judge.constraint, Members)]
    seed, filters = _seed(max(seeds, key=lambda judge: len(judge.names)), planner) if seeds else (None, ())
    bound = frozenset(seed or ())
    order = planner.order(bound)
    drafts: list[Step] = []
    for name in order:
        allowed, checks = planner.step(name, bound)
        if allowed is None and isinstance(parameters[name], Integer) and parameters[name].size > WIDE:
            drafts += planner.digits(name, bound, checks)
        else:
            drafts.append(Step(name, parameters[name].size, allowed, checks, frozenset()))
        bound |= {name}
    steps, live = [], frozenset[str]()
    for draft in reversed(drafts):
        steps.append(replace(draft, live=live))
        live |= {n for check in draft.filters for n in check.names} | set(draft.allowed.names if draft.allowed else ())
        live |= {draft.name} if draft.continued else set()
    raising = tuple(judge for judge in judges if (g := grids.get(id(judge))) is None or g.raises)
    if seed is not None:
        for check in filters:
            if not len(next(iter(seed.values()))):
                break
            keep = check.keep(seed)
            seed = {name: ranks[keep] for name, ranks in seed.items()}
    return Plan(seed, tuple(reversed(steps)), tuple(j for j in raising if not isinstance(j.constraint, Members)))


def _seed(judge: Judge, planner: _Planner) -> tuple[dict[str, Ranks], tuple[Filter, ...]]:
    """The rows of a Members constraint, and what the other constraints say of its names."""
    assert isinstance(judge.constraint, Members)
    sizes = [judge.parameters[name].size for name in judge.names]
    bound = frozenset(judge.names)
    seed = dict(zip(judge.names, digits(judge.constraint.table, sizes), strict=True))
    filters: list[Filter] = [planner.projected(t, bound)[0] for t in planner.grids if bound.intersection(t.names)]
    for other in planner.others:
        if other is not judge and bound.intersection(other.names):
            filters += planner.partial(other, bound)
    return seed, tuple(filters)
