"""Numbers of many runs as one: first over the recordings of a kernel, then over kernels, so that none counts twice."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autotune.studies.recordings import Recording

Floats = NDArray[np.float64]


def kernels_of(recordings: Sequence[Recording]) -> tuple[str, ...]:
    """The kernel of each recording: the one it names; else that of another file with the same name up to `__`, as
    one format says it and another does not; else that part of the file's name."""
    named = {_prefix(recording): recording.kernel for recording in recordings if recording.kernel}
    return tuple(recording.kernel or named.get(_prefix(recording), _prefix(recording)) for recording in recordings)


def _prefix(recording: Recording) -> str:
    return recording.name.partition("__")[0]


def weights_of(kernels: Sequence[str]) -> Floats:
    """[recordings] what each counts: kernels count the same, and so do the recordings of a kernel. They add up to 1."""
    counts = [kernels.count(kernel) for kernel in kernels]
    return 1.0 / (np.array(counts, np.float64) * len(set(kernels)))


def weighted_median(values: Sequence[float | None], weights: Sequence[float]) -> float | None:
    """The least value that at least half of the weight is at or below; None stands for "never", later than any value.

    None where that half never got there: a median of what did would hide those that did not.
    """
    ordered = sorted(zip(values, weights, strict=True), key=lambda pair: (pair[0] is None, pair[0] or 0.0))
    half, below = sum(weights) / 2, 0.0
    for value, weight in ordered:
        below += weight
        if below >= half * (1 - 1e-9):
            return value
    return None
