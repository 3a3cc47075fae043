"""The values that a parameter may take next, given what is bound: listed in a joint table, or solved for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from autotune.core.expressions.tables import Array
from autotune.core.keys import Key, integers
from autotune.core.solving.judges import Ranks
from autotune.core.solving.reach import Equation

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
