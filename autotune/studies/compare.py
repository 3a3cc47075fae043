"""Strategies against one another: the difference of their scores, paired by recording and seed, with its interval."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.keys import Key, fold, integers, root

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
    recordings are drawn with replacement, and within each the seeds. So it tells how the mean would vary with other
    seeds and with other recordings of this sort; with few recordings it is rough. Efron (1979); for two levels, Davison
    and Hinkley, "Bootstrap methods and their application" (1997), section 3.8.
    """
    recordings, seeds = values.shape
    drawn_seeds = integers(fold(key, "seeds"), seeds, draws * recordings * seeds).reshape(draws, recordings, seeds)
    means = np.take_along_axis(values[None], drawn_seeds, axis=2).mean(axis=2)
    drawn = integers(fold(key, "recordings"), recordings, draws * recordings).reshape(draws, recordings)
    counts = np.stack([(drawn == recording).sum(axis=1) for recording in range(recordings)], axis=1)
    resampled = _mean_over_kernels(means, counts.astype(np.float64), kernels)
    low, high = np.quantile(resampled, (0.025, 0.975)).tolist()
    mean = _mean_over_kernels(values.mean(axis=1)[None], np.ones((1, recordings)), kernels)
    return Estimate(float(mean[0]), low, high)


def _mean_over_kernels(means: Floats, counts: Floats, kernels: Sequence[str]) -> Floats:
    """[draws] from the means [draws, recordings] of recordings that were drawn so many times [draws, recordings]."""
    total, present = np.zeros(len(means)), np.zeros(len(means))
    for kernel in dict.fromkeys(kernels):
        own = [i for i, other in enumerate(kernels) if other == kernel]
        drawn = counts[:, own].sum(axis=1)
        total += (means[:, own] * counts[:, own]).sum(axis=1) / np.maximum(drawn, 1.0)
        present += drawn > 0
    return np.asarray(total / present)
