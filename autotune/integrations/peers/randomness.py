"""The global random state that other tuners draw from, seeded for a while."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed `random` and `numpy.random` with a number below 2**32; afterwards they are what they were before."""
    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002  # theirs, not ours
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)  # noqa: NPY002
