"""The choice between the default and the fastest config by all their samples, where the final comparison was too short.

A comparison of a few rounds, such as one that the deadline cut short, can hold one outlier and then shows nothing: its
interval reaches 1 although all other times of the search may differ a hundredfold. That is no tie. Here all samples of
the two configs count, whenever they were taken: alone in the search, in the qualification, in simplification and in
the verification. Their noise is that of all configs together, or of one of the two where that is greater: it contains
how far times of different moments differ. It is read from quartiles, which a single outlier does not move.
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import chain
from math import exp, log, sqrt

from autotune.core.outcomes import Timed
from autotune.core.search.qualification import DRIFT
from autotune.core.search.state import Search
from autotune.core.statistics import (
    LARGEST,
    LEVEL,
    Ratio,
    finite_median,
    finite_ratio,
    interval_level,
    quantile,
    student_t,
)

Samples = Mapping[int, tuple[float, ...]]
"""All times of each trial, in milliseconds."""

APPRECIABLE = 0.1
"""A config that seems faster than the default by this share is worth another search where rounds decide nothing."""

OF_MEDIAN = 1.2533
"""The standard error of a median over that of a mean (Laplace)."""

EFFICIENCY = 0.37
"""The quartiles know a normal spread as well as the standard deviation of this share of the samples does."""

MOST_FREEDOM = 120
"""More degrees of freedom hardly change Student's t."""


def too_few(rounds: int) -> bool:
    """Whether no order of so many rounds reaches LEVEL, so that one outlier among them hides any difference."""
    return interval_level(rounds) < LEVEL


def collect_samples(search: Search) -> Samples:
    """All samples of each trial: of the search, of confirmations, and of all comparisons at the end."""
    apart = [event.outcomes for event in (search.qualified, *search.simplifying) if event is not None]
    found: dict[int, list[float]] = {}
    for trial, outcome in chain(search.outcomes, *apart):
        if isinstance(outcome, Timed):
            found.setdefault(trial, []).extend(outcome.times_ms)
    return {trial: tuple(times) for trial, times in found.items()}


def ratio_by_all(samples: Samples, one: int, other: int) -> Ratio | None:
    """The ratio of two trials' medians, the first over the second; None where no trial was sampled twice.

    Its level holds for the fastest of all trials as well, which was chosen by some of these samples: the error is
    divided by the number of trials.
    """
    squares, freedom = 0.0, 0
    for times in samples.values():
        squares += _spread(times) ** 2 * (len(times) - 1)
        freedom += len(times) - 1
    if not freedom:
        return None
    scale = max(sqrt(squares / freedom), _spread(samples[one]), _spread(samples[other]))
    freedom = max(min(int(EFFICIENCY * freedom), MOST_FREEDOM), 1)
    t = _student_t(freedom, 1 - (1 - LEVEL) / max(len(samples) - 1, 1))
    half = t * OF_MEDIAN * scale * sqrt(1 / len(samples[one]) + 1 / len(samples[other])) + log(1 + DRIFT)
    value = finite_ratio(finite_median(samples[one]), finite_median(samples[other]))
    half = min(half, 700.0)  # whose power is a float
    return Ratio(value=value, low=value * exp(-half), high=min(value * exp(half), LARGEST), level=LEVEL)


def _spread(times: tuple[float, ...]) -> float:
    """The standard deviation of the logarithms by their quartiles, corrected for few samples; 0 for one sample."""
    if len(times) < 2:
        return 0.0
    logs = sorted(map(log, times))
    return (quantile(logs, 0.75) - quantile(logs, 0.25)) / 1.349 * len(logs) / (len(logs) - 1)


@lru_cache(maxsize=256)
def _student_t(freedom: int, level: float) -> float:
    return student_t(freedom, level)
