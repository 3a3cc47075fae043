"""Statistics of repeated timings: intervals of a median, and ratios of samples that were taken side by side. Pure.

Intervals are order statistics, which hold for any distribution of the noise: of n samples, at most k - 1 lie on one
side of the median with the probability of at most k - 1 heads in n tosses, so the k-th smallest and the k-th largest
enclose it. David and Nagaraja, "Order statistics" (2003), section 7.1; Thompson, "On confidence ranges for the median"
(1936). Samples whose medians differ, as under drift, make such an interval hold more often, not less: Hoeffding, "On
the distribution of the number of successes in independent trials" (1956).
"""

from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from math import atan, comb, cos, exp, fsum, log, pi, sin, sqrt

from msgspec import Struct

LEVEL = 0.97
"""How often an interval must hold the truth: 0.95, and a margin for the choice among several configs. A reported
interval says which level it reaches, mostly a little more."""

STRICT = 0.99
"""The level where an error costs more: before a config replaces the default, before a reset counts as harmful."""

_UNKNOWN_NOISE = 0.05
"""Half the relative width that is assumed for a time that was sampled once."""

EQUAL = 0.001
"""Two times whose ratio is closer to 1 than this count as equal."""

HARMLESS = 0.01
"""A simpler config that seems slower by no more than this, and is not certainly slower, is as good."""

LARGEST = 1.7976931348623157e308
"""The largest float: the end of an interval that the samples do not bound, and any greater number. None is infinite."""


class Ratio(Struct, frozen=True, kw_only=True):
    """An estimate with its interval.

    value: the estimate. low, high: the interval. level: how often such an interval holds the truth; 1 for exact times;
    None if that is unknown, as for a time that was sampled once, whose noise is assumed.
    """

    value: float
    low: float
    high: float
    level: float | None = None

    def __str__(self) -> str:
        """The estimate with its interval, such as "3.1x (2.9 to 3.4)"."""
        if self.low == self.high:
            return f"{self.value:.3g}x"
        return f"{self.value:.3g}x ({self.low:.3g} to {self.high:.3g}{format_level(self.level)})"


def format_level(level: float | None) -> str:
    """How often an interval holds the truth, where that is less often than usual."""
    return "" if level is None or level >= LEVEL else f", {level:.0%}"


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of ascending values, interpolated linearly (Hyndman and Fan's type 7, as numpy's default).

    In plain Python: for the few samples of one config this is many times faster than an array.
    """
    place = (len(ordered) - 1) * share
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def finite_median(samples: Sequence[float]) -> float:
    """The median; finite even if the mean of the two middle samples is too large for a float."""
    return min(quantile(sorted(samples), 0.5), LARGEST)


def notch(samples: Sequence[float]) -> tuple[float, float]:
    """The low and the high end of the notch around the median: a rough guess that guides the search, never reported.

    Unlike an interval it is no wider for few samples, and one sample is enough. Two medians differ if their notches do
    not overlap. McGill, Tukey and Larsen, "Variations of box plots" (1978): median -+ 1.57 IQR / sqrt(n).
    """
    ordered = sorted(samples)
    center = quantile(ordered, 0.5)
    half = _UNKNOWN_NOISE * center
    if len(ordered) > 1:
        half = 1.57 * (quantile(ordered, 0.75) - quantile(ordered, 0.25)) / len(ordered) ** 0.5
    return max(center - half, 0.0), min(center + half, LARGEST)


@cache
def _depth(n: int, level: float) -> int:
    """The largest k for which the k-th smallest and largest of n samples enclose the median often enough; 0 if none."""
    tails = accumulate(comb(n, i) for i in range(n // 2))
    return sum(2 * tail <= (1 - level) * 2**n for tail in tails)


@cache
def interval_level(n: int, level: float = LEVEL) -> float:
    """How often the interval of a median of n samples holds the truth: `level` or a little more, if n allows it; 0 for
    one sample, which says nothing about its noise."""
    depth = max(_depth(n, level), 1)
    return float(max(1 - 2 * sum(comb(n, i) for i in range(depth)) / 2**n, 0.0))


def median_interval(samples: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """The interval of the median, for any distribution: two of the samples.

    If there are too few to reach the level (six or fewer for 0.97), these are the least and the greatest sample;
    `interval_level` says which level they reach.
    """
    ordered = sorted(samples)
    depth = max(_depth(len(ordered), level), 1)
    return ordered[depth - 1], ordered[-depth]


def paired_ratio(numerator: Sequence[float], denominator: Sequence[float], level: float = LEVEL) -> Ratio:
    """The ratio of two series sampled side by side: the median of the ratios round by round, with its interval.

    A disturbance that slows both samples of a round widens nothing. With seven rounds or more, the interval is that of
    a median, as above, which holds for any noise. Fewer cannot reach 0.97 in this way: for them it is Student's t of
    the logarithms of the ratios, which assumes that these are about normal, and reaches beyond the samples; Student,
    "The probable error of a mean" (1908). With one round, it is twice the noise that is assumed for a time.
    """
    ratios = [finite_ratio(a, b) for a, b in zip(numerator, denominator, strict=False)]
    low, high, reached = _center(ratios, level, 2 * _UNKNOWN_NOISE)
    value = finite_median(ratios)
    return Ratio(value=value, low=min(low, value), high=max(high, value), level=reached)


def unpaired_ratio(numerator: Sequence[float], denominator: Sequence[float], level: float = LEVEL) -> Ratio:
    """The ratio of two medians that were not sampled side by side, with the widest range that their intervals allow.

    The range does not cover a drift between the two series.
    """
    low_n, high_n, level_n = _center(numerator, level, _UNKNOWN_NOISE)
    low_d, high_d, level_d = _center(denominator, level, _UNKNOWN_NOISE)
    value = finite_ratio(finite_median(numerator), finite_median(denominator))
    known = None if level_n is None or level_d is None else max(level_n + level_d - 1, 0.0)
    low, high = finite_ratio(low_n, high_d), finite_ratio(high_n, low_d)
    return Ratio(value=value, low=min(low, value), high=max(high, value), level=known)


def finite_ratio(numerator: float, denominator: float) -> float:
    """The ratio of two numbers of at least 0; LARGEST if it is larger than any float."""
    return min(numerator / denominator, LARGEST) if denominator > 0 else LARGEST


def _center(samples: Sequence[float], level: float, assumed: float) -> tuple[float, float, float | None]:
    """The interval of the centre of positive samples and its level: from their order or their logarithms."""
    n = len(samples)
    if _depth(n, level):
        return *median_interval(samples, level), interval_level(n, level)
    if n == 1:
        return samples[0] * (1 - assumed), min(samples[0] * (1 + assumed), LARGEST), None
    logs = [log(max(sample, 5e-324)) for sample in samples]
    mean = fsum(logs) / n
    half = student_t(n - 1, level) * sqrt(fsum((x - mean) ** 2 for x in logs) / (n - 1) / n)
    return _power(mean - half), _power(mean + half), level


def _power(exponent: float) -> float:
    return exp(exponent) if exponent < log(LARGEST) else LARGEST


@cache
def student_t(freedom: int, level: float) -> float:
    """The t such that Student's distribution has the share `level` between -t and t, by bisection of its integral."""
    low, high = 0.0, 1.0
    while _within(high, freedom) < level:
        high *= 2
    for _ in range(60):
        center = (low + high) / 2
        low, high = (center, high) if _within(center, freedom) < level else (low, center)
    return high


def _within(t: float, freedom: int) -> float:
    """The share between -t and t: Abramowitz and Stegun, "Handbook of mathematical functions" (1964), 26.7.3 and 4."""
    angle = atan(t / sqrt(freedom))
    odd = freedom % 2
    term = cos(angle) if odd else 1.0
    total = term if freedom > 1 else 0.0
    for i in range(3 if odd else 2, freedom - 1, 2):
        term *= (i - 1) / i * cos(angle) ** 2
        total += term
    return 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total
