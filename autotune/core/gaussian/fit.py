"""The hyper-parameters of a process, by maximum a posteriori: gradients in closed form, steps by their signs alone.

Rprop (Riedmiller and Braun 1993) needs no line search and copes with scales that differ by orders of magnitude; the
priors (log-normal, wide) keep the length scales of features that a dozen points cannot judge.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autotune.core.gaussian.kernel import Blocks, Floats, Hyper, Shares, matern52_and_slope, parts, shares
from autotune.core.gaussian.process import JITTER
from autotune.core.gaussian.triangular import inverse_lower
from autotune.core.memo import read_only

LENGTH, LENGTH_SPREAD = float(np.log(0.8)), 1.0
"""Prior of the log length scales: features lie between 0 and 1."""

NOISE, NOISE_SPREAD = float(np.log(1e-4)), 1.5
AMPLITUDE_SPREAD = 1.0
LOWEST, HIGHEST = -5.0, 4.0


def prior(features: int) -> Hyper:
    """The hyper-parameters before any data."""
    return Hyper(read_only(np.full(features, LENGTH)), 0.0, NOISE, 0)


def fit(start: Hyper, inputs: Floats, targets: Floats, blocks: Blocks, steps: int, known: int) -> Hyper:
    """The best of `steps` steps uphill from `start`, for inputs [n, d] and targets [n] of mean 0 and variance 1, which
    may be some of the `known` points."""
    first, second = _below(len(inputs))
    squares = np.square((inputs[first] - inputs[second]).T.copy())
    theta = np.concatenate([start.log_lengths, [start.log_amplitude, start.log_noise]])
    share = shares(int(blocks.max()) + 1, known)
    best, lowest = theta, np.inf
    pace, before = np.full(len(theta), 0.1), np.zeros(len(theta))
    for _ in range(steps):
        loss, gradient = _loss(theta, squares, targets, blocks, share)
        if loss < lowest:
            lowest, best = loss, theta
        turn = gradient * before
        pace = np.where(turn > 0, np.minimum(pace * 1.2, 0.5), np.where(turn < 0, np.maximum(pace * 0.5, 1e-3), pace))
        before = np.where(turn < 0, 0.0, gradient)
        theta = np.clip(theta - np.sign(before) * pace, LOWEST, HIGHEST)
    best = np.round(best, 6)  # so that the last bits of another BLAS lead to the same picks
    return Hyper(read_only(best[:-2]), float(best[-2]), float(best[-1]), known)


def _loss(theta: Floats, squares: Floats, targets: Floats, blocks: Blocks, share: Shares) -> tuple[float, Floats]:
    """The negative log posterior and its gradient, for squared distances [d, pairs] by feature.

    The pairs are those below the diagonal of [n, n], row by row: half the work, as all is symmetric.
    """
    d, n = len(theta) - 2, len(targets)
    weights, amplitude, noise = np.exp(-2 * theta[:d]), np.exp(theta[d]), np.exp(theta[d + 1])
    below = _below(n)
    correlation, slopes = _correlation(weights, squares, blocks, share)
    covariance = np.zeros((n, n))
    covariance[below] = amplitude * correlation
    covariance += covariance.T
    covariance[np.diag_indices(n)] = amplitude + noise + JITTER
    factor = np.linalg.cholesky(covariance)
    inverse_factor = inverse_lower(factor)
    inverse = inverse_factor.T @ inverse_factor
    solved = inverse @ targets
    trace = float(np.trace(inverse) - solved @ solved)
    excess = amplitude * (inverse[below] - solved[below[0]] * solved[below[1]])
    gradient = np.empty_like(theta)
    gradient[:d] = -2 * weights * np.concatenate([squares[part] @ (slopes[q] * excess) for q, part in _each(blocks)])
    gradient[d] = correlation @ excess + 0.5 * amplitude * trace
    gradient[d + 1] = 0.5 * noise * trace
    middle = np.concatenate([np.full(d, LENGTH), [0.0, NOISE]])
    spread = np.concatenate([np.full(d, LENGTH_SPREAD), [AMPLITUDE_SPREAD, NOISE_SPREAD]])
    pull = (theta - middle) / spread
    loss = 0.5 * targets @ solved + np.log(np.diag(factor)).sum() + 0.5 * pull @ pull
    return float(loss), gradient + pull / spread


@lru_cache(maxsize=4)
def _below(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The indices of the pairs; every step of a fit asks for them."""
    rows, columns = np.tril_indices(n, -1)
    return read_only(rows), read_only(columns)


def _each(blocks: Blocks) -> list[tuple[int, slice]]:
    return list(enumerate(parts(blocks)))


def _correlation(weights: Floats, squares: Floats, blocks: Blocks, share: Shares) -> tuple[Floats, Floats]:
    """The correlation [pairs], and its derivative [axes, pairs] by the scaled squared distance along each axis."""
    by_axis = np.stack([weights[part] @ squares[part] for _, part in _each(blocks)])
    whole, whole_slope = matern52_and_slope(by_axis.sum(0))
    each, slopes = matern52_and_slope(by_axis)
    power = np.square(each)
    first, second = each.sum(0), power.sum(0)
    correlation = share.together * whole + share.additive(first, second, (power * each).sum(0))
    return correlation, share.together * whole_slope + slopes * share.additive_slopes(each, first, second)
