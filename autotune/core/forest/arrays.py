"""A forest as immutable flat arrays.

Breiman, "Random forests", Machine Learning 45 (2001). All trees lie behind one another in the same arrays, and a node
is an index into them; so a population goes down every tree at once, in as many numpy steps as the deepest tree is deep.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]
"""Features of points, shape [n, features]."""

LEAF = -1
"""The `feature` of a leaf, and what fills a decision path after its end."""

BLOCK = 1 << 20
"""About so many (point, tree) pairs go down together, so that memory stays bounded for any population."""


@dataclass(frozen=True, eq=False)
class Forest:
    """Binary decision trees over real features; a point goes left where its feature is at most the threshold.

    feature: the feature a node splits on, LEAF for a leaf. threshold: where. left, right: the nodes below; a leaf is
    below itself. value: the share of class 1, or the mean, of what was seen in a node. Each has shape [nodes].
    roots: the first node of every tree [trees]; a tree's nodes end where the next one's begin.
    depth: splits on the longest way down. Do not write to the arrays.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: NDArray[np.float64]
    roots: NDArray[np.int64]
    depth: int

    def __len__(self) -> int:
        """The number of trees."""
        return len(self.roots)

    def descend(self, points: Features, trees: NDArray[np.int64]) -> NDArray[np.int64]:
        """The leaf [n] that each point [n, features] reaches in a tree of its own [n]."""
        return self._descend(_cast(points), np.arange(len(points)), self.roots[trees])

    def _descend(
        self, points: NDArray[np.float32], which: NDArray[np.int64], nodes: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The leaves [m] below `nodes` [m] for the points of index `which` [m]; those that have arrived drop out."""
        flat, width = points.ravel(), points.shape[1]
        first, reached = which * width, nodes.copy()
        going = np.flatnonzero(self.feature[nodes] != LEAF)
        nodes, first = nodes[going], first[going]
        while len(going):
            below = flat[first + self.feature[nodes]] <= self.threshold[nodes]
            nodes = np.where(below, self.left[nodes], self.right[nodes])
            inner = self.feature[nodes] != LEAF
            reached[going[~inner]] = nodes[~inner]
            going, nodes, first = going[inner], nodes[inner], first[inner]
        return reached

    def leaves(self, points: Features) -> NDArray[np.int64]:
        """The leaf that each point [n, features] reaches in each tree, as node indices [n, trees]."""
        rows, trees = _cast(points), len(self.roots)
        found = np.empty((len(rows), trees), np.int64)
        step = max(BLOCK // max(trees, 1), 1)
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            which, nodes = np.repeat(np.arange(len(block)), trees), np.tile(self.roots, len(block))
            found[start : start + step] = self._descend(block, which, nodes).reshape(len(block), trees)
        return found

    def predict(self, points: Features) -> NDArray[np.float64]:
        """The mean over the trees of what they say of points [n, features]; shape [n]."""
        return self.mean(self.leaves(points))

    def predict_proba(self, points: Features) -> NDArray[np.float64]:
        """The probability of class 1 for points [n, features], for a forest of classifiers; shape [n]."""
        return self.predict(points)

    def mean(self, leaves: NDArray[np.int64]) -> NDArray[np.float64]:
        """The prediction [n] for points whose leaves [n, trees] are known.

        Tree by tree and then divided, as scikit-learn does it, so that the result is the same to the last bit.
        """
        total = np.zeros(len(leaves))
        for tree in range(leaves.shape[1]):
            total += self.value[leaves[:, tree]]
        total /= leaves.shape[1]
        return total

    def spread(self, points: Features) -> NDArray[np.float64]:
        """The standard deviation over the trees of what they say of points [n, features]; shape [n]."""
        said = np.ascontiguousarray(self.value[self.leaves(points)].T)
        spread: NDArray[np.float64] = said.std(axis=0)
        return spread

    def paths(self, points: Features, trees: NDArray[np.int64]) -> NDArray[np.int64]:
        """The features split on, in order, as each point [n, features] goes down a tree of its own [n].

        Shape [n, depth], filled up with LEAF behind the last split.
        """
        rows, nodes = _cast(points), self.roots[trees]
        each = np.arange(len(rows))
        path = np.full((len(rows), self.depth), LEAF, np.int64)
        for step in range(self.depth):
            feature = self.feature[nodes]
            path[:, step] = feature
            below = rows[each, np.maximum(feature, 0)] <= self.threshold[nodes]
            nodes = np.where(below, self.left[nodes], self.right[nodes])  # a leaf is below itself
        return path


def _cast(points: Features) -> NDArray[np.float32]:
    """Features in the single precision that scikit-learn fits on: the thresholds were chosen for it."""
    return np.ascontiguousarray(points, np.float32)
