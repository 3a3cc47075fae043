"""The initial design: even numbers, from the middle and far apart, or outwards from the default."""

import numpy as np

from autotune import (
    Boolean,
    Integer,
    PowerOfTwo,
    Space,
)
from autotune.core.keys import root
from autotune.core.models.gp_features import feature_map
from autotune.core.parameters import BLOCK_SIZE, NUM_WARPS
from autotune.core.strategies.design import draw_design


def test_the_design_is_even_and_its_halves_are_middle_and_far() -> None:
    space = Space({"block": Integer(16, 1024, step=16), "tile": PowerOfTwo(1, 64), "deep": PowerOfTwo(1, 64)})
    mapped = feature_map(space)
    assert mapped.alignment.tolist() == [1]
    points = draw_design(space, mapped, space.sample(root(1), 0), 8, root(2))
    assert len({row.tobytes() for row in points}) == 8
    blocks = [config["block"] for config in space.decode(points)]
    assert all(block % 64 == 0 for block in blocks), "a quarter of all numbers are multiples of 64"
    features = mapped.features(points)
    outwards = np.square(features - features.mean(axis=0)).sum(axis=1)
    assert outwards[0::2].mean() < outwards[1::2].mean()


def test_the_design_of_tiles_and_warps_goes_from_the_default_outwards_and_has_no_corners() -> None:
    tile = {name: PowerOfTwo(1, 256, role=BLOCK_SIZE) for name in ("BLOCK_M", "BLOCK_N")}
    default = {"BLOCK_M": 32, "BLOCK_N": 16, "num_warps": 4, "GROUP": 2}
    space = Space({**tile, "num_warps": PowerOfTwo(1, 32, role=NUM_WARPS), "GROUP": PowerOfTwo(1, 16)}, [], default)
    mapped, known = feature_map(space), space.encode([default])
    for given in (known, known[:0]):
        features = mapped.features(draw_design(space, mapped, given, 8, root(2)))
        origin = features[0] if len(given) else mapped.features(space.sample(root(3), 2000)).mean(axis=0)
        outwards = np.square(features - origin).sum(axis=1)
        assert len(features) == 8
        assert outwards[1:4].mean() < outwards[4:].mean()
        assert not ((features < 0.05) | (features > 0.95)).all(axis=1).any()
        assert (
            np.square(features - 0.5).sum(axis=1).mean()
            < np.square(mapped.features(space.rows()) - 0.5).sum(axis=1).mean()
        )


def test_a_design_begins_with_the_given_points_and_takes_all_there_are() -> None:
    space = Space({"a": Integer(0, 2), "b": Boolean()})
    mapped = feature_map(space)
    known = space.encode([{"a": 1, "b": True}])
    assert draw_design(space, mapped, known, 1, root(2)).tolist() == known.tolist()
    points = draw_design(space, mapped, known, 20, root(2))
    assert points[0].tolist() == known[0].tolist()
    assert {tuple(row) for row in points.tolist()} == {(a, b) for a in range(3) for b in range(2)}
