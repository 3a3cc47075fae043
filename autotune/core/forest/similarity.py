"""How alike points are to a forest: the share of its trees in which they fall into the same leaf (Breiman 2001)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.core.errors import StrategyError
from autotune.core.forest.arrays import Features, Forest
from autotune.core.forest.fit import from_trees

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
