"""Which points of a batch to measure first: the batch stays the same, and good configs are found earlier in it.

That pays wherever a search may end within a batch, or cuts off what is slower than the best so far. What a point
promises is read off a kernel ridge regression of the ranks of what was measured (Saunders, Gammerman and Vovk, "Ridge
regression learning algorithm in dual variables", ICML 1998), in which single features and pairs of them count.
"""

import numpy as np
from numpy.typing import NDArray

from autotune.core.history import Archive
from autotune.core.parameters import Codes
from autotune.core.space import Space

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LEVELS = 33
"""A feature is told apart in so many steps between its lowest and its highest value."""

SMOOTH, RIDGE = 0.3, 0.1
"""How far along a feature, as a share of its range, likeness reaches; and the weight of the penalty."""

MOST = 300
"""So many points are looked at: the first of a set, the last of what was measured. More would take long."""

DECIMALS = 9
"""Scores are rounded to so many before they are ranked, so that no last bit decides."""

_STEPS = np.arange(LEVELS) / (LEVELS - 1)
_LIKENESS: Floats = np.exp(-np.abs(_STEPS[:, None] - _STEPS) / SMOOTH)


def promising_first(space: Space, archive: Archive, points: Codes) -> Integers:
    """The order [n] in which to measure points [n, columns], by what is known; as they are where nothing is."""
    if len(points) < 2 or len(archive) < 2:
        return np.arange(len(points))
    known = archive.points[-MOST:]
    levels, weights = _levels(space, np.concatenate([known, points]))
    seen, new = levels[: len(known)], levels[len(known) :]
    ranks = _ranks(archive)[-MOST:]
    pull = np.linalg.solve(_alike(seen, seen, weights) + RIDGE * np.eye(len(seen)), ranks - ranks.mean())
    score = (_alike(new, seen, weights) * pull).sum(axis=1)
    return np.lexsort((*points.T[::-1], score.round(DECIMALS)))


def typical_first(space: Space, points: Codes, n: int) -> Integers:
    """An order [m] of points [m, columns] that begins with `n` typical ones, which together stand for all.

    Each is the one most like all points and least like those before it: kernel herding (Chen, Welling and Smola,
    "Super-samples from kernel herding", UAI 2010).
    """
    if len(points) < 2:
        return np.arange(len(points))
    levels, weights = _levels(space, points[:MOST])
    alike = _alike(levels, levels, weights)
    typical, taken = alike.mean(axis=1), np.zeros(len(levels))
    picks: list[int] = []
    for step in range(1, min(n, len(levels)) + 1):
        score = (step * typical - taken).round(DECIMALS)
        score[picks] = -np.inf
        picks.append(int(np.argmax(score)))
        taken += alike[picks[-1]]
    return np.array([*picks, *np.setdiff1d(np.arange(len(points)), picks)], np.int64)


def _levels(space: Space, points: Codes) -> tuple[Integers, Floats]:
    """The features of points in steps, [n, features], and what each feature weighs: 1 for a parameter, in all 1."""
    features = space.features(points)
    low, high = features.min(axis=0), features.max(axis=0)
    spread = np.where(high > low, high - low, 1.0)
    levels = np.rint((features - low) / spread * (LEVELS - 1)).astype(np.int64)
    counts = [parameter.features for parameter in space.parameters.values()]
    weights = np.repeat(1.0 / np.array(counts), counts)
    useful = high > low
    return levels[:, useful], weights[useful] / max(weights[useful].sum(), 1e-9)


def _alike(some: Integers, others: Integers, weights: Floats) -> Floats:
    """How alike points are, [n, m], 1 for equal ones."""
    alike = np.zeros((len(some), len(others)))
    for column, weight in enumerate(weights.tolist()):
        alike += weight * _LIKENESS[some[:, column, None], others[:, column]]
    return alike * alike  # squared: two features that are both alike count for more than either


def _ranks(archive: Archive) -> Floats:
    """The rank of each of n trials by its time, from 0 to 1; what failed is last."""
    ranking = archive.ranking()
    ranks = np.ones(len(archive))
    ranks[ranking] = np.arange(len(ranking)) / max(len(ranking), 1)
    return ranks
