"""Choosing a batch by expected improvement: one pick at a time, each believed to come out as predicted.

Expected improvement: Jones, Schonlau and Welch, "Efficient global optimization of expensive black-box functions",
J. Global Optimization 13 (1998). The kriging believer: Ginsbourger, Le Riche and Carraro, "Kriging is well-suited to
parallelize optimization" (2010).

Notation, with the names used in the code:

    m, n           candidates, observations
    μ, δ [m]       predicted means and deviations, `mean` and `deviation`
    f              the lowest target known, `best`
    z              (f - μ) / δ
    EI             δ (z Φ(z) + φ(z)), with the standard normal Φ and φ
    factor [m]     by which the EI of a candidate is multiplied, such as its probability to work at all
    P [m, n]       projections of the candidates on the observations (`Posterior.predict`): P P' is the covariance that
                   the observations explain

Believing candidate i adds a column to P and reduces the deviations:

    column = (cov(·, i) - P P_i) / √(δ_i² + σ²),    δ² ← δ² - column²,    f ← min(f, μ_i)
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotune.core.models.gp import LEAST_DEVIATION, Floats, Posterior

SHORTLIST = 12
"""For each pick of a batch the 12 most promising candidates are looked at, and more where these turn out to be too few:
the picks are the same for any number, and 12 are nearly always enough."""

NEW_EVERY = 2
"""Every second pick of a batch is of something new: half of a budget explores."""

DECIMALS = 9
"""Decimals to which improvements are rounded, so that no last bit decides."""


def normal_cdf(z: Floats) -> Floats:
    """The standard normal distribution function Φ, to 1e-7 (Abramowitz and Stegun 26.2.17): numpy has none."""
    t = 1 / (1 + 0.2316419 * np.abs(z))
    series = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    tail = normal_pdf(z) * series
    return np.where(z >= 0, 1 - tail, tail)


def normal_pdf(z: Floats) -> Floats:
    """The standard normal density φ."""
    density: Floats = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return density


def expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """How far below `best` each candidate [m] is expected to come out, at least 0."""
    z = (best - mean) / deviation
    return deviation * (z * normal_cdf(z) + normal_pdf(z))


class _Candidates(NamedTuple):
    """m candidates: points [m, d], μ, δ, P, factors, and novelty numbers as `choose_batch` takes them."""

    points: Floats
    mean: Floats
    deviation: Floats
    projections: Floats
    factor: Floats
    novelty: NDArray[np.int64]

    def take(self, which: NDArray[np.int64]) -> "_Candidates":
        return _Candidates(
            points=self.points[which],
            mean=self.mean[which],
            deviation=self.deviation[which],
            projections=self.projections[which],
            factor=self.factor[which],
            novelty=self.novelty[which],
        )

    def worth(self, deviation: Floats, best: float) -> Floats:
        """EI times the factor, with these deviations."""
        return np.round(expected_improvement(self.mean, deviation, best) * self.factor, DECIMALS)


def choose_batch(
    posterior: Posterior,
    points: Floats,
    correlation: Floats,
    *,
    prior_mean: Floats,
    factor: Floats,
    best: float,
    n: int,
    pending: int,
    novelty: NDArray[np.int64] | None = None,
) -> list[int]:
    """The indices of `n` of the candidates `points` [m, d] to measure together, the most promising first.

    correlation: of the candidates with the observations [m, n]. prior_mean [m]: the posterior is of deviations from it.
    pending: the number of candidates, the first ones, that are being measured already; they are believed first, and
    never picked.
    novelty: a number [m] for what is new to each candidate, -1 where nothing is. Every second pick is of something new,
    each time something else, as long as there is any.

    Believing a pick makes deviations and the best smaller and leaves the means, so no candidate is ever worth more than
    it was at first: those worth less at first than the worst of the picks need not be looked at again.
    """
    mean, deviation, projections = posterior.predict(correlation)
    novelty = np.full(len(points), -1) if novelty is None else novelty
    candidates = _Candidates(
        points=points,
        mean=mean + prior_mean,
        deviation=deviation,
        projections=projections,
        factor=factor,
        novelty=novelty,
    )
    worth = candidates.worth(deviation, best)
    order = pending + np.argsort(-worth[pending:], kind="stable")
    new_order = order[novelty[order] >= 0]
    looked_at = SHORTLIST * max(n, 1)
    while True:
        shortlist = np.unique(np.concatenate([np.arange(pending), order[:looked_at], new_order[:looked_at]]))
        left_out = (
            max(worth[order[looked_at : looked_at + 1]], default=-1.0),
            max(worth[new_order[looked_at : looked_at + 1]], default=-1.0),
        )
        picks = _kriging_believer(posterior, candidates.take(shortlist), best, n, pending, left_out)
        if picks is not None:
            return [int(shortlist[pick]) for pick in picks]
        looked_at *= 8


def _kriging_believer(
    posterior: Posterior, candidates: _Candidates, best: float, n: int, pending: int, left_out: tuple[float, float]
) -> list[int] | None:
    """The picks of `choose_batch` among `candidates` alone; None where a candidate left out could have been picked.

    left_out: an upper bound of the worth of any candidate left out, and of any that is new.
    """
    points, deviation, observations = candidates.points, candidates.deviation, candidates.projections.shape[1]
    projections = np.concatenate([candidates.projections, np.empty((len(points), pending + n))], axis=1)
    free = np.arange(len(points)) >= pending
    new = candidates.novelty >= 0
    picks: list[int] = []
    for i in range(pending + n):
        if i < pending:
            pick = i
        else:
            wants_new = len(picks) % NEW_EVERY == NEW_EVERY - 1 and bool((free & new).any())
            worth = np.where(free & new if wants_new else free, candidates.worth(deviation, best), -1.0)
            pick = int(np.argmax(worth))
            if worth[pick] <= left_out[wants_new]:
                return picks if left_out[wants_new] < 0 else None
            free[pick] = False
            new &= candidates.novelty != candidates.novelty[pick]
            picks.append(pick)
        before = projections[:, : observations + i]
        shared = posterior.prior_covariance(points, points[pick]) - before @ before[pick]
        column = shared / np.sqrt(deviation[pick] ** 2 + posterior.noise)
        deviation = np.sqrt(np.maximum(deviation**2 - column**2, LEAST_DEVIATION**2))
        projections[:, observations + i] = column
        best = min(best, float(candidates.mean[pick]))
    return picks
