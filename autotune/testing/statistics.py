"""Whether draws look uniform."""

from math import sqrt

import numpy as np

from autotune.core.parameters import Codes


def is_uniform(rows: Codes, count: int) -> bool:
    """Whether draws [n, columns] are spread over `count` points as uniform ones would be: chi-square (Pearson 1900)
    within five standard deviations of its mean."""
    _, seen = np.unique(rows, axis=0, return_counts=True)
    expected = len(rows) / count
    statistic = ((seen - expected) ** 2).sum() / expected + (count - len(seen)) * expected
    return bool(abs(statistic - (count - 1)) < 5 * sqrt(2 * (count - 1)))
