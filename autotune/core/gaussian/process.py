"""A Gaussian process conditioned on data: means and deviations for whole populations, and what a pick would change.

Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), algorithm 2.1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

JITTER = 1e-6
"""Added to the diagonal, so that equal points do not make the covariance singular; targets have variance 1."""

LEAST_DEVIATION = 1e-5


@dataclass(frozen=True)
class Hyper:
    """log_lengths [d], and the logarithms of the kernel's amplitude and of the noise, both variances."""

    log_lengths: Floats
    log_amplitude: float
    log_noise: float


def squared_distances(a: Floats, b: Floats) -> Floats:
    """Squared distances [n, m] of rows [n, d] and [m, d]."""
    squares: Floats = np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None] - 2 * a @ b.T
    return np.maximum(squares, 0.0)


def matern52(squares: Floats) -> Floats:
    """The Matérn 5/2 correlation of squared scaled distances."""
    root = np.sqrt(5 * squares)
    correlation: Floats = (1 + root + root * root / 3) * np.exp(-root)
    return correlation


@dataclass(frozen=True)
class Process:
    """`inputs` [n, d], the inverse Cholesky factor [n, n] of their covariance, and the weights [n] of their targets."""

    hyper: Hyper
    inputs: Floats
    inverse_factor: Floats
    weights: Floats

    def covariance(self, a: Floats, b: Floats) -> Floats:
        """The prior covariance [n, m] of rows [n, d] and [m, d]."""
        scale = np.exp(-self.hyper.log_lengths)
        return float(np.exp(self.hyper.log_amplitude)) * matern52(squared_distances(a * scale, b * scale))

    def predict(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """Means [m] and deviations [m] at points [m, d], and the projections [m, n] that `Picks` goes on from."""
        cross = self.covariance(points, self.inputs)
        projections = cross @ self.inverse_factor.T
        variance = np.exp(self.hyper.log_amplitude) - np.square(projections).sum(1)
        return cross @ self.weights, np.sqrt(np.maximum(variance, LEAST_DEVIATION**2)), projections


def condition(hyper: Hyper, inputs: Floats, targets: Floats) -> Process:
    """The process that knows `targets` [n] at `inputs` [n, d]."""
    scale = np.exp(-hyper.log_lengths)
    covariance = np.exp(hyper.log_amplitude) * matern52(squared_distances(inputs * scale, inputs * scale))
    covariance[np.diag_indices(len(inputs))] += np.exp(hyper.log_noise) + JITTER
    inverse_factor = np.linalg.inv(np.linalg.cholesky(covariance))
    return Process(hyper, inputs, inverse_factor, inverse_factor.T @ (inverse_factor @ targets))
