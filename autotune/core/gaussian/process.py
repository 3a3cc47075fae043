"""A Gaussian process conditioned on data: means and deviations for whole populations, and what a pick would change.

Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), algorithm 2.1.
"""

from dataclasses import dataclass

import numpy as np

from autotune.core.gaussian.kernel import Floats, Known
from autotune.core.gaussian.triangular import inverse_lower

JITTER = 1e-6
"""Added to the diagonal, so that equal points do not make the covariance singular; targets have variance 1."""

LEAST_DEVIATION = 1e-5


@dataclass(frozen=True)
class Process:
    """Known inputs [n, d], two variances, the inverse Cholesky factor [n, n] of the covariance, and weights [n]."""

    known: Known
    amplitude: float
    noise: float
    inverse_factor: Floats
    weights: Floats

    def covariance(self, points: Floats, point: Floats) -> Floats:
        """The prior covariance [m] of points [m, d] with one point [d]."""
        return self.amplitude * self.known.correlation_with(points, point)

    def mean(self, correlation: Floats) -> Floats:
        """Means [m] of points whose correlation with the known inputs is [m, n]."""
        means: Floats = self.amplitude * (correlation @ self.weights)
        return means

    def predict(self, correlation: Floats) -> tuple[Floats, Floats, Floats]:
        """Means [m] and deviations [m] of points whose correlation with the known inputs is [m, n]; and the projections
        [m, n] that a batch goes on from."""
        projections = (self.amplitude * correlation) @ self.inverse_factor.T
        variance = self.amplitude - np.square(projections).sum(1)
        return self.mean(correlation), np.sqrt(np.maximum(variance, LEAST_DEVIATION**2)), projections


def condition(known: Known, amplitude: float, noise: float, targets: Floats) -> Process:
    """The process that knows `targets` [n] at the known inputs."""
    covariance = amplitude * known.own
    covariance[np.diag_indices(len(covariance))] += noise + JITTER
    inverse_factor = inverse_lower(np.linalg.cholesky(covariance))
    return Process(known, amplitude, noise, inverse_factor, inverse_factor.T @ (inverse_factor @ targets))
