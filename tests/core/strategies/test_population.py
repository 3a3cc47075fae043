"""Initial populations: which part of them is measured, in which order, and again after a restart."""

import numpy as np

from autotune import (
    Budget,
    Choice,
    Failed,
    Integer,
    Observed,
    PatternSearch,
    Plan,
    Settings,
    Space,
    Timed,
    advance,
    request,
    start,
)
from autotune.core.keys import fold, root
from autotune.core.outcomes import Outcome
from autotune.core.parameters import Codes
from autotune.core.search.messages import Asked, Finished, Measure
from autotune.core.strategies.population import PARTS, draw_initial_population
from autotune.core.strategies.protocol import Seeds

SPACE = Space(
    {"x": Integer(0, 40), "y": Integer(0, 40), "kind": Choice(("a", "b", "c"))},
    default={"x": 0, "y": 0, "kind": "a"},
)


def cost(row: Codes) -> float:
    return float(1 + abs(int(row[0]) - 25) + abs(int(row[1]) - 10) + 5 * (row[2] != 1))


def batches(
    restarts: int = 0, seeds: tuple[dict[str, object], ...] = (), works: bool = True
) -> list[tuple[Measure, list[list[int]]]]:
    """The batches of pattern_search with their points. works: False where every config fails."""
    plan = Plan(
        SPACE, PatternSearch(initial_population=50), seed=3, seeds=seeds, budget=Budget(evaluations=400),
        settings=Settings(exact=True, simplify_rounds=0, verify_rounds=0, restarts=restarts),
    )  # fmt: skip
    search, asked = start(plan), []
    while not isinstance(todo := request(search, 4), Finished):
        search = advance(search, Asked(search.clock, 4, todo))
        if isinstance(todo, Measure):
            rows = SPACE.encode([trial.config for trial in todo.trials])
            asked.append((todo, rows.tolist()))
            for trial, row in zip(todo.trials, rows, strict=True):
                outcome: Outcome = Timed((cost(row),)) if works and row[2] != 2 else Failed("compile_error")
                search = advance(search, Observed(search.clock, trial.id, outcome))
    return asked


def drawn_first() -> list[list[int]]:
    """The initial population that `batches` begins with."""
    none = np.empty((0, SPACE.columns), np.int64)
    seeds = Seeds(default=SPACE.encode([dict(SPACE.default or {})]), user=none, best=none)
    return draw_initial_population("from_random", SPACE, seeds, 50, fold(root(3), "init")).tolist()


def initial_parts(works: bool = True) -> list[list[list[int]]]:
    return [rows for todo, rows in batches(works=works) if all(trial.generation <= 0 for trial in todo.trials)]


def test_the_better_half_of_an_initial_population_is_measured_in_parts() -> None:
    parts, drawn = initial_parts(), drawn_first()
    ends = np.cumsum([len(rows) for rows in parts]).tolist()
    assert ends == [1, *(int(np.ceil(50 * share)) for share in PARTS[:-1])]  # the default by itself
    measured = [row for rows in parts for row in rows]
    left = [row for row in drawn if row not in measured]
    assert len(left) == 25
    assert all(row in drawn for row in measured)

    def slowness(rows: list[list[int]]) -> float:
        return float(np.mean([cost(np.array(row)) if row[2] != 2 else 1e6 for row in rows]))

    assert slowness(measured) < slowness(left)


def test_where_nothing_works_all_of_an_initial_population_is_measured() -> None:
    parts = initial_parts(works=False)
    assert np.cumsum([len(rows) for rows in parts]).tolist()[-1] == 50
    assert sorted(row for rows in parts for row in rows) == sorted(drawn_first())


def test_given_points_are_all_in_the_first_part() -> None:
    given = tuple({"x": x, "y": 40 - x, "kind": "c"} for x in range(0, 20, 2))
    rows = [[config["x"], config["y"], 2] for config in given]
    assert batches(seeds=given)[1][1][: len(rows)] == rows


def test_after_a_restart_the_most_promising_part_is_measured_at_once() -> None:
    asked = batches(restarts=1)
    again = next(i for i, (todo, _) in enumerate(asked) if todo.restart)
    points = asked[again][1]
    assert len(points) == 8  # 0.15 of 50
    first = [row for todo, rows in asked[:again] for row in rows if todo.trials[0].generation == 0]
    assert np.mean([cost(np.array(row)) for row in points]) < 0.8 * np.mean([cost(np.array(row)) for row in first])
    assert asked[again + 1][0].trials[0].generation > asked[again][0].trials[0].generation  # and then the walks go on
