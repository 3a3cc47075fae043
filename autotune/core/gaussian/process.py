"""A Gaussian process conditioned on data: means and deviations for whole populations, and what a pick would change.

Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), algorithm 2.1.
"""

from dataclasses import dataclass

import numpy as np

from autotune.core.gaussian.kernel import Blocks, Floats, Hyper, Known, correlation_to

JITTER = 1e-6
"""Added to the diagonal, so that equal points do not make the covariance singular; targets have variance 1."""

LEAST_DEVIATION = 1e-5


@dataclass(frozen=True)
class Process:
    """Known inputs [n, d], the inverse Cholesky factor [n, n] of their covariance, and the weights [n] of targets."""

    known: Known
    inverse_factor: Floats
    weights: Floats

    @property
    def amplitude(self) -> float:
        return float(np.exp(self.known.hyper.log_amplitude))

    @property
    def noise(self) -> float:
        return float(np.exp(self.known.hyper.log_noise))

    def covariance(self, points: Floats, point: Floats) -> Floats:
        """The prior covariance [m] of points [m, d] with one point [d]."""
        return self.amplitude * correlation_to(self.known.hyper, self.known.blocks, points, point)

    def predict(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """Means [m] and deviations [m] at points [m, d], and the projections [m, n] that a batch goes on from."""
        cross = self.amplitude * self.known.correlation(points)
        projections = cross @ self.inverse_factor.T
        variance = self.amplitude - np.square(projections).sum(1)
        return cross @ self.weights, np.sqrt(np.maximum(variance, LEAST_DEVIATION**2)), projections

    def mean(self, points: Floats) -> Floats:
        """Means [m] at points [m, d]."""
        means: Floats = self.amplitude * (self.known.correlation(points) @ self.weights)
        return means


def condition(hyper: Hyper, inputs: Floats, targets: Floats, blocks: Blocks) -> Process:
    """The process that knows `targets` [n] at `inputs` [n, d]."""
    known = Known(hyper, inputs, blocks)
    covariance = np.exp(hyper.log_amplitude) * known.correlation(inputs)
    covariance[np.diag_indices(len(inputs))] += np.exp(hyper.log_noise) + JITTER
    inverse_factor = np.linalg.inv(np.linalg.cholesky(covariance))
    return Process(known, inverse_factor, inverse_factor.T @ (inverse_factor @ targets))
