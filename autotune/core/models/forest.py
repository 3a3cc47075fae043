"""Random forests: fitted by scikit-learn, kept as flat arrays, asked for whole populations and all trees at once.

Breiman, "Random forests", Machine Learning 45 (2001); Pedregosa et al., "Scikit-learn: machine learning in Python",
JMLR 12 (2011). scikit-learn is imported when a forest is first fitted, here and nowhere else.

Notation, with the names used in the code:

    n, d, T            points, features, trees
    points [n, d]      features of points; compared in single precision, in which scikit-learn chooses the thresholds
    nodes              indices into the arrays of a Forest, in which all trees lie one behind another
    leaves [n, T]      the leaf of each point in each tree, as nodes
    similarity [n, n]  the share of the trees in which two points fall into the same leaf
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autotune.core.errors import StrategyError
from autotune.core.keys import fold, integers, root, words

FeatureRows = NDArray[np.float64]
"""Features of points [n, d]."""

LEAF = -1
"""The `feature` of a leaf; decision paths are filled up with it."""

PAIRS_AT_ONCE = 1 << 20
"""The pairs of a point and a tree that go down together, about, so that memory stays bounded for any population."""

ROWS_AT_ONCE = 2048
"""The points compared with all others at a time, so that a block of similarities stays in the processor cache."""

FIT_KEY = root(42)
"""The key of every fit: a forest is a function of its data alone. The key of the search varies the use made of it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Forest:
    """Binary decision trees; a point goes left where its feature is at most the threshold.

    feature: the feature a node splits on, LEAF for a leaf. threshold: the value it is compared with. left, right: the
    nodes below; a leaf is below itself. value: the share of class 1, or the mean, of the data seen in a node. Each has
    shape [nodes] and is read-only.
    roots [T]: the first node of every tree; the nodes of a tree end where the next tree begins.
    depth: splits on the longest way down.
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

    def leaves(self, points: FeatureRows) -> NDArray[np.int64]:
        """The leaf that each point [n, d] reaches in each tree: nodes [n, T]."""
        rows, trees = _single_precision(points), len(self.roots)
        found = np.empty((len(rows), trees), np.int64)
        step = max(PAIRS_AT_ONCE // max(trees, 1), 1)
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            which, nodes = np.repeat(np.arange(len(block)), trees), np.tile(self.roots, len(block))
            found[start : start + step] = self._descend(block, which, nodes).reshape(len(block), trees)
        return found

    def descend(self, points: FeatureRows, trees: NDArray[np.int64]) -> NDArray[np.int64]:
        """The leaf [n] that each point [n, d] reaches in one tree each [n]."""
        return self._descend(_single_precision(points), np.arange(len(points)), self.roots[trees])

    def _descend(
        self, points: NDArray[np.float32], which: NDArray[np.int64], nodes: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The leaves [m] below `nodes` [m] for the points of index `which` [m], in as many steps as the deepest tree is
        deep; pairs that have arrived drop out."""
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

    def predict(self, points: FeatureRows) -> NDArray[np.float64]:
        """The mean over the trees of their predictions for points [n, d], for classifiers the probability of class 1;
        shape [n]."""
        return self.mean(self.leaves(points))

    def mean(self, leaves: NDArray[np.int64]) -> NDArray[np.float64]:
        """The prediction [n] for points whose leaves [n, T] are known.

        Added tree by tree and then divided, as scikit-learn does it, so that the result is the same to the last bit.
        """
        total = np.zeros(len(leaves))
        for tree in range(leaves.shape[1]):
            total += self.value[leaves[:, tree]]
        total /= leaves.shape[1]
        return total

    def paths(self, points: FeatureRows, trees: NDArray[np.int64]) -> NDArray[np.int64]:
        """The features split on, in order, as each point [n, d] goes down one tree each [n].

        Shape [n, depth], filled up with LEAF behind the last split.
        """
        rows, nodes = _single_precision(points), self.roots[trees]
        each = np.arange(len(rows))
        path = np.full((len(rows), self.depth), LEAF, np.int64)
        for step in range(self.depth):
            feature = self.feature[nodes]
            path[:, step] = feature
            below = rows[each, np.maximum(feature, 0)] <= self.threshold[nodes]
            nodes = np.where(below, self.left[nodes], self.right[nodes])  # a leaf is below itself
        return path


def _single_precision(points: FeatureRows) -> NDArray[np.float32]:
    return np.ascontiguousarray(points, np.float32)


# Fitting

Kind = Literal["classifier", "regressor"]
TreeBuilder = Callable[[int, NDArray[np.float64]], Any]
"""From a seed and the weight of each point [n] to a fitted tree, as scikit-learn keeps it inside an estimator
(`tree_`)."""


def fit_classifier(
    points: FeatureRows, labels: NDArray[np.bool_], weights: NDArray[np.float64], trees: int = 100
) -> Forest:
    """A forest that tells label True from False: points [n, d], labels [n] of both kinds, weights [n] above 0.

    The log-loss criterion, bootstrap samples and sqrt(d) features tried at a split. One thread, one fixed seed.
    """
    return _fit("classifier", *map(_bytes_of, (points, labels, weights)), trees)


def fit_regressor(points: FeatureRows, values: NDArray[np.float64], trees: int = 100) -> Forest:
    """A forest that predicts values [n] of points [n, d]: squared error, bootstrap samples, one fixed seed."""
    return _fit("regressor", *map(_bytes_of, (points, values, np.ones(len(values)))), trees)


def from_trees(estimators: Sequence[Any]) -> Forest:
    """The forest of scikit-learn's fitted decision trees, classifiers (of False and True) or regressors."""
    return _flatten([estimator.tree_ for estimator in estimators])


def _bytes_of(array: NDArray[Any]) -> bytes:
    return array.astype(np.float64).tobytes()


@lru_cache(maxsize=4)
def _fit(kind: Kind, points: bytes, targets: bytes, weights: bytes, trees: int) -> Forest:
    """A forest, remembered by its data: a strategy that is asked twice, or refits rarely, pays once."""
    values, weight = np.frombuffer(targets), np.frombuffer(weights)
    return _flatten(grow_trees(kind, np.frombuffer(points).reshape(len(values), -1), values, weight, trees))


def bootstrap_samples(n: int, trees: int) -> NDArray[np.int64]:
    """The points that each tree of a forest on n points is grown on, some of them several times: [trees, n]."""
    return integers(fold(FIT_KEY, "bootstrap"), n, trees * n).reshape(trees, n)


def grow_trees(
    kind: Kind, points: FeatureRows, values: NDArray[np.float64], weights: NDArray[np.float64], trees: int
) -> list[Any]:
    """The trees of a random forest, each on its own bootstrap sample, as scikit-learn keeps them (`tree_`).

    RandomForestClassifier and RandomForestRegressor do the same; for a few hundred points most of their time goes into
    starting threads and checking the same data and settings again for every tree. All points stay in every sample, some
    with weight 0, so that each tree knows both labels.
    """
    from sklearn import config_context
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    n, x = len(points), np.ascontiguousarray(points, np.float32)
    samples = bootstrap_samples(n, trees)
    seeds = (words(fold(FIT_KEY, "tree"), trees) >> np.uint64(32)).tolist()
    counted = [weights * np.bincount(sample, minlength=n) for sample in samples]

    def fit_tree(seed: int, counted: NDArray[np.float64]) -> Any:
        tree: Any = DecisionTreeRegressor(random_state=seed)
        if kind == "classifier":
            tree = DecisionTreeClassifier(criterion="log_loss", max_features="sqrt", random_state=seed)
        return tree.fit(x, values, sample_weight=counted, check_input=False).tree_

    with config_context(skip_parameter_validation=True, assume_finite=True):
        quick = quick_builder(x, values, fit_tree, seeds[0], counted[0]) if kind == "classifier" else None
        build = quick or fit_tree
        return [build(seed, weight) for seed, weight in zip(seeds, counted, strict=True)]


def _flatten(trees: Sequence[Any]) -> Forest:
    """The forest of fitted trees (`tree_`)."""
    sizes = np.array([tree.node_count for tree in trees], np.int64)
    roots = np.cumsum(sizes) - sizes
    first = np.repeat(roots, sizes)
    own = np.arange(len(first))
    left = np.concatenate([tree.children_left for tree in trees]).astype(np.int64)
    right = np.concatenate([tree.children_right for tree in trees]).astype(np.int64)
    leaf = left < 0
    feature = np.concatenate([tree.feature for tree in trees]).astype(np.int64)
    arrays = {
        "feature": np.where(leaf, LEAF, feature),
        "threshold": np.concatenate([tree.threshold for tree in trees]),
        "left": np.where(leaf, own, left + first),
        "right": np.where(leaf, own, right + first),
        "value": np.concatenate([tree.value[:, 0, -1] for tree in trees]),
        "roots": roots,
    }
    for array in arrays.values():
        array.flags.writeable = False
    return Forest(**arrays, depth=max(int(tree.max_depth) for tree in trees))


# Classifiers past the checks that an estimator repeats for every tree
#
# For a few hundred points these checks are most of a classifier's fit (docs/design/forests.md has the figures). The
# functions called here are not public in scikit-learn, so the first tree of every forest is also fitted in the public
# way: where the two differ, or anything is missing, all trees are. So no version of scikit-learn can change a result.

_CHANGED_INSIDE = (ImportError, AttributeError, TypeError, ValueError, KeyError)
"""The errors that another version of scikit-learn may raise here."""

_ANY_DEPTH = np.iinfo(np.int32).max


def quick_builder(
    x: NDArray[np.float32], labels: NDArray[np.float64], public: TreeBuilder, seed: int, counted: NDArray[np.float64]
) -> TreeBuilder | None:
    """A quicker function with the results of `public`, tried on one seed and weights; None where there is none.

    x: points [n, d]. labels [n]: 0 and 1, both of which occur.
    """
    if not x.size:
        return None  # scikit-learn's builder does not check its arguments
    try:
        quick = _unchecked_builder(x, labels)
        tree = quick(seed, counted)
    except _CHANGED_INSIDE:
        return None
    return quick if _same_tree(tree, public(seed, counted)) else None


def _unchecked_builder(x: NDArray[np.float32], labels: NDArray[np.float64]) -> TreeBuilder:
    from sklearn.tree import _classes, _tree

    classes = np.array([2], np.intp)
    y = np.ascontiguousarray(labels, np.float64).reshape(-1, 1)
    width = x.shape[1]
    tried = max(1, int(np.sqrt(width)))

    def build(seed: int, counted: NDArray[np.float64]) -> Any:
        criterion = _classes.CRITERIA_CLF["log_loss"](1, classes)
        splitter = _classes.DENSE_SPLITTERS["best"](criterion, tried, 1, 0.0, np.random.RandomState(seed), None)
        tree = _tree.Tree(width, classes, 1)
        _tree.DepthFirstTreeBuilder(splitter, 2, 1, 0.0, _ANY_DEPTH, 0.0).build(tree, x, y, counted, None)
        return tree

    return build


def _same_tree(one: Any, other: Any) -> bool:
    """Whether two trees are the same to the last bit."""
    return all(
        np.array_equal(a, b)
        for a, b in (
            (one.feature, other.feature),
            (one.threshold, other.threshold),
            (one.children_left, other.children_left),
            (one.children_right, other.children_right),
            (one.value, other.value),
        )
    )


# Similarity


def compute_leaf_similarity(forest: Forest | Any, points: FeatureRows) -> NDArray[np.float64]:
    """The share of trees in which points [n, d] fall into the same leaf: shape [n, n], 1 on the diagonal.

    forest: one of this library, or a fitted forest of scikit-learn (RandomForestClassifier, ExtraTreesRegressor, …).
    Raises StrategyError for anything else, and for points without as many features as the forest was fitted to.
    """
    known = forest if isinstance(forest, Forest) else _from_estimator(forest)
    rows = np.asarray(points, np.float64)
    fitted = None if isinstance(forest, Forest) else getattr(forest, "n_features_in_", None)
    if rows.ndim != 2 or (fitted is not None and rows.shape[1] != fitted):
        wanted = "features" if fitted is None else fitted
        raise StrategyError(f"compute_leaf_similarity: points of shape {rows.shape}; use an array [n, {wanted}]")
    leaves = known.leaves(rows)
    local = np.ascontiguousarray((leaves - known.roots).T)  # [T, n], small numbers compare faster
    if local.max(initial=0) < 2**16:
        local = local.astype(np.uint16)
    n, trees = leaves.shape
    similarity = np.empty((n, n))
    for start in range(0, n, ROWS_AT_ONCE):
        block = slice(start, min(start + ROWS_AT_ONCE, n))
        shared = np.zeros((block.stop - start, n), np.uint32)
        for tree in local:
            shared += tree[block, None] == tree[None, :]
        similarity[block] = shared / trees
    return similarity


def similarity_to(leaves: NDArray[np.int64], one: int) -> NDArray[np.float64]:
    """The similarity [n] of points to the point of index `one`, where their leaves [n, T] are known."""
    shared: NDArray[np.float64] = (leaves == leaves[one]).mean(axis=1)
    return shared


def _from_estimator(forest: Any) -> Forest:
    """The forest of a fitted estimator of scikit-learn, which keeps its trees in `estimators_`."""
    trees = [] if isinstance(forest, type) else [*np.ravel(getattr(forest, "estimators_", []))]
    if not trees or not all(hasattr(tree, "tree_") for tree in trees):
        name = forest.__name__ if isinstance(forest, type) else type(forest).__name__
        unfitted = ", which is not fitted; call its fit(…) first" if hasattr(forest, "fit") else ""
        raise StrategyError(
            f"compute_leaf_similarity: {name}{unfitted or '; use a Forest, or a fitted forest of scikit-learn'}"
        )
    return from_trees(trees)
