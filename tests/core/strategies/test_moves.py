"""Coordinates, neighbours and perturbed points."""

from typing import Any

import numpy as np

from autotune import Choice, Integer, PowerOfTwo, Space
from autotune.core.keys import root
from autotune.core.strategies.moves import MOST_NEIGHBOURS, change_one, coordinates, neighbourhood, perturb

STRINGS = tuple(f"schedule {i}" for i in range(5000))


def test_coordinates_take_block_sizes_apart_and_cover_everything(valley: Any) -> None:
    space = valley.space
    parts = coordinates(space)
    assert [part.role for part in parts][:4] == ["block_size"] * 3 + ["num_warps"]
    assert len(parts) == 9
    assert [i for part in parts for i in range(space.columns)[part.columns]] == list(range(space.columns))
    width = len(space.feature_names)
    assert [i for part in parts for i in range(width)[part.features]] == list(range(width))


def which_changed(space: Space, rows: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Which coordinates differ: [n, coordinates]."""
    return np.stack([(rows[:, part.columns] != row[part.columns]).any(axis=1) for part in coordinates(space)], axis=1)


def test_perturbed_points_move_a_block_the_warps_and_up_to_radius_others(valley: Any) -> None:
    space = valley.space
    row = space.sample(root(4), 1)[0]
    rows = perturb(space, row, 400, 2, root(1))
    moved = which_changed(space, rows, row)
    assert moved[:, 3].all()
    others = moved.sum(axis=1) - 2
    assert set(others.tolist()) == {0, 1, 2}
    assert (moved[:, :3].sum(axis=1) >= 1).all()
    for i, part in enumerate(coordinates(space)):
        reach = part.neighbours(row, 2 if part.role else 1)
        assert {r.tobytes() for r in rows[moved[:, i]][:, part.columns]} <= {
            r.tobytes() for r in reach[:, part.columns]
        }
    assert (perturb(space, row, 400, 2, root(1)) == rows).all()


def test_a_wide_parameter_does_not_crowd_out_the_others() -> None:
    space = Space({"s": Choice(STRINGS), "B": PowerOfTwo(16, 256)})
    row = space.sample(root(3), 1)[0]
    near = change_one(space, row, 2, root(1))
    assert len(near) <= MOST_NEIGHBOURS + 4
    assert (near[:, 1] != row[1]).sum() >= 2
    assert ((near != row).sum(axis=1) == 1).all()
    assert len(np.unique(near, axis=0)) == len(near)
    narrow = Space({"a": Choice(STRINGS[: MOST_NEIGHBOURS + 1]), "b": Integer(0, 300)})
    row = narrow.sample(root(3), 1)[0]
    assert (change_one(narrow, row, 2, root(1)) == narrow.neighbours(row, 2)).all(), (
        "a parameter below the limit has all its neighbours"
    )
    assert (neighbourhood(narrow, row, root(1)) == narrow.neighbours(row)).all()
