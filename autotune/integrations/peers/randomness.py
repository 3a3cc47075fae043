"""What makes other tuners repeatable: the global random state that they draw from, and one thread to compute on."""

import os
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


ONE_THREAD = {"LOKY_MAX_CPU_COUNT": "1"}
"""What scikit-learn goes by where a tuner asks it for all processors."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Forests add up their trees in one order, so that no last bit depends on the machine."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
