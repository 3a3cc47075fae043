"""A forest as immutable flat arrays.

Breiman, "Random forests", Machine Learning 45 (2001). All trees lie behind one another in the same arrays, and a node
is an index into them; so a population goes down every tree at once, in as many numpy steps as the deepest tree is deep.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.core.errors import StrategyError
from autotune.core.keys import fold, integers, root, words

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


Fit = Callable[[int, NDArray[np.float64]], Any]
"""A fitted tree (scikit-learn's `tree_`) from a seed and the weight of each point [n]."""

BROKEN = (ImportError, AttributeError, TypeError, ValueError, KeyError)
"""What another version of scikit-learn may raise here."""

DEEPEST = np.iinfo(np.int32).max


def builder(
    kind: str, x: NDArray[np.float32], values: NDArray[np.float64], fit: Fit, seed: int, counted: NDArray[np.float64]
) -> Fit | None:
    """A quicker function with the results of `fit`, tried on one seed and weights; None where there is none.

    kind: "classifier" (of values 0 and 1, both of which occur) or "regressor". x: points [n, features].
    """
    if not x.size:
        return None  # it does not check what it is given
    try:
        quick = _direct(kind, x, values)
        mine = quick(seed, counted)
    except BROKEN:
        return None
    return quick if _equal(mine, fit(seed, counted)) else None


def _direct(kind: str, x: NDArray[np.float32], values: NDArray[np.float64]) -> Fit:
    from sklearn.tree import _classes, _tree

    classifying = kind == "classifier"
    classes = np.array([2 if classifying else 1], np.intp)
    y = np.ascontiguousarray(values, np.float64).reshape(-1, 1)
    width = x.shape[1]
    tried = max(1, int(np.sqrt(width))) if classifying else width

    def fit(seed: int, counted: NDArray[np.float64]) -> Any:
        if classifying:
            criterion = _classes.CRITERIA_CLF["log_loss"](1, classes)
        else:
            criterion = _classes.CRITERIA_REG["squared_error"](1, len(x))
        splitter = _classes.DENSE_SPLITTERS["best"](criterion, tried, 1, 0.0, np.random.RandomState(seed), None)
        tree = _tree.Tree(width, classes, 1)
        _tree.DepthFirstTreeBuilder(splitter, 2, 1, 0.0, DEEPEST, 0.0).build(tree, x, y, counted, None)
        return tree

    return fit


def _equal(one: Any, other: Any) -> bool:
    """Whether two trees are the same to the last bit."""
    arrays = ("feature", "threshold", "children_left", "children_right", "value")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)


ROWS = 2048
"""So many points are compared with all at a time: a block of so many rows of the answer stays in the cache."""


def compute_leaf_similarity(forest: Forest | Any, points: Features) -> NDArray[np.float64]:
    """The share of trees in which points [n, features] fall into the same leaf: shape [n, n], 1 on the diagonal.

    forest: one of this library, or a fitted forest of scikit-learn (RandomForestClassifier, ExtraTreesRegressor, …).
    Raises StrategyError for anything else, and for points without as many features as the forest was fitted to.
    """
    known = forest if isinstance(forest, Forest) else _of_estimator(forest)
    rows = np.asarray(points, np.float64)
    fitted = getattr(forest, "n_features_in_", None)
    if rows.ndim != 2 or (fitted is not None and rows.shape[1] != fitted):
        wanted = "features" if fitted is None else fitted
        raise StrategyError(f"compute_leaf_similarity: points of shape {rows.shape}; use an array [n, {wanted}]")
    forest, leaves = known, known.leaves(rows)
    local = np.ascontiguousarray((leaves - forest.roots).T)  # [trees, n], small numbers compare faster
    if local.max(initial=0) < 2**16:
        local = local.astype(np.uint16)
    n, trees = leaves.shape
    similarity = np.empty((n, n))
    for start in range(0, n, ROWS):
        block = slice(start, min(start + ROWS, n))
        shared = np.zeros((block.stop - start, n), np.uint32)
        for tree in local:
            shared += tree[block, None] == tree[None, :]
        similarity[block] = shared / trees
    return similarity


def _of_estimator(forest: Any) -> Forest:
    """The trees of a fitted estimator of scikit-learn, which keeps them in `estimators_` once it is fitted."""
    trees = [] if isinstance(forest, type) else [*np.ravel(getattr(forest, "estimators_", []))]
    if not trees or not all(hasattr(tree, "tree_") for tree in trees):
        shown = forest.__name__ if isinstance(forest, type) else type(forest).__name__
        unfitted = ", which is not fitted; call its fit(…) first" if hasattr(forest, "fit") else ""
        raise StrategyError(
            f"compute_leaf_similarity: {shown}{unfitted or '; use a Forest, or a fitted forest of scikit-learn'}"
        )
    return from_trees(trees)


def similarity_to(leaves: NDArray[np.int64], one: int) -> NDArray[np.float64]:
    """The similarity [n] of points to one of them, where their leaves [n, trees] are known."""
    shared: NDArray[np.float64] = (leaves == leaves[one]).mean(axis=1)
    return shared
