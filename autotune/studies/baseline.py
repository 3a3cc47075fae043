"""What random search is expected to find on a recording: the calculated baseline and the budget that it defines.

Willemsen et al., "A methodology for comparing auto-tuning optimization algorithms", Future Generation Computer Systems
159 (2024): every strategy is scored against drawing points at random, whose expectation needs no run. It is exact here:
the order statistics of draws without replacement, with failures among what may be drawn.
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autotune.studies.recordings import Recording

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

NEAR = 0.05
"""The budget ends where the baseline has come this near to the optimum, as a share of the way from the median."""

SLACK = 1e-9
"""Sums of seconds that should be equal differ by rounding; they are compared with this relative slack."""


class Baseline:
    """Random search on one recording of N points, of which V were timed.

    A draw costs an evaluation whether it was timed or failed. Who has timed nothing yet stands at the mean of the timed
    points, the expectation of a first timed draw: so failures cost what they took, and no time is invented for them.
    Raises RecordingError when the recording holds no timed point.
    """

    def __init__(self, recording: Recording) -> None:
        self.optimum_ms = recording.optimum_ms
        self.size = len(recording)
        self.times_ms: Floats = np.sort(recording.time_ms[recording.timed])
        self.median_ms = float(np.median(self.times_ms))
        self.unknown_ms = float(self.times_ms.mean())
        self.seconds_per_draw = float(seconds_of(recording).mean())

    @cached_property
    def _log_factorials(self) -> Floats:
        """[N + 1]."""
        return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, self.size + 1)))])

    def _untouched(self, n: int) -> Floats:
        """[V + 1] the probability that none of the i fastest points is among n draws: C(N - i, n) / C(N, n)."""
        log, size = self._log_factorials, self.size
        i = np.arange(len(self.times_ms) + 1)
        possible = i <= size - n
        left = np.where(possible, size - i, size)
        chances = np.exp(log[left] - log[np.where(possible, left - n, size - n)] - log[size] + log[size - n])
        return np.where(possible, chances, 0.0)

    def expected_ms(self, n: int) -> float:
        """The expected time of the best of n draws without replacement, 0 <= n <= N; never rises with n."""
        untouched = self._untouched(n)
        found = float((self.times_ms * (untouched[:-1] - untouched[1:])).sum())  # not `@`: its sum depends on threads
        return max(found + float(untouched[-1]) * self.unknown_ms, self.optimum_ms)

    def curve(self, draws: Floats) -> Floats:
        """The expected best time [k] after each number of draws [k]: linear in between whole numbers, flat past N."""
        at = np.clip(draws, 0, self.size)
        below = np.floor(at).astype(np.int64)
        above = np.ceil(at).astype(np.int64)
        known = {n: self.expected_ms(n) for n in np.union1d(below, above).tolist()}
        low, high = (np.array([known[n] for n in ends.tolist()]) for ends in (below, above))
        return np.asarray(low + (at - below) * (high - low))

    @cached_property
    def threshold_ms(self) -> float:
        """optimum + NEAR (median - optimum)."""
        return self.optimum_ms + NEAR * (self.median_ms - self.optimum_ms)

    @cached_property
    def budget(self) -> int:
        """The least number of draws whose expected best is at or below the threshold, at least 1."""
        low, high = 0, self.size  # not yet at `low`, there at `high`: after N draws the optimum is certain
        while high - low > 1:
            middle = (low + high) // 2
            if self.expected_ms(middle) <= self.threshold_ms * (1 + SLACK):
                high = middle
            else:
                low = middle
        return high

    @property
    def budget_s(self) -> float:
        """The simulated seconds that the budget takes random search on average."""
        return self.budget * self.seconds_per_draw


def seconds_of(recording: Recording) -> Floats:
    """[N] simulated seconds that one evaluation costs: compiling, running and the framework, as recorded, one after
    the other. What a strategy itself takes is not in it; that is reported apart."""
    return recording.compile_s + recording.run_s + recording.framework_s
