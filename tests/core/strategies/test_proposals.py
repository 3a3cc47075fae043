"""Candidates: around the best, from elsewhere, and in shapes that were tried too little."""

import numpy as np
import pytest

from autotune import (
    Boolean,
    Choice,
    Integer,
    ListOf,
    Permutation,
    PowerOfTwo,
    Space,
)
from autotune.core.keys import root
from autotune.core.strategies.proposals import (
    NEGLECT_FACTOR,
    RADIUS,
    combine_moves,
    count_affordable,
    number_neglected_shapes,
    propose_candidates,
    shape_columns,
    take_shapes,
    transplant,
)

SPACE = Space(
    {
        "m": PowerOfTwo(1, 1024, role="block_size"),
        "n": PowerOfTwo(1, 1024, role="block_size"),
        "order": Permutation(3),
        "mode": Choice(("a", "b", "c")),
        "pack": Boolean(),
    },
    ["m * n <= 2**16"],
    default={"m": 1, "n": 1, "order": (0, 1, 2), "mode": "a", "pack": False},
)


def test_combined_moves_keep_each_parameter_whole() -> None:
    row = SPACE.sample(root(3), 1)[0]
    near = combine_moves(SPACE, row[None], 500, root(4))
    assert len(SPACE.decode(near)) == len(near)
    for config in SPACE.decode(near):
        assert sorted(config["order"]) == [0, 1, 2]
    changed = np.array([[(r[p] != row[p]).any() for p in SPACE.slices.values()] for r in near]).sum(axis=1)
    assert set(changed.tolist()) <= {1, 2}


def test_the_moves_of_several_points_are_those_of_each() -> None:
    rows = SPACE.sample(root(3), 3)
    single = [SPACE.neighbours(row, RADIUS) for row in rows]
    near = combine_moves(SPACE, rows, 0, root(4))
    assert near.tolist() == np.concatenate(single).tolist()
    assert len(combine_moves(SPACE, rows, 10, root(4))) == len(near) + 30
    assert combine_moves(SPACE, rows[:0], 10, root(4)).shape == (0, SPACE.columns)


def test_a_transplant_changes_one_or_two_parameters() -> None:
    row = SPACE.sample(root(3), 1)[0]
    rows = transplant(SPACE, row, SPACE.sample(root(5), 400), root(4))
    changed = np.array([[(r[p] != row[p]).any() for p in SPACE.slices.values()] for r in rows]).sum(axis=1)
    assert set(changed.tolist()) == {0, 1, 2}
    assert len(SPACE.decode(rows)) == 400


TILES = Space(
    {
        "m": PowerOfTwo(16, 256, role="block_size"),
        "n": Choice((16, 32, 48), role="block_size"),
        "num_warps": PowerOfTwo(1, 16, role="num_warps"),
        "stages": Integer(1, 5),
    }
)


def test_all_of_a_small_space_is_proposed_and_an_affordable_part_of_a_larger_one() -> None:
    def fresh(rows: np.ndarray) -> np.ndarray:
        return rows[:, 0] > 0

    best = TILES.sample(root(1), 1)
    everywhere = propose_candidates(TILES, best, 60, 1000, fresh, root(2))
    assert everywhere.tolist() == [row for row in TILES.rows().tolist() if row[0] > 0]
    some = propose_candidates(TILES, best[:0], 60, 50, fresh, root(2))
    assert 0 < len(some) <= 50
    assert len({row.tobytes() for row in some}) == len(some)
    assert (
        count_affordable(600, 10, 8)
        > count_affordable(600, 100, 8)
        > count_affordable(600, 100, 40)
        > count_affordable(600, 10**6, 40)
        == 54
    )


BLOCKS = {"BM": PowerOfTwo(16, 256, role="block_size"), "BN": PowerOfTwo(16, 256, role="block_size")}


WARPS = {"num_warps": PowerOfTwo(1, 16, role="num_warps")}


OTHERS = {f"x{i}": Choice(("a", "b", "c")) for i in range(8)}


SHAPED = Space({"first": Boolean(), **BLOCKS, **WARPS, **OTHERS})


def test_the_shape_is_blocks_and_warps() -> None:
    assert shape_columns(SHAPED).tolist() == [1, 2, 3]
    listed = Space({"blocks": ListOf(PowerOfTwo(16, 64), 2, role="block_size"), **WARPS, "n": Integer(0, 3)})
    assert shape_columns(listed).tolist() == [0, 1, 2]


@pytest.mark.parametrize("parameters", [{**BLOCKS, **OTHERS}, {**WARPS, **OTHERS}, {**BLOCKS, **WARPS}, OTHERS])
def test_there_is_no_shape_without_blocks_and_warps_or_with_nothing_beside_them(parameters: dict[str, Choice]) -> None:
    space = Space(parameters)
    assert len(shape_columns(space)) == 0
    points = space.sample_distinct(root(1), 5)
    assert number_neglected_shapes(shape_columns(space), points[:2], points).tolist() == [-1] * 5
    assert len(take_shapes(points[0], points, shape_columns(space))) == 0


def test_one_try_is_enough_until_another_shape_was_tried_often() -> None:
    columns = np.array([0])
    points = np.array([[0, 7], [1, 7], [2, 7], [2, 8]])
    few = np.array([[0, i] for i in range(NEGLECT_FACTOR - 1)] + [[1, 0]])
    assert number_neglected_shapes(columns, few, points).tolist() == [-1, -1, 2, 2]
    assert number_neglected_shapes(columns, np.concatenate([few, [[0, 99]]]), points).tolist() == [-1, 1, 2, 2]
    assert (
        number_neglected_shapes(columns, few[:0], points).tolist() == [-1] * 4
    )  # nothing was tried, so nothing is neglected


def test_a_point_in_the_shape_of_others_keeps_all_else() -> None:
    points = SHAPED.sample_distinct(root(2), 6)
    found = take_shapes(points[0], points[1:], np.array([1, 2, 3]))
    assert (found[:, 1:4] == points[1:, 1:4]).all()
    assert (found[:, [0, *range(4, SHAPED.columns)]] == points[0, [0, *range(4, SHAPED.columns)]]).all()
