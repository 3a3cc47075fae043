"""The covariance of points: what each axis does alone, what two and three of them do, and more and more what all do.

A Matérn 5/2 with a length scale for each feature, over each axis alone for the first three additive orders (Duvenaud,
Nickisch and Rasmussen, "Additive Gaussian Processes", NIPS 2011), and over all of them (Rasmussen and Williams,
"Gaussian Processes for Machine Learning", 2006). From a dozen points, what single parameters do is most of what can be
known. From hundreds it is known, and a model of nothing else would be sure of what is left: a lonely optimum.
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
Blocks = NDArray[np.int64]
"""The axis [d] that each feature belongs to: 0, …, p - 1, in order."""

TOGETHER, HALF_WAY = 0.5, 100
"""The share of the variance that all axes have together in the end, half of it when 100 points are known. The three
additive orders have equal parts of the rest."""

DENSE = 100
"""Up to so many features one product of whole matrices, most of whose terms are 0, is faster than one for each axis."""


@dataclass(frozen=True)
class Hyper:
    """log_lengths [d], the logarithms of the kernel's amplitude and of the noise, both variances, and how many points
    were known when they were fitted, which the shares depend on."""

    log_lengths: Floats
    log_amplitude: float
    log_noise: float
    known: int


def squared_distances(a: Floats, b: Floats) -> Floats:
    """Squared distances [n, m] of rows [n, d] and [m, d]."""
    squares: Floats = a @ (-2 * b.T)
    squares += np.square(a).sum(1)[:, None]
    squares += np.square(b).sum(1)
    return np.maximum(squares, 0.0, out=squares)


def matern52(squares: Floats) -> Floats:
    """The Matérn 5/2 correlation of squared scaled distances."""
    root = np.sqrt(5 * squares)
    correlation: Floats = squares * (5 / 3)
    correlation += root
    correlation += 1
    np.negative(root, out=root)
    correlation *= np.exp(root, out=root)
    return correlation


def matern52_and_slope(squares: Floats) -> tuple[Floats, Floats]:
    """The Matérn 5/2 correlation of squared scaled distances, and its derivative by them."""
    root = np.sqrt(5 * squares)
    decay = np.exp(-root)
    slope = (1 + root) * decay
    correlation = squares * decay
    correlation *= 5 / 3
    correlation += slope
    slope *= -5 / 6
    return correlation, slope


class Shares(NamedTuple):
    """What the parts weigh: together, each axis alone, each pair, each triple of them."""

    together: float
    alone: float
    pair: float
    triple: float

    def additive(self, first: Floats, second: Floats, third: Floats) -> Floats:
        """The three additive orders, of the sums over all axes of each one's correlation, its square and its cube.

        By Newton's identities a sum over all pairs is (first**2 - second) / 2, one over all triples
        (first**3 - 3 first second + 2 third) / 6.
        """
        total: Floats = first * (self.triple / 6)
        total += self.pair / 2
        total *= first
        total += self.alone
        total -= (self.triple / 2) * second
        total *= first
        total -= (self.pair / 2) * second
        total += (self.triple / 3) * third
        return total

    def additive_slopes(self, each: Floats, first: Floats, second: Floats) -> Floats:
        """The derivatives of `additive` by the correlation of each axis [axes, …]: what all orders add to it, less what
        the axis itself would add to them."""
        slopes: Floats = each * -self.triple
        slopes += self.pair + self.triple * first
        slopes *= -each
        slopes += self.alone + self.pair * first + (self.triple / 2) * (first * first - second)
        return slopes


@lru_cache(maxsize=64)
def shares(axes: int, known: int) -> Shares:
    """Those of so many axes when so many points are known. Where there are no triples, or not even pairs, all axes
    together have their share."""
    counts = [comb(axes, order) for order in (1, 2, 3)]
    order = (1 - TOGETHER * known / (known + HALF_WAY)) / len(counts)
    each = [order / count if count else 0.0 for count in counts]
    return Shares(1 - order * sum(count > 0 for count in counts), *each)


def parts(blocks: Blocks) -> list[slice]:
    """The features of each axis."""
    edges = np.searchsorted(blocks, np.arange(int(blocks.max()) + 2))
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


class Known:
    """Inputs [n, d] to which other points are compared, by these hyper-parameters of features of the axes `blocks` [d].

    An axis has few values, so its correlations are computed once for each value that occurs, v on all axes together.
    members [v, n]: 1 where an input has the value. values [d, v]: the value's features, 0 for those of other axes.
    places: for each axis its features among the d, and its values among the v.
    """

    def __init__(self, hyper: Hyper, inputs: Floats, blocks: Blocks) -> None:
        self.scale, self.edges = np.exp(-hyper.log_lengths), np.flatnonzero(np.diff(blocks, prepend=-1))
        self.shares = shares(len(self.edges), hyper.known)
        self.inputs = inputs * self.scale
        occur = _occurring(self.inputs, parts(blocks))
        self.members = np.concatenate(
            [index == np.arange(len(values))[:, None] for values, index in occur], dtype=np.float64
        )
        axis = np.repeat(np.arange(len(occur)), [len(values) for values, _ in occur])
        self.of_axis = (blocks[:, None] == axis).astype(np.float64)
        self.values = np.zeros(self.of_axis.shape)
        ends = np.searchsorted(axis, np.arange(len(occur) + 1))
        self.places = [
            (part, slice(int(a), int(b))) for part, (a, b) in zip(parts(blocks), pairwise(ends), strict=True)
        ]
        for i, (part, (values, _)) in enumerate(zip(parts(blocks), occur, strict=True)):
            self.values[part, axis == i] = values.T

    def correlation(self, points: Floats) -> Floats:
        """The correlation [m, n] of points [m, d] with the inputs."""
        return self._correlation(points * self.scale)

    @memo
    def own(self) -> Floats:
        """The correlation [n, n] of the inputs with one another."""
        return self._correlation(self.inputs)

    def _squares(self, scaled: Floats) -> Floats:
        """The squared distances [m, v] of points [m, d] from each value, along the value's axis alone."""
        if len(self.values) <= DENSE:
            squares: Floats = np.square(scaled) @ self.of_axis
            squares -= scaled @ (2 * self.values)
            squares += np.square(self.values).sum(axis=0)
            return squares
        squares = np.empty((len(scaled), self.values.shape[1]))
        for part, those in self.places:
            points, values = scaled[:, part], self.values[part, those]
            squares[:, those] = points @ (-2 * values)
            squares[:, those] += np.square(points).sum(axis=1)[:, None]
            squares[:, those] += np.square(values).sum(axis=0)
        return squares

    def _correlation(self, scaled: Floats) -> Floats:
        squares = self._squares(scaled)
        by_value = matern52(np.maximum(squares, 0.0, out=squares))
        first = by_value @ self.members
        power = np.square(by_value)
        second = power @ self.members
        power *= by_value
        correlation = self.shares.additive(first, second, power @ self.members)
        correlation += self.shares.together * matern52(squared_distances(scaled, self.inputs))
        return correlation

    def correlation_with(self, points: Floats, point: Floats) -> Floats:
        """The correlation [m] of points [m, d] with one more point [d]."""
        squares = np.square((points - point) * self.scale)
        by_axis = np.add.reduceat(squares, self.edges, axis=1)
        each = matern52(by_axis)
        power = np.square(each)
        first, second = each.sum(axis=1), power.sum(axis=1)
        power *= each
        return self.shares.together * matern52(by_axis.sum(axis=1)) + self.shares.additive(
            first, second, power.sum(axis=1)
        )


def _occurring(inputs: Floats, axes: Sequence[slice]) -> list[tuple[Floats, NDArray[np.int64]]]:
    """For each axis the values [k, w] that occur among the inputs [n, d], and which of them each input has [n]."""
    order = np.argsort(inputs, axis=0, kind="stable")
    ordered = np.take_along_axis(inputs, order, axis=0)
    steps = np.concatenate([np.zeros((1, inputs.shape[1]), bool), ordered[1:] != ordered[:-1]])
    index = np.empty(inputs.shape, np.int64)
    np.put_along_axis(index, order, steps.cumsum(axis=0), axis=0)
    found = []
    for part in axes:
        if part.stop - part.start > 1:  # several features: by rows, many times as slow
            values, which = np.unique(inputs[:, part], axis=0, return_inverse=True)
            found.append((values, which.reshape(-1)))
        else:
            first = steps[:, part.start].copy()
            first[:1] = True
            found.append((ordered[first, part], index[:, part.start]))
    return found


LARGEST = 40
"""Up to this size the general inverse is as fast."""


def inverse_lower(factor: NDArray[np.floating]) -> Floats:
    """The inverse of a lower triangular matrix [n, n], by halves: [[A, 0], [B, C]] has [[A', 0], [-C' B A', C']]."""
    n = len(factor)
    if n <= LARGEST:
        small: Floats = np.tril(np.linalg.inv(factor))
        return small
    half = n // 2
    inverse = np.zeros((n, n))
    inverse[:half, :half] = upper = inverse_lower(factor[:half, :half])
    inverse[half:, half:] = lower = inverse_lower(factor[half:, half:])
    inverse[half:, :half] = -lower @ (factor[half:, :half] @ upper)
    return inverse


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
