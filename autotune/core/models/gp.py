"""A Gaussian process with an additive Matérn kernel: covariance, conditioning on data, fit of its hyperparameters.

Notation, with the names used in the code:

    n, m, d, A         observations, points to predict, features, axes (an axis is one parameter: one or more features)
    X [n, d]           inputs of the observations, `inputs`: features between 0 and 1
    y [n]              targets, `targets`: of mean 0 and variance 1
    axis_of [d]        the axis 0, …, A - 1 of each feature, ascending
    l [d]              length scales of the features; r² squared distances of inputs divided by them
    k_a                Matérn 5/2 correlation of r² summed over the features of axis a alone; k of r² over all features
    w_0, …, w_3        shares of the variance (`OrderWeights`)
    c(x, x')           correlation w_0 k + w_1 Σ_a k_a + w_2 Σ_{a<b} k_a k_b + w_3 Σ_{a<b<c} k_a k_b k_c
    s², σ²             variances of the function, `amplitude`, and of the noise, `noise`
    K [n, n]           covariance s² c(X, X) + (σ² + JITTER) I of the observations; L its lower Cholesky factor: K = LLᵀ
    α [n]              K⁻¹ y, `weights`
    θ [d + 2]          log l, log s², log σ²

Sources: Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), for the Matérn kernel and algorithm
2.1; Duvenaud, Nickisch and Rasmussen, "Additive Gaussian Processes" (NIPS 2011), for the additive orders; Riedmiller
and Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm" (ICNN 1993), for the fit.

The additive orders are most of what a dozen observations can tell. Hundreds of observations determine them, and a model
of nothing else would then be certain about points it never saw, such as a lonely optimum; so w_0 grows with n.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotune.core.memo import memo, read_only

Floats = NDArray[np.float64]
AxisIndex = NDArray[np.int64]
"""`axis_of` [d]."""

WHOLE_SHARE, HALF_REACHED = 0.5, 100
"""w_0 tends to this share, and is half of it at 100 observations; the additive orders share the rest equally. Chosen by
searches of recorded spaces: docs/design/gaussian_process.md has the figures."""

JITTER = 1e-6
"""Added to the diagonal of K, so that equal inputs do not make it singular; targets have variance 1."""

LEAST_DEVIATION = 1e-5
"""Rounding may make a predicted variance negative; deviations are at least this."""

DENSE_FEATURES = 100
"""With at most this many features one product of whole matrices, most of whose terms are 0, is faster than one product
for each axis."""

SMALL_INVERSE = 40
"""Triangular matrices up to this size are inverted by the general routine, which is as fast for them."""

PRIOR_LOG_LENGTH, PRIOR_LOG_LENGTH_SPREAD = float(np.log(0.8)), 1.0
PRIOR_LOG_AMPLITUDE, PRIOR_LOG_AMPLITUDE_SPREAD = 0.0, 1.0
PRIOR_LOG_NOISE, PRIOR_LOG_NOISE_SPREAD = float(np.log(1e-4)), 1.5
"""Log-normal priors, wide, for inputs between 0 and 1 and targets of variance 1. They keep the length scales of
features about which a dozen observations say nothing."""

LOWEST_THETA, HIGHEST_THETA = -5.0, 4.0
FIRST_STEP, LEAST_STEP, LARGEST_STEP, GROW, SHRINK = 0.1, 1e-3, 0.5, 1.2, 0.5
"""Rprop's step sizes in θ; the two factors are the paper's."""

THETA_DECIMALS = 6
"""Decimals to which θ is rounded, so that the last bits of another BLAS lead to the same picks."""


# The kernel


def squared_distances(a: Floats, b: Floats) -> Floats:
    """Squared distances [n, m] of rows [n, d] and [m, d]."""
    squares: Floats = a @ (-2 * b.T)
    squares += np.square(a).sum(1)[:, None]
    squares += np.square(b).sum(1)
    return np.maximum(squares, 0.0, out=squares)


def matern52(squares: Floats) -> Floats:
    """The Matérn 5/2 correlation (1 + √5 r + 5/3 r²) exp(-√5 r) of squared scaled distances r²."""
    root = np.sqrt(5 * squares)
    correlation: Floats = squares * (5 / 3)
    correlation += root
    correlation += 1
    np.negative(root, out=root)
    correlation *= np.exp(root, out=root)
    return correlation


def matern52_and_derivative(squares: Floats) -> tuple[Floats, Floats]:
    """The Matérn 5/2 correlation of squared scaled distances r², and its derivative by r²."""
    root = np.sqrt(5 * squares)
    decay = np.exp(-root)
    derivative = (1 + root) * decay
    correlation = squares * decay
    correlation *= 5 / 3
    correlation += derivative
    derivative *= -5 / 6
    return correlation, derivative


class OrderWeights(NamedTuple):
    """w_0 of the correlation over all features, w_1 of each axis alone, w_2 of each pair of axes, w_3 of each
    triple."""

    whole: float
    single: float
    pair: float
    triple: float

    def additive(self, p1: Floats, p2: Floats, p3: Floats) -> Floats:
        """The three additive orders of c, from the power sums p_i = Σ_a k_a**i.

        By Newton's identities the sum over pairs is (p1² - p2) / 2, and the sum over triples
        (p1³ - 3 p1 p2 + 2 p3) / 6.
        """
        total: Floats = p1 * (self.triple / 6)
        total += self.pair / 2
        total *= p1
        total += self.single
        total -= (self.triple / 2) * p2
        total *= p1
        total -= (self.pair / 2) * p2
        total += (self.triple / 3) * p3
        return total

    def additive_derivatives(self, by_axis: Floats, p1: Floats, p2: Floats) -> Floats:
        """The derivatives of `additive` by k_a [A, …], for `by_axis` = k_a [A, …]."""
        derivatives: Floats = by_axis * -self.triple
        derivatives += self.pair + self.triple * p1
        derivatives *= -by_axis
        derivatives += self.single + self.pair * p1 + (self.triple / 2) * (p1 * p1 - p2)
        return derivatives


@lru_cache(maxsize=64)
def order_weights(axes: int, observations: int) -> OrderWeights:
    """The weights for a number of axes and of observations. Where the axes have no triples, or not even pairs, the
    correlation over all features has their share."""
    counts = [comb(axes, order) for order in (1, 2, 3)]
    order = (1 - WHOLE_SHARE * observations / (observations + HALF_REACHED)) / len(counts)
    each = [order / count if count else 0.0 for count in counts]
    return OrderWeights(1 - order * sum(count > 0 for count in counts), *each)


def features_by_axis(axis_of: AxisIndex) -> list[slice]:
    """The features of each axis."""
    edges = np.searchsorted(axis_of, np.arange(int(axis_of.max()) + 2))
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """log l [d], log s², log σ², and the number of observations known at the fit, which the weights depend on."""

    log_lengths: Floats
    log_amplitude: float
    log_noise: float
    observations: int


class TrainingInputs:
    """X [n, d] with the hyperparameters of the kernel, ready to be compared with other points.

    An axis has few values, so k_a is computed once for each value that occurs among the inputs: V values of all axes
    together. `members` [V, n] is 1 where an input has the value; `values` [d, V] the scaled features of each value, 0
    for features of other axes; `has_feature` [d, V] which features those are; `places` lists for each axis the slice
    of its features and the slice of its values.
    """

    def __init__(self, hyper: Hyperparameters, inputs: Floats, axis_of: AxisIndex) -> None:
        self.scale, self.first_features = np.exp(-hyper.log_lengths), np.flatnonzero(np.diff(axis_of, prepend=-1))
        self.weights = order_weights(len(self.first_features), hyper.observations)
        self.inputs = inputs * self.scale
        parts = features_by_axis(axis_of)
        occurring = _occurring_values(self.inputs, parts)
        self.members = np.concatenate(
            [index == np.arange(len(values))[:, None] for values, index in occurring], dtype=np.float64
        )
        axis = np.repeat(np.arange(len(occurring)), [len(values) for values, _ in occurring])
        self.has_feature = (axis_of[:, None] == axis).astype(np.float64)
        self.values = np.zeros(self.has_feature.shape)
        ends = np.searchsorted(axis, np.arange(len(occurring) + 1))
        self.places = [(part, slice(int(a), int(b))) for part, (a, b) in zip(parts, pairwise(ends), strict=True)]
        for i, (part, (values, _)) in enumerate(zip(parts, occurring, strict=True)):
            self.values[part, axis == i] = values.T

    def correlation(self, points: Floats) -> Floats:
        """c(points, X) [m, n] for points [m, d]."""
        return self._correlation(points * self.scale)

    @memo
    def self_correlation(self) -> Floats:
        """c(X, X) [n, n]."""
        return self._correlation(self.inputs)

    def correlation_with(self, points: Floats, point: Floats) -> Floats:
        """c(points, point) [m] for points [m, d] and one point [d]."""
        squares = np.square((points - point) * self.scale)
        by_axis = np.add.reduceat(squares, self.first_features, axis=1)
        each = matern52(by_axis)
        power = np.square(each)
        p1, p2 = each.sum(axis=1), power.sum(axis=1)
        power *= each
        additive = self.weights.additive(p1, p2, power.sum(axis=1))
        return self.weights.whole * matern52(by_axis.sum(axis=1)) + additive

    def _correlation(self, scaled: Floats) -> Floats:
        squares = self._squares_to_values(scaled)
        by_value = matern52(np.maximum(squares, 0.0, out=squares))
        p1 = by_value @ self.members
        power = np.square(by_value)
        p2 = power @ self.members
        power *= by_value
        correlation = self.weights.additive(p1, p2, power @ self.members)
        correlation += self.weights.whole * matern52(squared_distances(scaled, self.inputs))
        return correlation

    def _squares_to_values(self, scaled: Floats) -> Floats:
        """The squared distances [m, V] of scaled points [m, d] from each value, along the value's axis alone."""
        if len(self.values) <= DENSE_FEATURES:
            squares: Floats = np.square(scaled) @ self.has_feature
            squares -= scaled @ (2 * self.values)
            squares += np.square(self.values).sum(axis=0)
            return squares
        squares = np.empty((len(scaled), self.values.shape[1]))
        for part, place in self.places:
            points, values = scaled[:, part], self.values[part, place]
            squares[:, place] = points @ (-2 * values)
            squares[:, place] += np.square(points).sum(axis=1)[:, None]
            squares[:, place] += np.square(values).sum(axis=0)
        return squares


def _occurring_values(inputs: Floats, parts: Sequence[slice]) -> list[tuple[Floats, NDArray[np.int64]]]:
    """For each axis the distinct values [v, w] among inputs [n, d], and the index of each input's value [n]."""
    order = np.argsort(inputs, axis=0, kind="stable")
    ordered = np.take_along_axis(inputs, order, axis=0)
    steps = np.concatenate([np.zeros((1, inputs.shape[1]), bool), ordered[1:] != ordered[:-1]])
    index = np.empty(inputs.shape, np.int64)
    np.put_along_axis(index, order, steps.cumsum(axis=0), axis=0)
    found = []
    for part in parts:
        if part.stop - part.start > 1:  # several features: np.unique of rows, many times as slow
            values, which = np.unique(inputs[:, part], axis=0, return_inverse=True)
            found.append((values, which.reshape(-1)))
        else:
            first = steps[:, part.start].copy()
            first[:1] = True
            found.append((ordered[first, part], index[:, part.start]))
    return found


# The process conditioned on observations (algorithm 2.1)


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """The process that knows y at X: s², σ², L⁻¹ [n, n] and α [n]."""

    inputs: TrainingInputs
    amplitude: float
    noise: float
    inverse_factor: Floats
    weights: Floats

    def mean(self, correlation: Floats) -> Floats:
        """Means [m] of points whose correlation with X is [m, n]."""
        means: Floats = self.amplitude * (correlation @ self.weights)
        return means

    def predict(self, correlation: Floats) -> tuple[Floats, Floats, Floats]:
        """Means [m] and deviations [m] of points whose correlation with X is [m, n], and their projections
        s² c(points, X) L⁻ᵀ [m, n], from which `acquisition.choose_batch` goes on."""
        projections = (self.amplitude * correlation) @ self.inverse_factor.T
        variance = self.amplitude - np.square(projections).sum(1)
        return self.mean(correlation), np.sqrt(np.maximum(variance, LEAST_DEVIATION**2)), projections

    def prior_covariance(self, points: Floats, point: Floats) -> Floats:
        """The covariance [m] of points [m, d] with one point [d], as if nothing were known."""
        return self.amplitude * self.inputs.correlation_with(points, point)


def condition(inputs: TrainingInputs, amplitude: float, noise: float, targets: Floats) -> Posterior:
    """The process that knows the targets [n] at the inputs."""
    covariance = amplitude * inputs.self_correlation
    covariance[np.diag_indices(len(covariance))] += noise + JITTER
    inverse_factor = invert_lower(np.linalg.cholesky(covariance))
    weights = inverse_factor.T @ (inverse_factor @ targets)
    return Posterior(inputs=inputs, amplitude=amplitude, noise=noise, inverse_factor=inverse_factor, weights=weights)


def invert_lower(factor: NDArray[np.floating]) -> Floats:
    """The inverse of a lower triangular matrix [n, n] by halves: [[A, 0], [B, C]]⁻¹ = [[A⁻¹, 0], [-C⁻¹ B A⁻¹, C⁻¹]].

    numpy's general inverse does several times the work; docs/design/gaussian_process.md says why scipy is not used.
    """
    n = len(factor)
    if n <= SMALL_INVERSE:
        small: Floats = np.tril(np.linalg.inv(factor))
        return small
    half = n // 2
    inverse = np.zeros((n, n))
    inverse[:half, :half] = upper = invert_lower(factor[:half, :half])
    inverse[half:, half:] = lower = invert_lower(factor[half:, half:])
    inverse[half:, :half] = -lower @ (factor[half:, :half] @ upper)
    return inverse


# The fit: θ of the highest posterior, by Rprop with gradients in closed form


def prior_hyperparameters(features: int) -> Hyperparameters:
    """The hyperparameters before any observation: the middle of the priors."""
    lengths = read_only(np.full(features, PRIOR_LOG_LENGTH))
    return Hyperparameters(
        log_lengths=lengths, log_amplitude=PRIOR_LOG_AMPLITUDE, log_noise=PRIOR_LOG_NOISE, observations=0
    )


def fit(
    start: Hyperparameters, inputs: Floats, targets: Floats, axis_of: AxisIndex, *, steps: int, observations: int
) -> Hyperparameters:
    """The best θ of `steps` steps uphill from `start`, for inputs [n, d] and targets [n].

    observations: how many there are in all; the n given may be a choice of them. Rprop steps by the signs of the
    gradient alone, so it needs no line search and copes with scales that differ by orders of magnitude.
    """
    first, second = _pairs(len(inputs))
    squares = np.square((inputs[first] - inputs[second]).T.copy())
    theta = np.concatenate([start.log_lengths, [start.log_amplitude, start.log_noise]])
    weights = order_weights(int(axis_of.max()) + 1, observations)
    best, lowest = theta, np.inf
    step, before = np.full(len(theta), FIRST_STEP), np.zeros(len(theta))
    for _ in range(steps):
        loss, gradient = _negative_log_posterior(theta, squares, targets, axis_of, weights)
        if loss < lowest:
            lowest, best = loss, theta
        turn = gradient * before
        longer, shorter = np.minimum(step * GROW, LARGEST_STEP), np.maximum(step * SHRINK, LEAST_STEP)
        step = np.where(turn > 0, longer, np.where(turn < 0, shorter, step))
        before = np.where(turn < 0, 0.0, gradient)
        theta = np.clip(theta - np.sign(before) * step, LOWEST_THETA, HIGHEST_THETA)
    best = np.round(best, THETA_DECIMALS)
    return Hyperparameters(
        log_lengths=read_only(best[:-2]),
        log_amplitude=float(best[-2]),
        log_noise=float(best[-1]),
        observations=observations,
    )


def _negative_log_posterior(
    theta: Floats, squares: Floats, targets: Floats, axis_of: AxisIndex, weights: OrderWeights
) -> tuple[float, Floats]:
    """-log p(θ | y), up to a constant, and its gradient [d + 2].

    squares: squared distances [d, pairs] along each feature, of the pairs below the diagonal of [n, n], row by row:
    half the work, as everything is symmetric.
    """
    d, n = len(theta) - 2, len(targets)
    inverse_squares, amplitude, noise = np.exp(-2 * theta[:d]), np.exp(theta[d]), np.exp(theta[d + 1])
    below, parts = _pairs(n), features_by_axis(axis_of)
    correlation, derivatives = _pair_correlation(inverse_squares, squares, parts, weights)
    covariance = np.zeros((n, n))
    covariance[below] = amplitude * correlation
    covariance += covariance.T
    covariance[np.diag_indices(n)] = amplitude + noise + JITTER
    factor = np.linalg.cholesky(covariance)
    inverse_factor = invert_lower(factor)
    inverse = inverse_factor.T @ inverse_factor
    alpha = inverse @ targets
    # The gradient of the likelihood by a parameter t is tr((K⁻¹ - α αᵀ) ∂K/∂t) / 2.
    trace = float(np.trace(inverse) - alpha @ alpha)
    excess = amplitude * (inverse[below] - alpha[below[0]] * alpha[below[1]])
    gradient = np.empty_like(theta)
    by_feature = [squares[part] @ (derivatives[axis] * excess) for axis, part in enumerate(parts)]
    gradient[:d] = -2 * inverse_squares * np.concatenate(by_feature)
    gradient[d] = correlation @ excess + 0.5 * amplitude * trace
    gradient[d + 1] = 0.5 * noise * trace
    middle = np.concatenate([np.full(d, PRIOR_LOG_LENGTH), [PRIOR_LOG_AMPLITUDE, PRIOR_LOG_NOISE]])
    spread = np.concatenate([np.full(d, PRIOR_LOG_LENGTH_SPREAD), [PRIOR_LOG_AMPLITUDE_SPREAD, PRIOR_LOG_NOISE_SPREAD]])
    pull = (theta - middle) / spread
    loss = 0.5 * targets @ alpha + np.log(np.diag(factor)).sum() + 0.5 * pull @ pull
    return float(loss), gradient + pull / spread


def _pair_correlation(
    inverse_squares: Floats, squares: Floats, parts: Sequence[slice], weights: OrderWeights
) -> tuple[Floats, Floats]:
    """c [pairs], and its derivative [A, pairs] by the scaled squared distance along each axis.

    inverse_squares: 1 / l² [d]. squares: [d, pairs]. parts: the features of each axis.
    """
    by_axis = np.stack([inverse_squares[part] @ squares[part] for part in parts])
    whole, whole_derivative = matern52_and_derivative(by_axis.sum(0))
    each, derivatives = matern52_and_derivative(by_axis)
    power = np.square(each)
    p1, p2 = each.sum(0), power.sum(0)
    correlation = weights.whole * whole + weights.additive(p1, p2, (power * each).sum(0))
    return correlation, weights.whole * whole_derivative + derivatives * weights.additive_derivatives(each, p1, p2)


@lru_cache(maxsize=4)
def _pairs(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows and columns of the pairs below the diagonal of [n, n]; every step of a fit asks for them."""
    rows, columns = np.tril_indices(n, -1)
    return read_only(rows), read_only(columns)
