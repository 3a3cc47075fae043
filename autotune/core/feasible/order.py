"""The order in which the parameters of a component are bound, and the checks after each binding.

The order is built greedily: next comes the parameter after which the fewest partial points are expected to remain,
estimated from the densities of the constraints' tables (the dynamic "fail first" principle of Haralick and Elliott,
"Increasing tree search efficiency for constraint satisfaction problems", Artificial Intelligence 14, 1980). All tables
that bind at a step are joined into one list of allowed values for each combination of the names bound before, so that a
partial point is extended only by values that they all allow.

A wide range is bound digit by digit, the most significant first: interval arithmetic then excludes whole blocks of its
values, so that the few valid ones among 2 ** 40 are found in a few steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Protocol

import numpy as np

from autotune.core.cancellation import checkpoint
from autotune.core.constraints.kinds import Members
from autotune.core.constraints.tables import Array
from autotune.core.feasible.compiled import CompiledConstraint, split_conjuncts
from autotune.core.feasible.equations import Equation, as_equation
from autotune.core.feasible.filters import (
    AllowedTable,
    Filter,
    span_filters,
    tabulate_constraint,
    untabled_filters,
)
from autotune.core.keys import Key, integers
from autotune.core.parameters import Integer, Parameter
from autotune.core.points import Ranks, join_ranks, split_ranks

JOINT_TABLE = 1 << 18
"""The most combinations of the joint table of a step, unless it is of one parameter: as many as one table may have."""

WIDE, RADIX = 1 << 12, 64
"""Ranges of more values than this are bound by digits of this radix, unless a table or an equation lists them."""

GUESS = 0.5
"""The share of points that a constraint without a table is taken to keep."""

Choices = tuple[Ranks, Ranks]
"""The number of values that each of n points may take, shape [n], and all of these values, one point after another."""


class CandidateValues(Protocol):
    """The values of one parameter that are left for partial points, given by the ranks of their bound names."""

    @property
    def names(self) -> tuple[str, ...]:
        """The bound names that the values depend on."""

    @property
    def fan(self) -> int:
        """About how many values a point has."""

    def all(self, live: Mapping[str, Ranks], n: int) -> Choices:
        """All values of each of n points."""

    def some(self, live: Mapping[str, Ranks], n: int, most: int, key: Key) -> Choices:
        """At most `most` values a point; drawn at random, with repeats, where there are more."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ListedValues:
    """The allowed values for each combination of ranks of `names`, of these sizes: values[starts:starts + counts]."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    starts: Ranks
    counts: Ranks
    values: Ranks

    @property
    def fan(self) -> int:
        return int(self.counts.mean()) + 1

    def _combination(self, live: Mapping[str, Ranks], n: int) -> Ranks:
        if not self.names:
            return np.zeros(n, np.int64)
        return join_ranks([live[name] for name in self.names], self.sizes)

    def all(self, live: Mapping[str, Ranks], n: int) -> Choices:
        key = self._combination(live, n)
        counts = self.counts[key]
        return counts, self.values[_runs(self.starts[key], counts)]

    def some(self, live: Mapping[str, Ranks], n: int, most: int, key: Key) -> Choices:
        if int(self.counts.max(initial=0)) <= most:
            return self.all(live, n)
        where = self._combination(live, n)
        counts = self.counts[where]
        few = np.minimum(counts, most)
        places = _runs(np.zeros(n, np.int64), few)
        bounds = np.repeat(counts, few)
        places = np.where(bounds > most, integers(key, bounds), places)
        return few, self.values[np.repeat(self.starts[where], few) + places]


@dataclass(frozen=True, eq=False, kw_only=True)
class SolvedValues:
    """The values of `name` that complete an equation whose other names are bound.

    order, values: the ranks of the parameter sorted by the values of its term, and these values.
    """

    name: str
    equation: Equation
    order: Ranks
    values: Array

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in self.equation.terms if name != self.name)

    @property
    def fan(self) -> int:
        return 1

    def all(self, live: Mapping[str, Ranks], n: int) -> Choices:
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
        return self.all(live, n)


def solve_for(name: str, equation: Equation) -> SolvedValues | None:
    """The equation solved for one of several names; None where a modulus leaves the value open."""
    if equation.modulus is not None or len(equation.terms) < 2:
        return None
    order = np.argsort(equation.terms[name], kind="stable")
    return SolvedValues(name=name, equation=equation, order=order, values=equation.terms[name][order])


def _runs(starts: Ranks, counts: Ranks) -> Ranks:
    """The indices start, start + 1, … of each run, one run after another."""
    ends = np.cumsum(counts)
    places: Ranks = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)
    return places


@dataclass(frozen=True, eq=False, kw_only=True)
class BindingStep:
    """Bind `name` to its candidate values (None: to any of `size`), then filter.

    live: the names whose ranks later steps need. stride: how many ranks a value stands for, more than one for the upper
    digits of a wide range. continued: whether the values add to what earlier digits have bound. below: an upper limit
    of the rank so bound, for the digits of a wide range.
    """

    name: str
    size: int
    candidates: CandidateValues | None
    filters: tuple[Filter, ...]
    live: frozenset[str] = frozenset()
    stride: int = 1
    continued: bool = False
    below: int | None = None


@dataclass(frozen=True, eq=False)
class BindingOrder:
    """The steps of a component. seed: the ranks [n] that the first names start from, filtered already, if any.

    raising: the constraints that may raise at a complete point.
    """

    seed: dict[str, Ranks] | None
    steps: tuple[BindingStep, ...]
    raising: tuple[CompiledConstraint, ...]


def plan_order(parameters: dict[str, Parameter], constraints: Sequence[CompiledConstraint]) -> BindingOrder:
    """The order for the points over `parameters`, in the order of the space, that satisfy all constraints."""
    conjuncts = [conjunct for whole in constraints for conjunct in split_conjuncts(whole)]
    planner = _Planner(parameters, conjuncts)
    seed = planner.seed()
    bound = frozenset(seed or ())
    drafts: list[BindingStep] = []
    for name in planner.order(bound):
        drafts += planner.steps(name, bound)
        bound |= {name}
    steps, live = [], frozenset[str]()
    for draft in reversed(drafts):
        steps.append(replace(draft, live=live))
        live |= {name for check in draft.filters for name in check.names}
        live |= set(draft.candidates.names if draft.candidates else ())
        live |= {draft.name} if draft.continued else set()
    return BindingOrder(seed, tuple(reversed(steps)), tuple(planner.raising))


class _Planner:
    """The tables and equations of a component's constraints, and the greedy order that follows from them."""

    def __init__(self, parameters: dict[str, Parameter], conjuncts: Sequence[CompiledConstraint]) -> None:
        self.parameters = parameters
        self.tables: list[AllowedTable] = []
        self.untabled: list[CompiledConstraint] = []
        self.raising: list[CompiledConstraint] = []
        for conjunct in conjuncts:
            table = tabulate_constraint(conjunct)
            if table is None:
                self.untabled.append(conjunct)
            else:
                self.tables.append(table)
            if not conjunct.safe and (table is None or table.raises):
                self.raising.append(conjunct)
        self.equations = {id(conjunct): as_equation(conjunct) for conjunct in self.untabled}
        self._projections: dict[tuple[int, frozenset[str]], tuple[AllowedTable, float]] = {}

    def seed(self) -> dict[str, Ranks] | None:
        """The ranks of the set of rows over the most names, filtered by the other constraints; None without any set."""
        sets = [conjunct for conjunct in self.untabled if isinstance(conjunct.constraint, Members)]
        if not sets:
            return None
        chosen = max(sets, key=lambda conjunct: len(conjunct.names))
        assert isinstance(chosen.constraint, Members)
        bound = frozenset(chosen.names)
        seed = dict(zip(chosen.names, split_ranks(chosen.constraint.table, chosen.sizes), strict=True))
        filters: list[Filter] = [self._project(t, bound)[0].filter for t in self.tables if bound.intersection(t.names)]
        for other in self.untabled:
            if other is not chosen and bound.intersection(other.names):
                filters += untabled_filters(other, bound, self.equations[id(other)])
        for check in filters:
            if not len(seed[chosen.names[0]]):
                break
            keep = check.keep(seed)
            seed = {name: ranks[keep] for name, ranks in seed.items()}
        return seed

    def order(self, bound: frozenset[str]) -> list[str]:
        """The names not bound yet, in the order to bind them: those that share a constraint with a bound one first, and
        among these the one with the slowest growth."""
        found: list[str] = []
        rest = [name for name in self.parameters if name not in bound]
        while rest:
            checkpoint()
            near = [name for name in rest if self._touches(name, bound)] or rest
            name = min(near, key=lambda name: self._growth(name, bound))
            rest.remove(name)
            found.append(name)
            bound |= {name}
        return found

    def _touches(self, name: str, bound: frozenset[str]) -> bool:
        constraints = [t.names for t in self.tables] + [c.names for c in self.untabled]
        return any(name in names and not bound.isdisjoint(names) for names in constraints)

    def _growth(self, name: str, bound: frozenset[str]) -> float:
        """The factor by which binding `name` multiplies the number of partial points, estimated from the tables."""
        after, factor = bound | {name}, float(self.parameters[name].size)
        for table in self.tables:
            if name in table.names:
                factor *= self._project(table, after)[1] / max(self._project(table, bound)[1], 1e-12)
        for constraint in self.untabled:
            if name in constraint.names and after.issuperset(constraint.names):
                factor *= GUESS
        return factor

    def _project(self, table: AllowedTable, bound: frozenset[str]) -> tuple[AllowedTable, float]:
        """The projection of a table on the bound names, and the share of combinations that it allows."""
        key = (id(table), bound & frozenset(table.names))
        if key not in self._projections:
            found = table.project(key[1])
            self._projections[key] = found, np.count_nonzero(found.allowed) / found.allowed.size
        return self._projections[key]

    def steps(self, name: str, bound: frozenset[str]) -> list[BindingStep]:
        """The steps that bind `name` after `bound`: one, or one a digit. Their `live` is set later."""
        after, parameter = bound | {name}, self.parameters[name]
        tables = [self._project(table, after)[0] for table in self.tables if name in table.names]
        tables = sorted((t for t in tables if not t.allowed.all()), key=lambda t: t.allowed.size)
        joined: list[AllowedTable] = []
        for table in tables:
            names = dict.fromkeys(n for t in [*joined, table] for n in t.names)
            if len(names) == 1 or prod(self.parameters[n].size for n in names) <= JOINT_TABLE:
                joined.append(table)
        filters: list[Filter] = [table.filter for table in tables if table not in joined]
        for constraint in self.untabled:
            if name in constraint.names:
                filters += untabled_filters(constraint, after, self.equations[id(constraint)])
        candidates = self._join_tables(name, joined) if joined else self._solve(name, after)
        if candidates is None and isinstance(parameter, Integer) and parameter.size > WIDE:
            return self._digit_steps(name, after, tuple(filters))
        return [BindingStep(name=name, size=parameter.size, candidates=candidates, filters=tuple(filters))]

    def _join_tables(self, name: str, tables: Sequence[AllowedTable]) -> ListedValues:
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
        return ListedValues(
            names=tuple(others),
            sizes=tuple(self.parameters[n].size for n in others),
            starts=np.cumsum(counts) - counts,
            counts=counts,
            values=cells - rows * size,
        )

    def _solve(self, name: str, after: frozenset[str]) -> SolvedValues | None:
        """The first equation that binding `name` completes, solved for it."""
        for constraint in self.untabled:
            complete = name in constraint.names and after.issuperset(constraint.names)
            equation = self.equations[id(constraint)] if complete else None
            solved = solve_for(name, equation) if equation is not None else None
            if solved is not None:
                return solved
        return None

    def _digit_steps(self, name: str, after: frozenset[str], last: tuple[Filter, ...]) -> list[BindingStep]:
        """The steps that bind the digits of a wide range; last: the filters once all are bound."""
        size, stride = self.parameters[name].size, 1
        while stride * RADIX < size:
            stride *= RADIX
        steps: list[BindingStep] = []
        while stride:
            filters = last
            if stride > 1:
                readers = [constraint for constraint in self.untabled if name in constraint.names]
                filters = tuple(check for one in readers for check in span_filters(one, after, name, stride))
            steps.append(
                BindingStep(
                    name=name,
                    size=min(RADIX, -(-size // stride)),
                    candidates=None,
                    filters=filters,
                    stride=stride,
                    continued=bool(steps),
                    below=size,
                )
            )
            stride //= RADIX
        return steps
