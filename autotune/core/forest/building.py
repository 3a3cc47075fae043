"""Trees built by scikit-learn's own builder, past the checks that its estimators repeat for every single tree.

For a hundred points these checks take two thirds of a fit. What is called here is not public in scikit-learn, so the
first tree of every forest is also fitted in the public way: where the two differ, or anything is missing, None is
given, and the caller fits all of them in that way. So no version of scikit-learn can change a result through this.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
