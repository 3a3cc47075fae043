"""The feasible set of a space: the points that satisfy every constraint, as a product of independent components."""

from collections.abc import Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray

from autotune.core.constraints.kinds import Constraint, Function
from autotune.core.errors import SpaceError
from autotune.core.feasible.compiled import compile_constraint
from autotune.core.feasible.enumerate import Component, PointTable, satisfies_all, split_components
from autotune.core.feasible.packing import Packing, Words, cartesian_product, sort_points
from autotune.core.feasible.sample import Construction, SamplingMethod, choose_method, sample_component
from autotune.core.keys import Key, fold
from autotune.core.memo import memo
from autotune.core.parameters import Codes, Parameter

ROW_LIMIT, BYTE_LIMIT = 20_000_000, 4_000_000_000
"""`rows` lists no more points, and takes no more memory, than this."""

ROW_WORK, COUNT_WORK = 5_000_000_000, 300_000_000
"""Candidates that `rows` and `count` look at before they give up: minutes, and some seconds."""

BLOCK = 1 << 14
"""Rows are written in blocks of this many, so that writing column by column stays in the processor's cache."""


class Feasible:
    """The points of `parameters` that satisfy every one of `constraints`. Immutable; its answers are kept.

    columns: the width of a point. slices: the place of each parameter in it.
    """

    def __init__(self, parameters: Mapping[str, Parameter], constraints: tuple[Constraint, ...]) -> None:
        self.parameters = dict(parameters)
        self.constraints = constraints
        self._functions = tuple(constraint for constraint in constraints if isinstance(constraint, Function))
        self._packing = Packing.of(self.parameters)
        self._compiled = tuple(compile_constraint(constraint, self.parameters) for constraint in constraints)
        self._components = split_components(self.parameters, self._compiled, self._packing)
        ends = np.cumsum([0] + [parameter.width for parameter in self.parameters.values()]).tolist()
        self.slices = {name: slice(a, b) for name, a, b in zip(self.parameters, ends, ends[1:], strict=False)}
        self.columns = ends[-1]
        self._tables: dict[tuple[str, ...], PointTable] = {}
        self._failed: dict[tuple[str, ...], tuple[int, int]] = {}

    @memo
    def _methods(self) -> tuple[SamplingMethod, ...]:
        return tuple(choose_method(component) for component in self._components)

    @property
    def uniform(self) -> bool:
        """Whether `sample` draws uniformly: not if valid points are so rare that they have to be constructed."""
        return not any(isinstance(method, Construction) for method in self._methods)

    def check_unchanged(self) -> None:
        """Raises SpaceError if a value that a function among the constraints reads has changed since.

        The answers that are kept would be wrong then, so every question checks this first.
        """
        for function in self._functions:
            function.check_unchanged()

    def valid(self, rows: Codes) -> NDArray[np.bool_]:
        """Which of the rows [n, columns] satisfy every constraint, shape [n].

        SpaceError where evaluating a constraint raises at a point that no other constraint forbids.
        """
        self.check_unchanged()
        return satisfies_all(self._compiled, {name: rows[:, part] for name, part in self.slices.items()}, len(rows))

    def count(self) -> int | None:
        """The exact number of valid points; None if a component takes more than COUNT_WORK candidates to count.

        The counts of components multiply, and a parameter without constraints counts by its size, so a huge space is no
        obstacle in itself. SpaceError if there is no valid point.
        """
        self.check_unchanged()
        counts = [self._count(component) for component in self._components]
        known = [count for count in counts if count is not None]
        return prod(known) if len(known) == len(counts) else None

    def _count(self, component: Component) -> int | None:
        if not component.constraints:
            return component.raw_count
        table = self._table(component, COUNT_WORK, ROW_LIMIT)
        return table.count if table is not None and table.spent <= COUNT_WORK else None

    def _table(self, component: Component, work: int, most: int) -> PointTable | None:
        """The component's table within these limits; None if that is known, or found, not to be enough."""
        names = component.names
        failed_work, failed_most = self._failed.get(names, (-1, -1))
        if names not in self._tables and (work <= failed_work and most <= failed_most):
            return None
        table = self._tables.get(names) or component.enumerate(work, most)
        if table is None:
            self._failed[names] = work, most
        else:
            self._tables[names] = table
        return table

    def rows(self, limit: int | None = None) -> Codes:
        """All valid points in lexicographic order of the parameters' ranks, shape [count, columns].

        limit: the most points (None: ROW_LIMIT points and BYTE_LIMIT bytes).
        SpaceError if there are more, or none at all.
        """
        self.check_unchanged()
        most = min(ROW_LIMIT, BYTE_LIMIT // (8 * self.columns)) if limit is None else limit
        if prod(component.raw_count for component in self._components if not component.constraints) > most:
            raise self._too_many(most)
        sets = [self._points(component, most) for component in self._components]
        if prod(len(words[0]) for words in sets) > most:
            raise self._too_many(most)
        words = sets[0]
        for others in sets[1:]:
            words = cartesian_product(words, others)
        words = sort_points(words)
        rows = np.empty((len(words[0]), self.columns), np.int64)
        for first in range(0, len(rows), BLOCK):
            block = [word[first : first + BLOCK] for word in words]
            for name, codes in self._packing.all_codes(block):
                rows[first : first + BLOCK, self.slices[name]] = codes
        return rows

    def _points(self, component: Component, most: int) -> Words:
        """The valid points of a component, packed."""
        if not component.constraints:
            (name,) = component.names
            return self._packing.pack({name: np.arange(component.raw_count)}, component.raw_count)
        table = self._table(component, ROW_WORK, most)
        if table is None:
            raise self._too_many(most)
        return table.words

    def _too_many(self, most: int) -> SpaceError:
        return SpaceError(
            f"the space has more than {most:,} valid points, or takes too long to enumerate; sample it, raise the "
            "limit, or add constraints"
        )

    def sample(self, key: Key, n: int) -> Codes:
        """`n` valid points, drawn with replacement, uniformly if `uniform`; shape [n, columns].

        SpaceError if there is no valid point, or none within reach of a search.
        """
        self.check_unchanged()
        rows = np.empty((n, self.columns), np.int64)
        if not n:
            return rows
        for component, method in zip(self._components, self._methods, strict=True):
            for name, codes in sample_component(component, method, fold(key, component.names[0]), n).items():
                rows[:, self.slices[name]] = codes
        return rows
