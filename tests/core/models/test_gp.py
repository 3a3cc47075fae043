"""The Gaussian posterior: against closed forms, finite differences and brute force."""

import math
from itertools import combinations

import numpy as np
import pytest

from autotune.core.keys import root, uniform
from autotune.core.models.gp import (
    Hyperparameters,
    TrainingInputs,
    _negative_log_posterior,
    condition,
    fit,
    invert_lower,
    matern52,
    order_weights,
    prior_hyperparameters,
)

INPUTS = uniform(root(1), 30, 3)
TARGETS = np.sin(5 * INPUTS[:, 0]) + INPUTS[:, 1]
TARGETS = (TARGETS - TARGETS.mean()) / TARGETS.std()
AXIS_OF = np.array([0, 1, 1])  # the last two features belong to one axis


def by_hand(a: np.ndarray, b: np.ndarray, lengths: np.ndarray, axis_of: np.ndarray, whole_share: float) -> float:
    """The correlation as its definition has it: the means over all axes, all pairs, all triples, and the whole."""
    squares = np.square((a - b) / lengths)
    sums = np.array([squares[axis_of == axis].sum() for axis in range(axis_of.max() + 1)] + [squares.sum()])
    *each, whole = matern52(sums).tolist()
    found = whole_share * whole
    for order in (1, 2, 3):
        products = [math.prod(some) for some in combinations(each, order)]
        found += (1 - whole_share) / 3 * (sum(products) / len(products) if products else whole)
    return float(found)


@pytest.mark.parametrize(
    "axis_of", [[0, 0, 0, 0, 0], [0, 1, 1, 1, 1], [0, 0, 1, 2, 2], [0, 1, 2, 3, 3], [0, 1, 2, 3, 4]]
)
@pytest.mark.parametrize(("observations", "whole_share"), [(0, 0.0), (100, 0.25), (300, 0.375)])
def test_the_correlation_is_that_of_axes_pairs_triples_and_the_whole(
    axis_of: list[int], observations: int, whole_share: float
) -> None:
    axes, log_lengths = np.array(axis_of), np.array([-0.5, 0.1, 0.4, 0.0, 0.8])
    inputs = uniform(root(2), 20, 5)
    some = np.round(inputs[:8], 1)  # so that values occur twice
    known = TrainingInputs(
        Hyperparameters(log_lengths=log_lengths, log_amplitude=0.0, log_noise=-9.0, observations=observations),
        some,
        axes,
    )
    found = known.correlation(inputs)
    for i, a in enumerate(inputs):
        for j, b in enumerate(some):
            assert found[i, j] == pytest.approx(by_hand(a, b, np.exp(log_lengths), axes, whole_share), abs=1e-9)
    for j, b in enumerate(some):
        assert known.correlation_with(inputs, b) == pytest.approx(found[:, j], abs=1e-9)


def test_the_posterior_passes_through_observations_and_is_uncertain_far_from_them() -> None:
    known = TrainingInputs(
        Hyperparameters(log_lengths=np.zeros(3), log_amplitude=0.0, log_noise=-9.0, observations=30), INPUTS, AXIS_OF
    )
    posterior = condition(known, 1.0, 1e-6, TARGETS)
    mean, deviation, _ = posterior.predict(known.self_correlation)
    assert mean == pytest.approx(TARGETS, abs=1e-2)
    assert deviation.max() < 0.05
    far_mean, far_deviation, _ = posterior.predict(known.correlation(np.full((1, 3), 500.0)))
    assert (far_mean[0], far_deviation[0]) == pytest.approx((0.0, 1.0), abs=1e-6)


@pytest.mark.parametrize("n", [1, 2, 40, 41, 100, 137])
def test_the_inverse_of_a_triangular_matrix(n: int) -> None:
    square = uniform(root(n), n, n) - 0.5
    factor = np.linalg.cholesky(square @ square.T + n * np.eye(n))
    inverse = invert_lower(factor)
    assert inverse @ factor == pytest.approx(np.eye(n), abs=1e-10)
    assert (np.triu(inverse, 1) == 0).all()


@pytest.mark.parametrize("axis_of", [AXIS_OF, np.arange(3), np.zeros(3, np.int64)])
def test_the_gradient_is_that_of_the_loss(axis_of: np.ndarray) -> None:
    first, second = np.tril_indices(len(INPUTS), -1)
    squares = np.square(INPUTS[first] - INPUTS[second]).T
    theta, share = np.array([-0.3, 0.2, 0.9, 0.1, -3.0]), order_weights(int(axis_of.max()) + 1, 30)
    _, gradient = _negative_log_posterior(theta, squares, TARGETS, axis_of, share)
    for i in range(len(theta)):
        step = np.eye(len(theta))[i] * 1e-5
        above, below = (
            _negative_log_posterior(theta + way * step, squares, TARGETS, axis_of, share)[0] for way in (1, -1)
        )
        rise = (above - below) / 2e-5
        assert gradient[i] == pytest.approx(rise, rel=1e-4, abs=1e-4)


def test_a_fit_finds_the_feature_that_does_not_matter() -> None:
    hyper = fit(prior_hyperparameters(3), INPUTS, TARGETS, np.arange(3), steps=60, observations=30)
    assert hyper.log_lengths[2] > hyper.log_lengths[0] + 0.5
    assert (
        fit(prior_hyperparameters(3), INPUTS, TARGETS, np.arange(3), steps=60, observations=30).log_lengths.tolist()
        == hyper.log_lengths.tolist()
    )
