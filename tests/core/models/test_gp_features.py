"""Features of points: numbers, choices, lists, and quantities derived from blocks and warps."""

import numpy as np
import pytest

from autotune import (
    Choice,
    Integer,
    ListOf,
    OptionalOf,
    Permutation,
    PowerOfTwo,
    Space,
)
from autotune.core.keys import root
from autotune.core.models.gp_features import feature_map


def test_numbers_count_by_value_exponent_and_divisions_by_2() -> None:
    space = Space(
        {
            "warps": PowerOfTwo(1, 8),
            "block": Integer(16, 256, step=16),
            "tile": Choice((1, 2, 4)),
            "mode": Choice(("a", "b", "c")),
            "fixed": Integer(3, 3),
            "loops": ListOf(Integer(0, 4), 2),
            "pieces": OptionalOf(Integer(1, 5)),
            "order": Permutation(3),
            "huge": Integer(1, 10**12),
        }
    )
    mapped = feature_map(space)
    assert mapped.names == ("warps", "block", "tile", "mode", "loops[0]", "loops[1]", "pieces", "order", "huge")
    assert np.bincount(mapped.axis_of).tolist() == [1, 2, 1, 3, 1, 1, 2, 3, 2]
    features = mapped.features(space.sample(root(5), 300))
    assert features.shape == (300, 16)
    assert features.min() >= 0
    assert features.max() <= 1
    default = dict(space.decode(space.sample(root(6), 1))[0])

    def at(**values: object) -> list[float]:
        return mapped.features(space.encode([{**default, **values}]))[0].tolist()

    assert at(block=64)[1:3] == pytest.approx([0.2, 0.5])
    assert at(block=256)[1:3] == pytest.approx([1.0, 1.0])
    assert at(tile=2)[3] == pytest.approx(0.5)
    assert at(pieces=None)[9:11] == [0.0, 0.0]
    assert at(pieces=5)[9:11] == [1.0, 1.0]
    assert at(huge=10**6)[14] == pytest.approx(0.5)


def test_a_space_of_one_point_has_no_axis() -> None:
    space = Space({"only": Integer(3, 3)})
    assert feature_map(space).features(space.rows()).tolist() == [[0.0]]


TILES = Space(
    {
        "m": PowerOfTwo(16, 256, role="block_size"),
        "n": Choice((16, 32, 48), role="block_size"),
        "num_warps": PowerOfTwo(1, 16, role="num_warps"),
        "stages": Integer(1, 5),
    }
)


def test_blocks_and_warps_have_derived_axes() -> None:
    mapped = feature_map(TILES)
    assert mapped.names[-2:] == ("elements of a block", "elements per warp")
    rows = TILES.encode(
        [
            {"m": 16, "n": 16, "num_warps": 16, "stages": 1},
            {"m": 256, "n": 48, "num_warps": 1, "stages": 1},
            {"m": 64, "n": 32, "num_warps": 4, "stages": 1},
        ]
    )
    block, per_warp = mapped.features(rows)[:, -2:].T
    assert block == pytest.approx([0.0, 1.0, 3 / (4 + np.log2(3))])
    assert per_warp == pytest.approx([0.0, 1.0, 5 / (8 + np.log2(3))])


def test_blocks_without_warps_and_numbers_below_one_have_no_derived_axes() -> None:
    threads = Space({"x": PowerOfTwo(1, 64, role="block_size"), "y": PowerOfTwo(1, 64, role="block_size")})
    zero = Space({"x": Choice((0, 8), role="block_size"), "num_warps": PowerOfTwo(1, 8, role="num_warps")})
    assert feature_map(threads).derived == feature_map(zero).derived == ()


def test_blocks_in_a_list_have_its_role() -> None:
    space = Space(
        {
            "block_sizes": ListOf(PowerOfTwo(16, 64), 2, role="block_size"),
            "num_warps": PowerOfTwo(1, 4, role="num_warps"),
        }
    )
    assert len(feature_map(space).derived) == 2


def test_extremeness_has_mean_0_and_is_least_in_the_middle() -> None:
    mapped, rows = feature_map(TILES), TILES.rows()
    away = mapped.extremeness(mapped.features(rows))
    assert away.mean() == pytest.approx(0, abs=1e-12)
    configs = TILES.decode(rows)
    middle = [i for i, c in enumerate(configs) if c["m"] == 64 and c["num_warps"] == 4]
    assert set(np.flatnonzero(away < away.min() + 1e-9).tolist()) == set(middle)
