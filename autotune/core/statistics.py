"""What repeated timings say: intervals of a median, and ratios of paired samples. Pure, and random only by key."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from autotune.core.keys import Key, integers

UNKNOWN_NOISE = 0.05
"""Half the relative width assumed for the time of a noisy config that was sampled once."""

EQUAL = 0.001
"""Two times whose ratio is nearer to 1 than this are equal for all practical purposes."""

LARGEST = float(np.finfo(np.float64).max)
"""Stands for what the samples do not bound and for what is too large for a number: nothing is ever infinite."""


class Ratio(Struct, frozen=True):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """Low and high end of the notch around the median: two medians differ when their notches do not meet.

    McGill, Tukey and Larsen, "Variations of box plots" (1978): median -+ 1.57 IQR / sqrt(n), about 95 %.
    """
    ordered = sorted(samples)
    middle = quantile(ordered, 0.5)
    half = UNKNOWN_NOISE * middle
    if len(ordered) > 1:
        half = 1.57 * (quantile(ordered, 0.75) - quantile(ordered, 0.25)) / len(ordered) ** 0.5
    return max(middle - half, 0.0), min(middle + half, LARGEST)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of ascending values, interpolated linearly (Hyndman and Fan's type 7, as numpy's default).

    In plain Python: for the few samples of one config this is many times faster than an array.
    """
    place = (len(ordered) - 1) * share
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def paired_ratio(numerator: Sequence[float], denominator: Sequence[float], key: Key, draws: int = 1000) -> Ratio:
    """The ratio of the medians of two series sampled side by side, with a percentile bootstrap over the pairs.

    Pairs are drawn together, so that what slowed both at the same time widens nothing.
    Efron, "Bootstrap methods: another look at the jackknife" (1979).
    """
    n = min(len(numerator), len(denominator))
    above, below = np.array(numerator[:n]), np.array(denominator[:n])
    drawn = integers(key, n, draws * n).reshape(draws, n)
    value = divided(quantile(sorted(numerator), 0.5), quantile(sorted(denominator), 0.5))
    with np.errstate(over="ignore", invalid="ignore"):  # times near the largest number
        resampled = np.median(above[drawn], axis=1) / np.median(below[drawn], axis=1)
    resampled = np.nan_to_num(resampled, nan=value, posinf=LARGEST)
    low, high = np.quantile(resampled, (0.025, 0.975)).tolist()
    return Ratio(value, min(low, value), max(high, value))


def unpaired_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """The ratio of two medians, with the widest range that their notches allow."""
    (low_n, high_n), (low_d, high_d) = median_interval(numerator), median_interval(denominator)
    value = divided(quantile(sorted(numerator), 0.5), quantile(sorted(denominator), 0.5))
    return Ratio(value, divided(low_n, high_d), divided(high_n, low_d))


def divided(numerator: float, denominator: float) -> float:
    """The ratio of two numbers of at least 0; LARGEST where it is larger than any number."""
    return min(numerator / denominator, LARGEST) if denominator > 0 else LARGEST
