"""How well one run did on one recording: the score P, evaluations to near the optimum, and how near it came when.

P: Willemsen et al., "A methodology for comparing auto-tuning optimization algorithms", FGCS 159 (2024). At each of
`POINTS` equidistant points of the budget, by simulated time or by evaluations,

    P_i = (baseline_i - best_i) / (baseline_i - optimum)        P = mean of P_i

0 is random search, 1 the optimum at once; below 0 is worse than random. P is linear in the best times, so the mean of
the seeds' scores is the score of their mean curve.

What random search is expected to find on a recording: the calculated baseline and the budget that it defines.

Willemsen et al., "A methodology for comparing auto-tuning optimization algorithms", Future Generation Computer Systems
159 (2024): every strategy is scored against drawing points at random, whose expectation needs no run. It is exact here:
the order statistics of draws without replacement, with failures among what may be drawn.

Numbers of many runs as one: first over the recordings of a kernel, then over kernels, so that none counts twice.

Strategies against one another: the difference of their scores, paired by recording and seed, with its interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.keys import Key, fold, integers, root
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
        self.seconds_per_draw = float(evaluation_seconds(recording).mean())

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


def evaluation_seconds(recording: Recording) -> Floats:
    """[N] simulated seconds that one evaluation costs: compiling, running and the framework, as recorded, one after
    the other. What a strategy itself takes is not in it; that is reported apart."""
    return recording.compile_s + recording.run_s + recording.framework_s


POINTS = 50
"""Sampling points of the score: budget * 1/50, 2/50, …, 50/50."""

NEARNESS = (0.10, 0.05, 0.01)
"""Distances to the optimum, relative, for `Score.reached`."""

MARKS = (50, 100, 200, 400)
"""Numbers of evaluations for `Score.quality`."""

Axis = Literal["time", "evaluations"]
AXES: tuple[Axis, ...] = ("time", "evaluations")


class Score(Struct, frozen=True, kw_only=True):
    """What one run came to.

    by_time, by_evaluations: P. reached: the evaluations to within each of NEARNESS of the optimum, None if it never
    got there. quality: optimum / best at each of MARKS, 0 where nothing was timed. final: the same at the end of the
    run. evaluated: distinct points measured. failed: how many of them failed.
    """

    by_time: float
    by_evaluations: float
    reached: tuple[int | None, ...]
    quality: tuple[float, ...]
    final: float
    evaluated: int
    failed: int


@dataclass(frozen=True)
class Scorer:
    """Scores runs on one recording; what does not depend on the run is worked out once."""

    recording: Recording

    @cached_property
    def baseline(self) -> Baseline:
        return Baseline(self.recording)

    @cached_property
    def _seconds(self) -> Floats:
        return evaluation_seconds(self.recording)

    @cached_property
    def _times_ms(self) -> Floats:
        """[N], infinite for a failure: only for taking minima here, it never leaves this class."""
        return np.where(self.recording.timed, self.recording.time_ms, np.inf)

    def grid(self, axis: Axis) -> Floats:
        """[POINTS] the sampling points: simulated seconds, or whole evaluations."""
        shares = np.arange(1, POINTS + 1) / POINTS
        if axis == "time":
            return np.asarray(self.baseline.budget_s * shares)
        return np.ceil(self.baseline.budget * shares * (1 - SLACK))

    @cached_property
    def baselines(self) -> dict[Axis, Floats]:
        """[POINTS] what random search is expected to have at each point of the grid, in milliseconds."""
        per_draw = self.baseline.seconds_per_draw
        draws = self.grid("time") / per_draw if per_draw else self.grid("evaluations")
        return {"time": self.baseline.curve(draws), "evaluations": self.baseline.curve(self.grid("evaluations"))}

    def best_ms(self, rows: Integers) -> Floats:
        """[n + 1] the best recorded time after 0, 1, … n evaluations of the points `rows` [n].

        Who has timed nothing stands at the mean, as the baseline does.
        """
        best = np.minimum.accumulate(np.concatenate([[np.inf], self._times_ms[rows]]))
        return np.where(np.isfinite(best), best, self.baseline.unknown_ms)

    def curve(self, rows: Integers, axis: Axis) -> Floats:
        """[POINTS] the best recorded time at each point of the grid; a run that ended keeps what it had."""
        grid = self.grid(axis)
        if axis == "time":
            ends = np.cumsum(self._seconds[rows])
            done = np.searchsorted(ends, grid * (1 + SLACK), side="right")
        else:
            done = np.minimum(grid.astype(np.int64), len(rows))
        return self.best_ms(rows)[done]

    def points(self, rows: Integers, axis: Axis) -> Floats:
        """[POINTS] P_i; 0 where random search is at the optimum itself, as nothing can be told there."""
        return self.standardise(self.curve(rows, axis), axis)

    def standardise(self, curve: Floats, axis: Axis) -> Floats:
        """[…, POINTS] curves of best times on the scale where random search is 0 and the optimum 1."""
        base = self.baselines[axis]
        gap = base - self.baseline.optimum_ms
        useful = gap > SLACK * self.baseline.optimum_ms
        return np.where(useful, (base - curve) / np.where(useful, gap, 1.0), 0.0)

    def score(self, rows: Integers) -> Score:
        """The score of a run that measured the points `rows` [n] in this order."""
        times, optimum = self._times_ms[rows], self.baseline.optimum_ms
        best = np.minimum.accumulate(np.concatenate([[np.inf], times]))
        quality = optimum / best
        return Score(
            by_time=float(self.points(rows, "time").mean()),
            by_evaluations=float(self.points(rows, "evaluations").mean()),
            reached=tuple(_first(times <= optimum * (1 + near)) for near in NEARNESS),
            quality=tuple(float(quality[min(mark, len(rows))]) for mark in MARKS),
            final=float(quality[-1]),
            evaluated=len(rows),
            failed=int(np.isinf(times).sum()),
        )


def _first(hits: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> int | None:
    """The number, from 1, of the first hit."""
    found = np.flatnonzero(hits)
    return int(found[0]) + 1 if len(found) else None


def kernel_names(recordings: Sequence[Recording]) -> tuple[str, ...]:
    """The kernel of each recording: the one it names; else that of another file with the same name up to `__`, as
    one format says it and another does not; else that part of the file's name."""
    named = {_prefix(recording): recording.kernel for recording in recordings if recording.kernel}
    return tuple(recording.kernel or named.get(_prefix(recording), _prefix(recording)) for recording in recordings)


def _prefix(recording: Recording) -> str:
    return recording.name.partition("__")[0]


def recording_weights(kernels: Sequence[str]) -> Floats:
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


DRAWS = 2000
"""Resamples of a bootstrap; the ends of an interval then vary by about a twentieth of its width."""

KEY = fold(root(0), "study", "bootstrap")
"""One key for all: each comparison is made on the same resamples, and repeated exactly."""


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
    weights = recording_weights(kernels)
    drawn_seeds = integers(fold(key, "seeds"), seeds, draws * recordings * seeds).reshape(draws, recordings, seeds)
    means = np.take_along_axis(values[None], drawn_seeds, axis=2).mean(axis=2)
    drawn = integers(fold(key, "recordings"), recordings, draws * recordings).reshape(draws, recordings)
    counts = np.stack([(drawn == recording).sum(axis=1) for recording in range(recordings)], axis=1) * weights
    resampled = (means * counts).sum(axis=1) / counts.sum(axis=1)
    low, high = np.quantile(resampled, (0.025, 0.975)).tolist()
    return Estimate(float((values.mean(axis=1) * weights).sum()), low, high)
