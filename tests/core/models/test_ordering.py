"""The same points in an order that begins with typical ones, or with promising ones."""

import numpy as np
import pytest

from autotune import (
    Choice,
    Integer,
    Space,
)
from autotune.core.history import Archive, Points, Records
from autotune.core.keys import root
from autotune.core.models.ordering import promising_first, typical_first
from autotune.core.parameters import Codes

SPACE = Space(
    {"x": Integer(0, 40), "y": Integer(0, 40), "kind": Choice(("a", "b", "c"))},
    default={"x": 0, "y": 0, "kind": "a"},
)


def cost(row: Codes) -> float:
    return float(1 + abs(int(row[0]) - 25) + abs(int(row[1]) - 10) + 5 * (row[2] != 1))


def archive(rows: Codes, failing: int | None = None) -> Archive:
    """Points and their costs; those of the kind `failing` failed."""
    records = Records()
    for i, row in enumerate(rows):
        ok = row[2] != failing
        time = cost(row) if ok else 0.0
        records = records.append((i, bool(ok), time, time, time, 0.0, 0, 0))
    return Archive(records, Points(SPACE.columns).append(rows))


@pytest.mark.parametrize("seed", range(5))
def test_fast_points_come_early(seed: int) -> None:
    drawn = SPACE.sample_distinct(root(seed), 140)
    known, points = drawn[:40], drawn[40:]
    order = promising_first(SPACE, archive(known), points)
    assert sorted(order.tolist()) == list(range(100))
    places = np.argsort([cost(row) for row in points[order]], kind="stable")
    assert places[:5].mean() < 15  # at random it would be 50


def test_points_like_failures_come_last() -> None:
    drawn = SPACE.sample_distinct(root(1), 100)
    order = promising_first(SPACE, archive(drawn[:60], failing=2), drawn[60:])
    kinds = drawn[60:][order][:, 2]
    assert (kinds[-5:] == 2).all()
    assert not (kinds[:10] == 2).any()


def test_without_observations_the_order_stays() -> None:
    points = SPACE.sample_distinct(root(1), 10)
    assert promising_first(SPACE, archive(points[:1]), points[1:]).tolist() == list(range(9))
    assert promising_first(SPACE, archive(points), points[:0]).tolist() == []
    assert typical_first(SPACE, points[:0], 3).tolist() == []


def test_equal_scores_are_ordered_by_the_point() -> None:
    rows = np.array([[0, 0, 0], [40, 40, 0]])
    points = np.array([[20, 20, 2], [20, 20, 1]])
    both = Archive(
        Records().append((0, True, 1.0, 1.0, 1.0, 0.0, 0, 0)).append((1, True, 1.0, 1.0, 1.0, 0.0, 0, 0)),
        Points(3).append(rows),
    )
    assert promising_first(SPACE, both, points).tolist() in ([1, 0], [0, 1])
    swapped = points[::-1]
    first = points[promising_first(SPACE, both, points)[0]]
    assert (swapped[promising_first(SPACE, both, swapped)[0]] == first).all()


def test_typical_points_come_first_and_differ() -> None:
    points = np.array([[x, y, 0] for x in range(0, 41, 4) for y in range(0, 41, 4)])
    order = typical_first(SPACE, points, 4)
    assert sorted(order.tolist()) == list(range(len(points)))
    assert points[order[0]].tolist() == [20, 20, 0]  # the middle is the one most like all others
    few = points[order[:4], :2]
    assert len(np.unique(few, axis=0)) == 4
    assert np.abs(few.mean(axis=0) - 20).max() <= 10
    assert order[4:].tolist() == sorted(order[4:].tolist())  # the rest as drawn
