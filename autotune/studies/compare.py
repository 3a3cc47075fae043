"""Strategies against one another: the difference of their scores, paired by recording and seed, with its interval."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.keys import Key, fold, integers, root
from autotune.studies.aggregate import weights_of

DRAWS = 2000
"""Resamples of a bootstrap; the ends of an interval then vary by about a twentieth of its width."""

KEY = fold(root(0), "study", "bootstrap")
"""One key for all: each comparison is made on the same resamples, and repeated exactly."""

Floats = NDArray[np.float64]


class Estimate(Struct, frozen=True):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Floats, kernels: Sequence[str], key: Key = KEY, draws: int = DRAWS) -> Estimate:
    """The mean of `values` [recordings, seeds], first over the recordings of a kernel and then over kernels.

    For a paired comparison, `values` are the differences. The interval is a percentile bootstrap of two levels: the
    recordings are drawn with replacement, each keeping its weight, and within each the seeds. So it tells how the mean
    would vary with other seeds and with other recordings of this sort; with few recordings it is rough. Efron (1979);
    for two levels, Davison and Hinkley, "Bootstrap methods and their application" (1997), section 3.8.
    """
    recordings, seeds = values.shape
    weights = weights_of(kernels)
    drawn_seeds = integers(fold(key, "seeds"), seeds, draws * recordings * seeds).reshape(draws, recordings, seeds)
    means = np.take_along_axis(values[None], drawn_seeds, axis=2).mean(axis=2)
    drawn = integers(fold(key, "recordings"), recordings, draws * recordings).reshape(draws, recordings)
    counts = np.stack([(drawn == recording).sum(axis=1) for recording in range(recordings)], axis=1) * weights
    resampled = (means * counts).sum(axis=1) / counts.sum(axis=1)
    low, high = np.quantile(resampled, (0.025, 0.975)).tolist()
    return Estimate(float((values.mean(axis=1) * weights).sum()), low, high)
