"""What makes other tuners repeatable: the global random state that they draw from, and one thread to compute on."""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from autotune.shell.variables import set_variables


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed `random` and `numpy.random` with a number below 2**32; afterwards they are what they were before.

    Meanwhile a numpy generator that would take its seed from the operating system takes it from `numpy.random`.
    """
    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002  # theirs, not ours
    make = np.random.default_rng

    def default_rng(seed: Any = None) -> np.random.Generator:
        return make(np.random.randint(2**32, dtype=np.uint32) if seed is None else seed)  # noqa: NPY002

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        with patch.object(np.random, "default_rng", default_rng):
            yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)  # noqa: NPY002


ONE_THREAD = {"LOKY_MAX_CPU_COUNT": "1"}
"""What scikit-learn goes by where a tuner asks it for all processors."""


def one_thread() -> AbstractContextManager[None]:
    """Forests add up their trees in one order, so that no last bit depends on the machine."""
    return set_variables(ONE_THREAD)
