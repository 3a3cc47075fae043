"""The feasible set of a space: the points that satisfy every constraint."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from autotune.core.constraints import Constraint, failure
from autotune.core.errors import SpaceError
from autotune.core.keys import Key, fold, integers
from autotune.core.parameters import Codes, Parameter
from autotune.core.verdicts import NO, RAISES, decode

ROW_LIMIT = 20_000_000
CHUNK = 1 << 16


class Feasible:
    """The points of `parameters` that satisfy every one of `constraints`; immutable."""

    def __init__(self, parameters: Mapping[str, Parameter], constraints: tuple[Constraint, ...]) -> None:
        self.parameters = dict(parameters)
        self.constraints = constraints
        ends = np.cumsum([0] + [parameter.width for parameter in self.parameters.values()]).tolist()
        self._slices = {name: slice(a, b) for name, a, b in zip(self.parameters, ends[:-1], ends[1:], strict=True)}
        self._rows: Codes | None = None

    @property
    def uniform(self) -> bool:
        """Whether `sample` draws uniformly."""
        return True

    def valid(self, rows: Codes) -> NDArray[np.bool_]:
        """Which of the rows [n, columns] satisfy every constraint; SpaceError where evaluating one raises."""
        alive, raised = np.arange(len(rows)), []
        for constraint in self.constraints:
            codes = {name: rows[alive, self._slices[name]] for name in constraint.names}
            verdicts = constraint.verdicts(self.parameters, codes)
            raised.append((constraint, alive[verdicts == RAISES]))
            alive = alive[verdicts != NO]
        for constraint, where in raised:
            for row in rows[where[np.isin(where, alive)][:1]]:
                codes = {name: row[None, self._slices[name]] for name in self.parameters}
                raise failure(constraint, decode(self.parameters, codes)[0])
        mask = np.zeros(len(rows), bool)
        mask[alive] = True
        return mask

    def count(self) -> int | None:
        """The number of valid points; None when it is too large to count."""
        return len(self.rows())

    def rows(self, limit: int | None = None) -> Codes:
        """All valid points, in lexicographic order of ranks, shape [count, columns]."""
        if self._rows is None:
            self._rows = self._enumerate()
        if len(self._rows) > (ROW_LIMIT if limit is None else limit):
            raise SpaceError(f"the space has {len(self._rows)} valid points, more than the limit; sample it instead")
        return self._rows

    def _enumerate(self) -> Codes:
        sizes = [parameter.size for parameter in self.parameters.values()]
        total, found = int(np.prod(sizes, dtype=object)), []
        for start in range(0, total, CHUNK):
            rest, parts = np.arange(start, min(total, start + CHUNK)), []
            for parameter in reversed(self.parameters.values()):
                rest, ranks = np.divmod(rest, parameter.size)
                parts.append(parameter.unrank(ranks))
            rows = np.concatenate(parts[::-1], axis=1)
            found.append(rows[self.valid(rows)])
        rows = np.concatenate(found)
        if not len(rows):
            raise SpaceError(f"no point satisfies {' and '.join(repr(c.describe()) for c in self.constraints)}")
        return rows

    def sample(self, key: Key, n: int) -> Codes:
        """`n` valid points, drawn independently, shape [n, columns]."""
        found, count, turn = [], 0, 0
        while count < n:
            drawn = [p.sample(fold(key, turn, name), max(n, 256)) for name, p in self.parameters.items()]
            rows = np.concatenate(drawn, axis=1)
            found.append(rows[self.valid(rows)])
            count, turn = count + len(found[-1]), turn + 1
            if turn == 1000:
                rows = self.rows()
                return rows[integers(key, len(rows), n)]
        return np.concatenate(found)[:n]
