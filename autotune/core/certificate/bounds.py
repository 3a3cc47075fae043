"""Lower bounds of log ratios that hold at every number of rounds at once, so that a comparison may stop at any time.

A round gives one log ratio for each pair of configs: d = log(t_i / t_j), both sampled in the same round, in an order
drawn anew. What slows the device for a while slows both, and which of them runs first is chance; so the noise of d is
symmetric about the true value, whatever the noise of a time is. For a hypothesis "the true value is at most m" let

    z = clip((d - m) / scale, -CLIP, CLIP).

Under the hypothesis E exp(lambda z) <= E cosh(lambda x) for each lambda > 0, with x the noise alone, clipped: z has the
distribution of x where the true value is m, and is smaller where it is less; and x is symmetric. The product over the
rounds of exp(lambda z) / E cosh(lambda x) is a supermartingale that begins at 1, and so is its mean over a grid of
lambdas, an e-process. By Ville's inequality it ever reaches 1 / error with a probability of at most `error`. The lower
bound is the least m that is not refuted in this way. No variance of d need exist, and an outlier is one clipped round.

E cosh(lambda x) is the mean over what all pairs of configs have shown, with a margin for its error and one more value
at the clip, for the outlier that was not seen. It is the only thing that is estimated: the noise of all configs of a
comparison is taken to be of one shape.

Sources: Ville, "Étude critique de la notion de collectif" (1939); de la Peña, "A general class of exponential
inequalities for martingales and ratios" (1999), for symmetric noise; Howard, Ramdas, McAuliffe and Sekhon,
"Time-uniform, nonparametric, nonasymptotic confidence sequences" (2021); Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting" (2024); Huber, "Robust estimation of a location parameter" (1964), for the clip.
"""

from collections.abc import Sequence
from math import cosh, exp, inf, log

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

CLIP = 3.0
"""Where a log ratio is clipped, in scales from the hypothesis: of normal noise, one round of 16,000."""

LAMBDAS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.4)
"""The grid of lambdas. The best lambda is about the distance between the hypothesis and the truth in scales."""

MARGIN = 1.0
"""How many of its own standard errors the noise is taken larger than it was seen."""

_UNKNOWN_SCALE = 0.05
"""The scale where no pair of configs was sampled twice: as `statistics` takes a time that was sampled once."""

_FEW = 5
"""With fewer rounds, distances from a median of them are too small, and differences of rounds stand for them."""

_LEAST_SCALE = 1e-9
"""The least scale, for times that repeat exactly."""

_FARTHEST, _HALVINGS = 64.0, 24
"""A bound is sought so many scales below the median at most, where all but a few rounds are clipped, and to a few
millionths of a scale."""

Logs = NDArray[np.float64]
"""Logarithms of times, or of ratios [configs or pairs, rounds]; NaN where a config took no part in a round."""


class RatioNoise(Struct, frozen=True, kw_only=True):
    """The noise of a log ratio. scale: a robust standard deviation. costs: log E cosh(lambda x) for each of LAMBDAS,
    margins included. values: from how many values it was read."""

    scale: float
    costs: tuple[float, ...]
    values: int


def estimate_noise(blocks: Sequence[Logs]) -> RatioNoise:
    """The noise of the log ratio of two configs, from blocks of rounds: logarithms of times [configs, rounds].

    Each config is paired with the next one. The scale is of differences between successive rounds, which no true
    difference of the configs touches; the shape is of the distances from each pair's median.
    """
    steps, residuals = [np.zeros(0)], [np.zeros(0)]
    for block in blocks:
        rounds = block.shape[1]
        if block.shape[0] > 1 and rounds > 1:
            pairs = block - np.roll(block, 1, axis=0) if block.shape[0] > 2 else block[1:] - block[:1]
            steps.append((np.diff(pairs, axis=1) / 2**0.5).ravel())
            centered = pairs - np.median(pairs, axis=1, keepdims=True)
            residuals.append(steps[-1] if rounds < _FEW else (centered * (rounds / (rounds - 1)) ** 0.5).ravel())
    found, seen = np.abs(np.concatenate(steps)), np.abs(np.concatenate(residuals))
    if not len(found):
        return RatioNoise(scale=_UNKNOWN_SCALE, costs=tuple(log(cosh(one * CLIP)) for one in LAMBDAS), values=0)
    scale = 1.4826 * float(np.median(found)) or float(np.sqrt(np.mean(found**2)))
    scale = max(scale, _LEAST_SCALE)
    clipped = np.minimum(seen / scale, CLIP)
    margin = 1 + MARGIN * (2 / len(seen)) ** 0.5
    means = [1 + (float(np.cosh(one * clipped).mean()) - 1) * margin for one in LAMBDAS]
    costs = [log(mean + cosh(one * CLIP) / (len(seen) + 1)) for mean, one in zip(means, LAMBDAS, strict=True)]
    return RatioNoise(scale=scale, costs=tuple(costs), values=len(seen))


def lower_bounds(ratios: Logs, noise: RatioNoise, error: float) -> NDArray[np.float64]:
    """The lower bound of each log ratio [pairs], from its rounds [pairs, rounds]; -inf where there are too few.

    error: the probability that one bound is ever above the truth.
    """
    known = ~np.isnan(ratios)
    counts = known.sum(axis=1)
    values = np.where(known, ratios, 0.0) / noise.scale
    wanted = log(1 / error)
    bounds = np.full(len(ratios), -inf)
    if not ratios.size:
        return bounds
    high = medians(np.where(known, values, np.nan))
    high[counts == 0] = 0.0
    low = high - _FARTHEST
    refuted = _log_wealth(values, known, counts, low, noise.costs) >= wanted
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = _log_wealth(values, known, counts, middle, noise.costs) >= wanted
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    bounds[refuted] = (low * noise.scale)[refuted]
    return bounds


def medians(ratios: Logs) -> NDArray[np.float64]:
    """The median of each row [pairs] without its NaN; NaN where nothing else is in it."""
    counts = (~np.isnan(ratios)).sum(axis=1)
    ordered = np.sort(ratios, axis=1)  # NaN last
    rows = np.arange(len(ratios))
    return np.asarray((ordered[rows, np.maximum(counts - 1, 0) // 2] + ordered[rows, counts // 2 * (counts > 0)]) / 2)


def _log_wealth(
    values: Logs,
    known: NDArray[np.bool_],
    counts: NDArray[np.int64],
    center: NDArray[np.float64],
    costs: Sequence[float],
) -> NDArray[np.float64]:
    """The logarithm of the e-process against "at most `center`", in scales; it falls as the center rises."""
    total = np.where(known, np.clip(values - center[:, None], -CLIP, CLIP), 0.0).sum(axis=1)
    each = total[:, None] * np.array(LAMBDAS) - counts[:, None] * np.array(costs)
    top = each.max(axis=1)
    return np.asarray(top + np.log(np.exp(each - top[:, None]).mean(axis=1)))


def rounds_needed(distance: float, noise: RatioNoise, error: float, most: int) -> int:
    """About how many rounds refute a hypothesis this far (a log ratio) from the truth; at most `most`."""
    away = min(distance / noise.scale, CLIP)
    if away <= 0:
        return most
    rate = max(away * one - cost for one, cost in zip(LAMBDAS, noise.costs, strict=True))
    return most if rate <= 0 else min(int((log(1 / error) + log(len(LAMBDAS))) / rate) + 1, most)


def as_ratio(bound: float) -> float:
    """The ratio of a log ratio; 0 for -inf."""
    return exp(min(bound, 700.0))
