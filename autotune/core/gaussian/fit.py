"""The hyper-parameters of a process, by maximum a posteriori: gradients in closed form, steps by their signs alone.

Rprop (Riedmiller and Braun 1993) needs no line search and copes with scales that differ by orders of magnitude; the
priors (log-normal, wide) keep the length scales of features that a dozen points cannot judge.
"""

import numpy as np

from autotune.core.gaussian.process import JITTER, Floats, Hyper, matern52

LENGTH, LENGTH_SPREAD = float(np.log(0.6)), 0.8
"""Prior of the log length scales: features are scaled to [0, 1]."""

NOISE, NOISE_SPREAD = float(np.log(1e-2)), 1.5
AMPLITUDE_SPREAD = 1.0
LOWEST, HIGHEST = -5.0, 4.0


def prior(features: int) -> Hyper:
    """The hyper-parameters before any data."""
    return Hyper(np.full(features, LENGTH), 0.0, NOISE)


def fit(start: Hyper, inputs: Floats, targets: Floats, steps: int) -> Hyper:
    """The best of `steps` steps uphill from `start`, for inputs [n, d] and targets [n] of mean 0 and variance 1."""
    squares = np.square(inputs.T[:, :, None] - inputs.T[:, None, :])
    theta = np.concatenate([start.log_lengths, [start.log_amplitude, start.log_noise]])
    best, lowest = theta, np.inf
    pace, before = np.full(len(theta), 0.1), np.zeros(len(theta))
    for _ in range(steps):
        loss, gradient = _loss(theta, squares, targets)
        if loss < lowest:
            lowest, best = loss, theta
        turn = gradient * before
        pace = np.where(turn > 0, np.minimum(pace * 1.2, 0.5), np.where(turn < 0, np.maximum(pace * 0.5, 1e-3), pace))
        before = np.where(turn < 0, 0.0, gradient)
        theta = np.clip(theta - np.sign(before) * pace, LOWEST, HIGHEST)
    best = np.round(best, 6)  # so that the last bits of another BLAS lead to the same picks
    return Hyper(best[:-2], float(best[-2]), float(best[-1]))


def _loss(theta: Floats, squares: Floats, targets: Floats) -> tuple[float, Floats]:
    """The negative log posterior and its gradient, for squared distances [d, n, n] by feature."""
    d, n = len(theta) - 2, len(targets)
    weights, amplitude, noise = np.exp(-2 * theta[:d]), np.exp(theta[d]), np.exp(theta[d + 1])
    scaled = np.tensordot(weights, squares, 1)
    covariance = amplitude * matern52(scaled)
    root = np.sqrt(5 * np.maximum(scaled, 1e-20))
    slope = amplitude * (-5 / 6) * (1 + root) * np.exp(-root)  # of the covariance by the scaled square
    factor = np.linalg.cholesky(covariance + (noise + JITTER) * np.eye(n))
    inverse_factor = np.linalg.inv(factor)
    inverse = inverse_factor.T @ inverse_factor
    solved = inverse @ targets
    excess = inverse - np.outer(solved, solved)
    gradient = np.empty_like(theta)
    gradient[:d] = -np.tensordot(squares, excess * slope, ((1, 2), (0, 1))) * weights
    gradient[d] = 0.5 * (excess * covariance).sum()
    gradient[d + 1] = 0.5 * noise * np.trace(excess)
    middle = np.concatenate([np.full(d, LENGTH), [0.0, NOISE]])
    spread = np.concatenate([np.full(d, LENGTH_SPREAD), [AMPLITUDE_SPREAD, NOISE_SPREAD]])
    pull = (theta - middle) / spread
    loss = 0.5 * targets @ solved + np.log(np.diag(factor)).sum() + 0.5 * pull @ pull
    return float(loss), gradient + pull / spread
