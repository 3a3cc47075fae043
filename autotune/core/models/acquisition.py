"""Choosing a batch: expected improvement, one pick at a time, each believed to come out as predicted.

Expected improvement: Jones, Schonlau and Welch, J. Global Optimization 13 (1998). Believing the prediction for the
picks so far: Ginsbourger, Le Riche and Carraro, "Kriging is well-suited to parallelize optimization" (2010).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotune.core.models.gp import LEAST_DEVIATION, Floats, Process

FOLLOWED = 12
"""So many of the most promising candidates are looked at for each pick, and more where that turns out to be too few."""

NEW_EVERY = 2
"""Every second pick of a batch is of something new."""


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


class Prospects(NamedTuple):
    """m candidates: points [m, d], means, deviations, projections [m, known], what their improvement is worth, and what
    is new to them, as `batch` is told.
    """

    points: Floats
    mean: Floats
    deviation: Floats
    projections: Floats
    factor: Floats
    novelty: NDArray[np.int64]

    def of(self, which: NDArray[np.int64]) -> "Prospects":
        """Some of them."""
        return Prospects(
            self.points[which], self.mean[which], self.deviation[which], self.projections[which], self.factor[which],
            self.novelty[which],
        )  # fmt: skip

    def worth(self, deviation: Floats, best: float) -> Floats:
        """What each is worth with these deviations, rounded so that no last bit decides."""
        return np.round(expected_improvement(self.mean, deviation, best) * self.factor, 9)


def batch(
    process: Process,
    points: Floats,
    correlation: Floats,
    expected: Floats,
    factor: Floats,
    best: float,
    n: int,
    taken: int,
    novelty: NDArray[np.int64] | None = None,
) -> list[int]:
    """Indices of `n` of the candidates `points` [m, d] to measure together, the most promising first.

    correlation: that of the candidates with the known inputs [m, known].
    expected: the prior means [m]; what the process knows are deviations from it.
    factor: what the improvement of each candidate is worth, such as its probability to work at all.
    taken: the first so many candidates are under way already; they are believed first, and never picked.
    novelty: a number [m] for what is new to each candidate, -1 where nothing is. Every second pick is of something new,
    each time something else, as long as there is any.

    Believing a pick makes deviations and the best smaller and leaves the means, so no candidate is ever worth more than
    it was at first: those that begin behind the worst of the picks need not be looked at again.
    """
    mean, deviation, projections = process.predict(correlation)
    novelty = np.full(len(points), -1) if novelty is None else novelty
    prospects = Prospects(points, mean + expected, deviation, projections, factor, novelty)
    worth = prospects.worth(deviation, best)
    order = taken + np.argsort(-worth[taken:], kind="stable")
    first_new = order[novelty[order] >= 0]
    looked_at = FOLLOWED * max(n, 1)
    while True:
        pool = np.unique(np.concatenate([np.arange(taken), order[:looked_at], first_new[:looked_at]]))
        behind = (
            max(worth[order[looked_at : looked_at + 1]], default=-1.0),
            max(worth[first_new[looked_at : looked_at + 1]], default=-1.0),
        )
        picks = _believing(process, prospects.of(pool), best, n, taken, behind)
        if picks is not None:
            return [int(pool[pick]) for pick in picks]
        looked_at *= 8


def _believing(
    process: Process, prospects: Prospects, best: float, n: int, taken: int, behind: tuple[float, float]
) -> list[int] | None:
    """What `batch` picks of `prospects` alone; None where another could be picked. behind: what of the others any, and
    those that are new, are worth at most.
    """
    points, deviation, known = prospects.points, prospects.deviation, prospects.projections.shape[1]
    projections = np.concatenate([prospects.projections, np.empty((len(points), taken + n))], axis=1)
    open_ = np.arange(len(points)) >= taken
    new = prospects.novelty >= 0
    picks: list[int] = []
    for i in range(taken + n):
        if i < taken:
            pick = i
        else:
            turn = len(picks) % NEW_EVERY == NEW_EVERY - 1 and bool((open_ & new).any())
            worth = np.where(open_ & new if turn else open_, prospects.worth(deviation, best), -1.0)
            pick = int(np.argmax(worth))
            if worth[pick] <= behind[turn]:
                return picks if behind[turn] < 0 else None
            open_[pick] = False
            new &= prospects.novelty != prospects.novelty[pick]
            picks.append(pick)
        before = projections[:, : known + i]
        shared = process.covariance(points, points[pick]) - before @ before[pick]
        column = shared / np.sqrt(deviation[pick] ** 2 + process.noise)
        deviation = np.sqrt(np.maximum(deviation**2 - column**2, LEAST_DEVIATION**2))
        projections[:, known + i] = column
        best = min(best, float(prospects.mean[pick]))
    return picks
