"""Forests fitted by scikit-learn and taken out of it. The only place that imports it, and only when a model is fitted.

Pedregosa et al., "Scikit-learn: machine learning in Python", JMLR 12 (2011).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.core.forest.arrays import LEAF, Features, Forest
from autotune.core.forest.building import builder
from autotune.core.keys import fold, integers, root, words

FIT = root(42)
"""The key of every fit: a model is a function of its data alone; the search's own key varies what it is used for."""


def fit_classifier(
    points: Features, labels: NDArray[np.bool_], weights: NDArray[np.float64], trees: int = 100
) -> Forest:
    """A forest that tells label True from False: points [n, features], labels [n] of both kinds, weights [n] above 0.

    The log-loss criterion, bootstrap samples and sqrt(features) tried at a split. One thread, one fixed seed.
    """
    return _fitted("classifier", *map(_frozen, (points, labels, weights)), trees)


def fit_regressor(points: Features, values: NDArray[np.float64], trees: int = 100) -> Forest:
    """A forest that predicts values [n] of points [n, features]: squared error, bootstrap samples, one fixed seed."""
    return _fitted("regressor", *map(_frozen, (points, values, np.ones(len(values)))), trees)


def _frozen(array: NDArray[Any]) -> bytes:
    return array.astype(np.float64).tobytes()


@lru_cache(maxsize=4)
def _fitted(kind: str, points: bytes, known: bytes, weights: bytes, trees: int) -> Forest:
    """A forest, remembered by its data: who fits every few generations, or asks twice, does not pay for it twice."""
    values, weight = np.frombuffer(known), np.frombuffer(weights)
    return forest_of(grown(kind, np.frombuffer(points).reshape(len(values), -1), values, weight, trees))


def grown(
    kind: str, points: Features, values: NDArray[np.float64], weights: NDArray[np.float64], trees: int
) -> list[Any]:
    """The trees of a random forest, each on a bootstrap sample of its own, as scikit-learn keeps them inside (`tree_`).

    RandomForestClassifier and RandomForestRegressor do the same; for a few hundred points most of their time goes into
    starting threads and checking the same data and settings again for every tree.
    """
    from sklearn import config_context
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    n, x = len(points), np.ascontiguousarray(points, np.float32)
    drawn = integers(fold(FIT, "bootstrap"), n, trees * n).reshape(trees, n)
    seeds = (words(fold(FIT, "tree"), trees) >> np.uint64(32)).tolist()

    def fit(seed: int, counted: NDArray[np.float64]) -> Any:
        tree: Any = DecisionTreeRegressor(random_state=seed)
        if kind == "classifier":
            tree = DecisionTreeClassifier(criterion="log_loss", max_features="sqrt", random_state=seed)
        return tree.fit(x, values, sample_weight=counted, check_input=False).tree_

    # all points stay in every sample, some with weight 0, so that each tree knows both labels
    counts = [weights * np.bincount(sample, minlength=n) for sample in drawn]
    with config_context(skip_parameter_validation=True, assume_finite=True):
        quick = builder(kind, x, values, fit, seeds[0], counts[0]) or fit
        return [quick(seed, counted) for seed, counted in zip(seeds, counts, strict=True)]


def from_trees(trees: Sequence[Any]) -> Forest:
    """The forest of scikit-learn's fitted decision trees, classifiers (of False and True) or regressors."""
    return forest_of([tree.tree_ for tree in trees])


def forest_of(inner: Sequence[Any]) -> Forest:
    """The forest of scikit-learn's trees as they are inside of its estimators (`tree_`)."""
    sizes = np.array([tree.node_count for tree in inner], np.int64)
    roots = np.cumsum(sizes) - sizes
    first = np.repeat(roots, sizes)
    own = np.arange(len(first))
    left = np.concatenate([tree.children_left for tree in inner]).astype(np.int64)
    right = np.concatenate([tree.children_right for tree in inner]).astype(np.int64)
    leaf = left < 0
    feature = np.concatenate([tree.feature for tree in inner]).astype(np.int64)
    arrays = (
        np.where(leaf, LEAF, feature),
        np.concatenate([tree.threshold for tree in inner]),
        np.where(leaf, own, left + first),
        np.where(leaf, own, right + first),
        np.concatenate([tree.value[:, 0, -1] for tree in inner]),
        roots,
    )
    for array in arrays:
        array.flags.writeable = False
    return Forest(*arrays, depth=max(int(tree.max_depth) for tree in inner))
