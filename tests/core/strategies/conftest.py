"""A valley over a space of every parameter kind, and searches of it."""

from typing import NamedTuple

import numpy as np
import pytest

from autotune import (
    Asked,
    Boolean,
    Choice,
    Failed,
    Finished,
    Integer,
    ListOf,
    Observed,
    OptionalOf,
    Permutation,
    Plan,
    PowerOfTwo,
    Search,
    Space,
    Timed,
    advance,
    request,
    start,
)
from autotune.core.history import Archive, Points, Records
from autotune.core.keys import root

SPACE = Space(
    {
        "M": PowerOfTwo(16, 256, role="block_size"),
        "blocks": ListOf(PowerOfTwo(16, 256), 2, role="block_size"),
        "warps": PowerOfTwo(1, 16, role="num_warps"),
        "stages": Integer(1, 6),
        "layout": Choice(("row", "col", "tile", "flat")),
        "fast": Boolean(),
        "order": Permutation(3),
        "regs": OptionalOf(PowerOfTwo(32, 256)),
    }
)


class Valley(NamedTuple):
    """A space with ordered parameters, and a choice that matters only on one side of it; its optimum is 1."""

    space: Space = SPACE

    def cost(self, row: np.ndarray) -> float:
        """The time of a point [columns]."""
        m, a, b, warps, stages, layout, fast = row[:7].tolist()
        time = 1.0 + 0.3 * (m - 3) ** 2 + 0.2 * (a - b) ** 2 + 0.15 * (warps - 2) ** 2 + 0.1 * (stages - 4) ** 2
        return float(time + 0.5 * (layout != (2 if m > 2 else 1)) + 0.2 * (1 - fast) + 0.05 * row[10:].sum())

    def search(self, plan: Plan, room: int = 8) -> Search:
        """The search of a plan, carried out; points with large blocks fail."""
        search = start(plan)
        while not isinstance(todo := request(search, room), Finished):
            search = advance(search, Asked(search.clock, room, todo))
            for trial in getattr(todo, "trials", ()):
                row = plan.space.encode([trial.config])[0]
                outcome = Failed("compile_error") if row[0] + row[1] > 5 else Timed((self.cost(row),))
                search = advance(search, Observed(search.clock, trial.id, outcome))
        return search

    def archive(
        self, times: list[float | None], walks: list[int] | None = None, generations: list[int] | None = None
    ) -> Archive:
        """Trials at different points with these times; None failed."""
        n = len(times)
        points, records = Points(SPACE.columns).append(SPACE.sample_distinct(root(0), n)), Records()
        for i, time in enumerate(times):
            ok, value = time is not None, time or 0.0
            walk, generation = (walks or [0] * n)[i], (generations or [0] * n)[i]
            records = records.append((i, ok, value, value, value, 0.0, walk, generation))
        return Archive(records, points)


@pytest.fixture(scope="session")
def valley() -> Valley:
    return Valley()
