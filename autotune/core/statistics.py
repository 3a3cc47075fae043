"""What repeated timings say: intervals of a median, and ratios of paired samples. Pure, and random only by key."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.keys import Key, integers

UNKNOWN_NOISE = 0.05
"""Half the relative width assumed for the time of a noisy config that was sampled once."""


class Ratio(Struct, frozen=True):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def median_interval(samples: NDArray[np.float64]) -> tuple[float, float]:
    """Low and high end of the notch around the median: two medians differ when their notches do not meet.

    McGill, Tukey and Larsen, "Variations of box plots" (1978): median -+ 1.57 IQR / sqrt(n), about 95 %.
    """
    if len(samples) == 1:
        value = float(samples[0])
        return value * (1 - UNKNOWN_NOISE), value * (1 + UNKNOWN_NOISE)
    low, middle, high = np.quantile(samples, (0.25, 0.5, 0.75)).tolist()
    half = 1.57 * (high - low) / len(samples) ** 0.5
    return max(middle - half, 0.0), middle + half


def paired_ratio(
    numerator: NDArray[np.float64], denominator: NDArray[np.float64], key: Key, draws: int = 1000
) -> Ratio:
    """The median of the sample-by-sample ratios of two series [n], with a percentile bootstrap over the pairs.

    Efron, "Bootstrap methods: another look at the jackknife" (1979).
    """
    n = min(len(numerator), len(denominator))
    ratios = numerator[:n] / denominator[:n]
    resampled = np.median(ratios[integers(key, n, draws * n).reshape(draws, n)], axis=1)
    low, high = np.quantile(resampled, (0.025, 0.975)).tolist()
    return Ratio(float(np.median(ratios)), low, high)


def unpaired_ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> Ratio:
    """The ratio of two medians, with the widest range that their notches allow."""
    (low_n, high_n), (low_d, high_d) = median_interval(numerator), median_interval(denominator)
    value = float(np.median(numerator) / np.median(denominator))
    return Ratio(value, low_n / high_d, high_n / low_d if low_d > 0 else float(np.finfo(np.float64).max))
