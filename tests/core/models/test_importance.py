"""Importances against functions whose analysis of variance is known."""

import numpy as np
import pytest

from autotune.core.keys import integers, root
from autotune.core.models.importance import MOST_LEVELS, compute_importances


def points(n: int, *sizes: int, seed: int = 0) -> np.ndarray:
    """Random codes [n, p]."""
    return np.stack([integers(root(seed * 100 + j), size, n) for j, size in enumerate(sizes)], axis=1)


def test_parameters_are_ranked_by_the_variance_that_they_make() -> None:
    """log time = 2 a + b: the shares are 4 to 1, c has none."""
    codes = points(300, 4, 4, 4)
    found = compute_importances(codes, np.exp(2.0 * codes[:, 0] + codes[:, 1]))
    assert [one.parameter for one in found.parameters] == [0, 1, 2]
    assert [one.share.value for one in found.parameters] == pytest.approx([0.8, 0.2, 0.0], abs=0.05)
    assert found.doubt == ""
    assert found.explained is not None
    assert found.explained > 0.95


def test_what_two_parameters_do_only_together_is_the_share_of_the_pair() -> None:
    """An exclusive or has no effect of either alone."""
    codes = points(300, 2, 2, 3)
    found = compute_importances(codes, np.exp((codes[:, 0] ^ codes[:, 1]).astype(float)))
    assert found.pairs[0].parameters == (0, 1)
    assert found.pairs[0].share.value > 0.9
    assert all(one.share.value < 0.05 for one in found.parameters)


def test_effects_are_ratios_to_the_best_value() -> None:
    codes = points(200, 3, 4)
    found = compute_importances(codes, 2.0 ** codes[:, 0])
    effects = next(one for one in found.parameters if one.parameter == 0).effects
    assert [effect.ratio for effect in effects] == pytest.approx([1, 2, 4], rel=0.05)
    assert all(effect.low <= effect.ratio <= effect.high for effect in effects)


def test_noise_is_called_so() -> None:
    codes = points(100, 4, 4, 4)
    noise = np.exp(integers(root(9), 1000, 100) / 1000)
    assert "explain" in compute_importances(codes, noise).doubt


def test_few_configs_are_called_too_few() -> None:
    codes = points(19, 4, 4)
    times = np.exp(codes[:, 0].astype(float))
    assert compute_importances(codes, times).doubt == "19 timed configs are too few to tell which parameters matter"
    assert compute_importances(codes[:3], times[:3]).parameters == ()
    assert compute_importances(codes[:0], times[:0]).doubt.startswith("0 timed configs")


def test_equal_times_and_a_single_config_have_no_shares() -> None:
    codes = points(30, 4, 4)
    assert compute_importances(codes, np.full(30, 2.0)).doubt == "all timed configs take the same time"
    assert compute_importances(np.zeros((30, 2), np.int64), np.arange(1.0, 31)).parameters == ()


def test_many_values_are_taken_together_and_every_code_is_in_one_group() -> None:
    codes = points(400, 1000, 3)
    found = compute_importances(codes, 1.0 + codes[:, 0])
    effects = next(one for one in found.parameters if one.parameter == 0).effects
    assert len(effects) <= MOST_LEVELS
    assert [(e.first, e.last) for e in effects] == sorted((e.first, e.last) for e in effects)
    values = np.unique(codes[:, 0])
    assert all(sum(e.first <= value <= e.last for e in effects) == 1 for value in values)


def test_the_scale_of_the_times_does_not_matter() -> None:
    codes = points(100, 4, 4)
    times = np.exp(codes.sum(axis=1).astype(float))
    one, other = compute_importances(codes, times), compute_importances(codes, 1024 * times)
    assert [p.share.value for p in one.parameters] == pytest.approx([p.share.value for p in other.parameters])
