"""Choosing a batch: expected improvement, one pick at a time, each believed to come out as predicted.

Expected improvement: Jones, Schonlau and Welch, J. Global Optimization 13 (1998). Believing the prediction for the
picks so far: Ginsbourger, Le Riche and Carraro, "Kriging is well-suited to parallelize optimization" (2010).
"""

import numpy as np

from autotune.core.gaussian.kernel import Floats
from autotune.core.gaussian.process import LEAST_DEVIATION, Process

FOLLOWED = 12
"""So many of the most promising candidates are looked at for each pick, and more where that turns out to be too few."""


def normal_cdf(z: Floats) -> Floats:
    """The standard normal distribution function, to 1e-7 (Abramowitz and Stegun 26.2.17): numpy has none."""
    t = 1 / (1 + 0.2316419 * np.abs(z))
    series = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    tail = normal_pdf(z) * series
    return np.where(z >= 0, 1 - tail, tail)


def normal_pdf(z: Floats) -> Floats:
    """The standard normal density."""
    density: Floats = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return density


def expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """How much lower than `best` each candidate is expected to come out, at least 0."""
    z = (best - mean) / deviation
    return deviation * (z * normal_cdf(z) + normal_pdf(z))


def batch(
    process: Process,
    points: Floats,
    correlation: Floats,
    expected: Floats,
    factor: Floats,
    best: float,
    n: int,
    taken: int,
) -> list[int]:
    """Indices of `n` of the candidates `points` [m, d] to measure together, the most promising first.

    correlation: that of the candidates with the known inputs [m, known].
    expected: the prior means [m]; what the process knows are deviations from it.
    factor: what the improvement of each candidate is worth, such as its probability to work at all.
    taken: the first so many candidates are under way already; they are believed first, and never picked.

    Believing a pick makes deviations and the best smaller and leaves the means, so no candidate is ever worth more than
    it was at first: those that begin behind the worst of the picks need not be looked at again.
    """
    mean, deviation, projections = process.predict(correlation)
    mean = mean + expected
    worth = _worth(mean, deviation, best, factor)
    order = taken + np.argsort(-worth[taken:], kind="stable")
    looked_at = min(FOLLOWED * max(n, 1), len(order))
    while True:
        pool = np.concatenate([np.arange(taken), np.sort(order[:looked_at])])
        behind = worth[order[looked_at]] if looked_at < len(order) else -1.0
        at = (mean[pool], deviation[pool], projections[pool])
        picks = _believing(process, points[pool], *at, factor[pool], best, n, taken, behind)
        if picks is not None:
            return [int(pool[pick]) for pick in picks]
        looked_at = min(8 * looked_at, len(order))


def _worth(mean: Floats, deviation: Floats, best: float, factor: Floats) -> Floats:
    worth: Floats = np.round(expected_improvement(mean, deviation, best) * factor, 9)
    return worth


def _believing(
    process: Process,
    points: Floats,
    mean: Floats,
    deviation: Floats,
    projections: Floats,
    factor: Floats,
    best: float,
    n: int,
    taken: int,
    behind: float,
) -> list[int] | None:
    """What `batch` picks of `points` alone; None where one of the others, worth at most `behind`, could be picked."""
    known = projections.shape[1]
    projections = np.concatenate([projections, np.empty((len(points), taken + n))], axis=1)
    open_ = np.ones(len(points), bool)
    picks: list[int] = []
    open_[:taken] = False
    for i in range(taken + n):
        if i < taken:
            pick = i
        else:
            worth = np.where(open_, _worth(mean, deviation, best, factor), -1.0)
            pick = int(np.argmax(worth))
            if worth[pick] <= behind:
                return picks if behind < 0 else None
            open_[pick] = False
            picks.append(pick)
        before = projections[:, : known + i]
        shared = process.covariance(points, points[pick]) - before @ before[pick]
        column = shared / np.sqrt(deviation[pick] ** 2 + process.noise)
        deviation = np.sqrt(np.maximum(deviation**2 - column**2, LEAST_DEVIATION**2))
        projections[:, known + i] = column
        best = min(best, float(mean[pick]))
    return picks
