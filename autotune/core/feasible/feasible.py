"""The feasible set of a space: the points that satisfy every constraint, as a product of independent components."""

from collections.abc import Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray

from autotune.core.constraints.kinds import Constraint, Function
from autotune.core.errors import SpaceError
from autotune.core.feasible.compiled import judge
from autotune.core.feasible.enumerate import Component, Enumerated, components, valid
from autotune.core.feasible.packing import Ranks, in_order, layout, product
from autotune.core.feasible.sample import Construction, Method, draw, method
from autotune.core.keys import Key, fold
from autotune.core.memo import memo
from autotune.core.parameters import Codes, Parameter

ROW_LIMIT, BYTE_LIMIT = 20_000_000, 4_000_000_000
ROW_WORK = 5_000_000_000
BLOCK = 1 << 14
COUNT_WORK = 300_000_000
"""How many candidates `rows` and `count` look at before they give up: minutes, and some seconds."""


class Feasible:
    """The points of `parameters` that satisfy every one of `constraints`. Immutable; what it works out, it keeps."""

    def __init__(self, parameters: Mapping[str, Parameter], constraints: tuple[Constraint, ...]) -> None:
        self.parameters = dict(parameters)
        self.constraints = constraints
        self._functions = tuple(constraint for constraint in constraints if isinstance(constraint, Function))
        self._layout = layout(self.parameters)
        self._judges = tuple(judge(constraint, self.parameters) for constraint in constraints)
        self._components = components(self.parameters, self._judges, self._layout)
        ends = np.cumsum([0] + [parameter.width for parameter in self.parameters.values()]).tolist()
        self._slices = {name: slice(a, b) for name, a, b in zip(self.parameters, ends, ends[1:], strict=False)}
        self._width = ends[-1]
        self._tables: dict[tuple[str, ...], Enumerated] = {}
        self._untabled: dict[tuple[str, ...], tuple[int, int]] = {}

    @memo
    def _methods(self) -> tuple[Method, ...]:
        return tuple(method(component) for component in self._components)

    @property
    def uniform(self) -> bool:
        """Whether `sample` draws uniformly: not where valid points are so rare that they have to be constructed."""
        return not any(isinstance(how, Construction) for how in self._methods)

    def check_unchanged(self) -> None:
        """Raises SpaceError where a value that a function among the constraints reads has changed since.

        What is kept of earlier answers would be wrong then: whoever is asked for an answer checks this first.
        """
        for function in self._functions:
            function.check_unchanged()

    def valid(self, rows: Codes) -> NDArray[np.bool_]:
        """Which of the rows [n, columns] satisfy every constraint, shape [n].

        SpaceError where evaluating a constraint raises at a point that no other constraint forbids.
        """
        self.check_unchanged()
        return valid(self._judges, {name: rows[:, part] for name, part in self._slices.items()}, len(rows))

    def count(self) -> int | None:
        """The exact number of valid points; None when a component takes more than COUNT_WORK candidates to count.

        Components multiply and unconstrained parameters count by formula, so a huge space is no obstacle in itself.
        SpaceError where there is no valid point.
        """
        self.check_unchanged()
        counts = [self._count(component) for component in self._components]
        known = [count for count in counts if count is not None]
        return prod(known) if len(known) == len(counts) else None

    def _count(self, component: Component) -> int | None:
        if not component.judges:
            return component.raw
        table = self._table(component, COUNT_WORK, ROW_LIMIT)
        return table.count if table is not None and table.spent <= COUNT_WORK else None

    def _table(self, component: Component, work: int, most: int) -> Enumerated | None:
        names = component.names
        failed_work, failed_most = self._untabled.get(names, (-1, -1))
        if names not in self._tables and (work <= failed_work and most <= failed_most):
            return None
        table = self._tables.get(names) or component.enumerate(work, most)
        if table is None:
            self._untabled[names] = work, most
        else:
            self._tables[names] = table
        return table

    def rows(self, limit: int | None = None) -> Codes:
        """All valid points in lexicographic order of the parameters' ranks, shape [count, columns].

        limit: how many at most (none given: ROW_LIMIT points and BYTE_LIMIT bytes).
        SpaceError where there are more, or none at all.
        """
        self.check_unchanged()
        most = min(ROW_LIMIT, BYTE_LIMIT // (8 * self._width)) if limit is None else limit
        if prod(component.raw for component in self._components if not component.judges) > most:
            raise self._too_many(most)
        tables = [self._points(component, most) for component in self._components]
        if prod(len(table[0]) for table in tables) > most:
            raise self._too_many(most)
        words = tables[0]
        for table in tables[1:]:
            words = product(words, table)
        words = in_order(words)
        rows = np.empty((len(words[0]), self._width), np.int64)
        for first in range(0, len(rows), BLOCK):  # small blocks, so that writing column by column stays in the cache
            block = [word[first : first + BLOCK] for word in words]
            for name, codes in self._layout.all_codes(block):
                rows[first : first + BLOCK, self._slices[name]] = codes
        return rows

    def _points(self, component: Component, most: int) -> list[Ranks]:
        """The words of a component's valid points."""
        if not component.judges:
            (name,) = component.names
            return self._layout.pack([name], {name: np.arange(component.raw)}, component.raw)
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
        """`n` valid points, drawn with replacement, uniformly where `uniform` says so; shape [n, columns].

        SpaceError where there is no valid point, or none in reach of a search.
        """
        self.check_unchanged()
        rows = np.empty((n, self._width), np.int64)
        if not n:
            return rows
        for component, how in zip(self._components, self._methods, strict=True):
            for name, codes in draw(component, how, fold(key, component.names[0]), n).items():
                rows[:, self._slices[name]] = codes
        return rows
