"""The covariance of points: what all axes do together, what each does alone, and what two of them do.

A Matérn 5/2 with a length scale for each feature, over all of them (Rasmussen and Williams, "Gaussian Processes for
Machine Learning", 2006), and over each axis alone for the first two additive orders (Duvenaud, Nickisch and Rasmussen,
"Additive Gaussian Processes", NIPS 2011): from a dozen points, what single parameters do is most of what can be known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Blocks = NDArray[np.int64]
"""The axis [d] that each feature belongs to: 0, …, p - 1, in order."""

TOGETHER, ALONE, PAIRS = 0.4, 0.3, 0.3
"""The shares of the variance."""


@dataclass(frozen=True)
class Hyper:
    """log_lengths [d], and the logarithms of the kernel's amplitude and of the noise, both variances."""

    log_lengths: Floats
    log_amplitude: float
    log_noise: float


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
    return (1 + root + root * root / 3) * decay, (-5 / 6) * (1 + root) * decay


def shares(blocks: Blocks) -> tuple[float, float, float]:
    """What the three parts weigh: together, each axis alone, each pair of two. A lone axis has no pairs."""
    p = int(blocks.max()) + 1
    return (TOGETHER, ALONE / p, 2 * PAIRS / (p * (p - 1))) if p > 1 else (TOGETHER + PAIRS, ALONE, 0.0)


def parts(blocks: Blocks) -> list[slice]:
    """The features of each axis."""
    edges = np.searchsorted(blocks, np.arange(int(blocks.max()) + 2))
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


class Known:
    """Inputs [n, d] to which other points are compared, by log length scales [d] of features of the axes `blocks` [d].

    An axis has few values, so its correlations are computed once for each value that occurs, v on all axes together.
    members [v, n]: 1 where an input has the value. values [d, v]: the value's features, 0 for those of other axes.
    """

    def __init__(self, log_lengths: Floats, inputs: Floats, blocks: Blocks) -> None:
        self.scale, self.blocks = np.exp(-log_lengths), blocks
        self.inputs = inputs * self.scale
        occur = _occurring(self.inputs, parts(blocks))
        self.members = np.concatenate(
            [index == np.arange(len(values))[:, None] for values, index in occur], dtype=np.float64
        )
        axis = np.repeat(np.arange(len(occur)), [len(values) for values, _ in occur])
        self.of_axis = (blocks[:, None] == axis).astype(np.float64)
        self.values = np.zeros(self.of_axis.shape)
        for i, (part, (values, _)) in enumerate(zip(parts(blocks), occur, strict=True)):
            self.values[part, axis == i] = values.T

    def correlation(self, points: Floats) -> Floats:
        """The correlation [m, n] of points [m, d] with the inputs."""
        return self._correlation(points * self.scale)

    @cached_property
    def own(self) -> Floats:
        """The correlation [n, n] of the inputs with one another."""
        return self._correlation(self.inputs)

    def _correlation(self, scaled: Floats) -> Floats:
        together, alone, pairs = shares(self.blocks)
        squares = np.square(scaled) @ self.of_axis
        squares -= scaled @ (2 * self.values)
        squares += np.square(self.values).sum(axis=0)
        by_value = matern52(np.maximum(squares, 0.0, out=squares))
        first = by_value @ self.members
        correlation = together * matern52(squared_distances(scaled, self.inputs))
        correlation += alone * first
        if pairs:
            np.square(first, out=first)
            first -= np.square(by_value) @ self.members
            correlation += (0.5 * pairs) * first
        return correlation

    def correlation_with(self, points: Floats, point: Floats) -> Floats:
        """The correlation [m] of points [m, d] with one more point [d]."""
        together, alone, pairs = shares(self.blocks)
        squares = np.square((points - point) * self.scale)
        by_axis = np.add.reduceat(squares, np.flatnonzero(np.diff(self.blocks, prepend=-1)), axis=1)
        each = matern52(by_axis)
        first = each.sum(axis=1)
        correlation: Floats = together * matern52(by_axis.sum(axis=1)) + alone * first
        correlation += (0.5 * pairs) * (first * first - np.square(each).sum(axis=1))
        return correlation


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
