"""In which order to measure the points of a batch: the batch stays the same, and good configs are found earlier in it.

That pays wherever a search may end within a batch, or stops configs that are slower than the best so far.

`promising_first` predicts the ranks of points by kernel ridge regression (Saunders, Gammerman and Vovk, "Ridge
regression learning algorithm in dual variables", ICML 1998): α = (K + λ I)⁻¹ (r - mean r), score(x) = Σ_i k(x, x_i)
α_i, with

    r [n]     ranks of the n observations by time, from 0 to 1; failures have 1
    k(x, x')  (Σ_f w_f exp(-|x_f - x'_f| / s))², features f scaled to [0, 1]; the square makes pairs of features count
    w [f]     weights of the features: 1 for each parameter, scaled to sum 1
    s, λ      SMOOTHNESS, RIDGE

`typical_first` is kernel herding with the same k (Chen, Welling and Smola, "Super-samples from kernel herding", UAI
2010).
"""

import numpy as np
from numpy.typing import NDArray

from autotune.core.history import Archive
from autotune.core.parameters import Codes
from autotune.core.space import Space

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LEVELS = 33
"""Steps between the lowest and the highest value of a feature, to which it is rounded, so that exp is a table."""

SMOOTHNESS, RIDGE = 0.3, 0.1
"""Chosen by hand."""

MOST = 300
"""The most points looked at: the first of a set, the last observations. The cost grows with their cube."""

DECIMALS = 9
"""Decimals to which scores are rounded before they are ranked, so that no last bit decides."""

_STEPS = np.arange(LEVELS) / (LEVELS - 1)
_SIMILARITY_OF_LEVELS: Floats = np.exp(-np.abs(_STEPS[:, None] - _STEPS) / SMOOTHNESS)


def promising_first(space: Space, archive: Archive, points: Codes) -> Integers:
    """The order [n] in which to measure points [n, columns], lowest predicted rank first; as they are where fewer than
    two observations are known."""
    if len(points) < 2 or len(archive) < 2:
        return np.arange(len(points))
    known = archive.points[-MOST:]
    levels, weights = _levels(space, np.concatenate([known, points]))
    seen, new = levels[: len(known)], levels[len(known) :]
    ranks = _ranks(archive)[-MOST:]
    alpha = np.linalg.solve(_kernel(seen, seen, weights) + RIDGE * np.eye(len(seen)), ranks - ranks.mean())
    score = (_kernel(new, seen, weights) * alpha).sum(axis=1)
    return np.lexsort((*points.T[::-1], score.round(DECIMALS)))


def typical_first(space: Space, points: Codes, n: int) -> Integers:
    """An order [m] of points [m, columns] that begins with `n` typical ones, which together stand for all.

    Each is the one most similar to all points and least similar to those before it.
    """
    if len(points) < 2:
        return np.arange(len(points))
    levels, weights = _levels(space, points[:MOST])
    kernel = _kernel(levels, levels, weights)
    typical, taken = kernel.mean(axis=1), np.zeros(len(levels))
    picks: list[int] = []
    for step in range(1, min(n, len(levels)) + 1):
        score = (step * typical - taken).round(DECIMALS)
        score[picks] = -np.inf
        picks.append(int(np.argmax(score)))
        taken += kernel[picks[-1]]
    return np.array([*picks, *np.setdiff1d(np.arange(len(points)), picks)], np.int64)


def _levels(space: Space, points: Codes) -> tuple[Integers, Floats]:
    """The features of points in steps [n, f], without features that are the same for all, and their weights [f]."""
    features = space.features(points)
    low, high = features.min(axis=0), features.max(axis=0)
    spread = np.where(high > low, high - low, 1.0)
    levels = np.rint((features - low) / spread * (LEVELS - 1)).astype(np.int64)
    counts = [parameter.features for parameter in space.parameters.values()]
    weights = np.repeat(1.0 / np.array(counts), counts)
    varying = high > low
    return levels[:, varying], weights[varying] / max(weights[varying].sum(), 1e-9)


def _kernel(a: Integers, b: Integers, weights: Floats) -> Floats:
    """k [n, m] of points in levels [n, f] and [m, f]: 1 for equal ones."""
    similarity = np.zeros((len(a), len(b)))
    for column, weight in enumerate(weights.tolist()):
        similarity += weight * _SIMILARITY_OF_LEVELS[a[:, column, None], b[:, column]]
    return similarity * similarity


def _ranks(archive: Archive) -> Floats:
    """The rank of each of n trials by its time, from 0 to 1; failures have 1."""
    ranking = archive.ranking()
    ranks = np.ones(len(archive))
    ranks[ranking] = np.arange(len(ranking)) / max(len(ranking), 1)
    return ranks
