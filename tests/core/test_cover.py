"""The fewest configs for all shapes: estimates, weights, shapes that are left out, and errors."""

from math import inf, nan

import numpy as np
import pytest

from autotune.core.cover import complete, left_out_losses, minimum_cover, suit_both
from autotune.core.errors import PlanError


def test_nothing_is_estimated_across_parts_that_share_nothing_nor_where_a_config_fails() -> None:
    found = complete(np.array([[1.0, 2.0, nan], [nan, nan, 1.0], [inf, 1.0, nan]]))
    assert not found.estimated.any()
    assert np.isinf(found.losses[0, 2])
    assert np.isinf(found.losses[2, 0])


def test_an_estimate_counts_with_its_uncertainty() -> None:
    times = np.array([[1.0, 1.0, 3.0], [2.0, 2.6, 5.0], [3.0, nan, 10.0], [1.0, 1.1, 2.2]])
    found = complete(times)
    assert found.spread > 0.05
    assert found.losses[2, 1] > found.spread
    assert not found.losses.flags.writeable


def test_weights_decide_among_covers_and_zero_leaves_out() -> None:
    losses = np.array([[0.0, 0.04], [0.04, 0.0], [inf, 9.0]])
    assert minimum_cover(losses, 0.05, [3, 1, 0]).configs == (0,)
    assert minimum_cover(losses, 0.05, [1, 3, 0]).configs == (1,)
    assert minimum_cover(losses, 0.05, [3, 1, 0]).choice == (0, 0, None)
    with pytest.raises(PlanError, match="raise within"):
        minimum_cover(losses, 0.05)
    with pytest.raises(PlanError, match="weights: give each shape a number"):
        minimum_cover(losses, 0.05, [1, -1, 0])
    with pytest.raises(PlanError, match="within is -1"):
        minimum_cover(losses, -1)


def test_a_shape_that_is_left_out_gets_a_config_of_the_nearest_two() -> None:
    times = np.array([[1.0, 2.0], [1.0, 2.0], [3.0, 1.0]])
    apart = np.array([[inf, 1.0, 2.0], [1.0, inf, 1.0], [2.0, 1.0, inf]])
    assert left_out_losses(times, apart, 0.05) == pytest.approx((0.0, 1.0, 2.0)), "the second lies half way"
    assert np.isnan(left_out_losses(times, np.full((3, 3), inf), 0.05)).all()


def test_the_config_between_two_shapes_suits_both_by_their_distances() -> None:
    near, far = {"a": 1.0, "b": 1.1, "c": 3.0}, {"a": 30.0, "b": 11.0, "c": 10.0}
    assert suit_both(near, far, 0.0, 1.0) == "a"
    assert suit_both(near, far, 0.02, 1.0) == "a"
    assert suit_both(near, far, 0.5, 0.5) == "b"
    assert suit_both(near, {"b": 1.0, "c": 1.0}, 0.5, 0.5) == "a", "the fastest was not measured on the other shape"
    assert suit_both(near, near, 0.0, 0.0) == "a"


def test_a_shape_without_a_time_is_an_error() -> None:
    with pytest.raises(PlanError, match="a shape has no config with a time"):
        complete(np.array([[1.0], [inf]]))
