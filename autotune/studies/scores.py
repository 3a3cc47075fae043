"""How well a run did on a recording: the score P, the evaluations until it was near the optimum, and means of many
runs.

Willemsen et al., "A methodology for comparing auto-tuning optimization algorithms", Future Generation Computer Systems
159 (2024). Every strategy is scored against drawing points at random. Notation: a recording has N points, of which V
were timed, t(1) <= ... <= t(V); E(n) is the expected best time of n draws without replacement, which needs no run: it
is the order statistics of the draws, with failures among the points that may be drawn. The budget is the least n with
E(n) near the optimum. At each of `POINTS` equidistant points i of the budget, by simulated time or by evaluations, b_i
is the best time of the run so far and E_i the baseline:

    P_i = (E_i - b_i) / (E_i - optimum)        P = mean of P_i

0 is random search, 1 the optimum at once; below 0 is worse than random. P is linear in the best times, so the mean of
the seeds' scores is the score of their mean curve. Numbers of many runs are means first over the recordings of a
kernel, then over kernels, so that no kernel counts twice. Two strategies are compared by the differences of their
scores, paired by recording and seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from msgspec import Struct

from autotune.core.keys import Key, fold, integers, root
from autotune.studies.recordings import Recording
from autotune.studies.recordings.recording import Floats, Integers

_NEAR = 0.05
"""The budget ends where the baseline is this near to the optimum, as a share of the way from the median (Willemsen et
al.)."""

_SLACK = 1e-9
"""Sums of seconds that should be equal differ by rounding; they are compared with this relative slack."""

POINTS = 50
"""Sampling points of the score: budget * 1/50, 2/50, …, 50/50."""

NEARNESS = (0.10, 0.05, 0.01)
"""Distances to the optimum, relative, for `Score.reached`."""

MARKS = (50, 100, 200, 400)
"""Numbers of evaluations for `Score.quality`."""

Axis = Literal["time", "evaluations"]

AXES: tuple[Axis, ...] = ("time", "evaluations")

_RESAMPLES = 2000
"""Resamples of a bootstrap; the ends of an interval then vary by about a twentieth of its width."""

_KEY = fold(root(0), "study", "bootstrap")
"""One key for all, so that comparisons use the same resamples and can be repeated exactly."""


class Baseline:
    """Random search on one recording of N points, of which V were timed.

    A draw costs an evaluation whether it was timed or failed. A search that has timed nothing yet stands at the mean of
    the timed points, the expectation of a first timed draw: so failures cost the time they took, and no time is
    invented for them. Raises RecordingError where the recording holds no timed point.
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
        """[N + 1] log 0!, log 1!, ..., log N!"""
        return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, self.size + 1)))])

    def _probability_untouched(self, n: int) -> Floats:
        """[V + 1] the probability that none of the i fastest points is among n draws, C(N - i, n) / C(N, n)."""
        log, size = self._log_factorials, self.size
        i = np.arange(len(self.times_ms) + 1)
        possible = i <= size - n
        left = np.where(possible, size - i, size)
        chances = np.exp(log[left] - log[np.where(possible, left - n, size - n)] - log[size] + log[size - n])
        return np.where(possible, chances, 0.0)

    def expected_ms(self, n: int) -> float:
        """E(n), the expected best time in ms of n draws without replacement, 0 <= n <= N; it never rises with n."""
        untouched = self._probability_untouched(n)
        found = float((self.times_ms * (untouched[:-1] - untouched[1:])).sum())  # not `@`: its sum depends on threads
        return max(found + float(untouched[-1]) * self.unknown_ms, self.optimum_ms)

    def curve(self, draws: Floats) -> Floats:
        """[k] the expected best time after each number of draws [k]: linear between whole numbers, constant past N."""
        at = np.clip(draws, 0, self.size)
        below = np.floor(at).astype(np.int64)
        above = np.ceil(at).astype(np.int64)
        known = {n: self.expected_ms(n) for n in np.union1d(below, above).tolist()}
        low, high = (np.array([known[n] for n in ends.tolist()]) for ends in (below, above))
        return np.asarray(low + (at - below) * (high - low))

    @cached_property
    def budget(self) -> int:
        """The least number of draws, at least 1, whose expected best is near the optimum."""
        near_ms = self.optimum_ms + _NEAR * (self.median_ms - self.optimum_ms)
        low, high = 0, self.size  # not yet at `low`, there at `high`: after N draws the optimum is certain
        while high - low > 1:
            middle = (low + high) // 2
            if self.expected_ms(middle) <= near_ms * (1 + _SLACK):
                high = middle
            else:
                low = middle
        return high

    @property
    def budget_s(self) -> float:
        """The simulated seconds that the budget takes random search on average."""
        return self.budget * self.seconds_per_draw


def evaluation_seconds(recording: Recording) -> Floats:
    """[N] the simulated seconds that one evaluation costs: compiling, running and the framework, as recorded, one after
    the other. The time of the strategy itself is not among them; it is reported separately."""
    return recording.compile_s + recording.run_s + recording.framework_s


class Score(Struct, frozen=True, kw_only=True):
    """The scores of one run.

    by_time, by_evaluations: P. reached: the evaluations to within each of NEARNESS of the optimum, None if it was never
    that near. quality: optimum / best at each of MARKS, 0 where nothing was timed. final: the same at the end of the
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
    """Scores the runs on one recording; the parts that do not depend on the run are computed once."""

    recording: Recording

    @cached_property
    def baseline(self) -> Baseline:
        return Baseline(self.recording)

    @cached_property
    def _seconds(self) -> Floats:
        return evaluation_seconds(self.recording)

    @cached_property
    def _times_ms(self) -> Floats:
        """[N] the recorded times, infinite for a failure, so that minima can be taken."""
        return np.where(self.recording.timed, self.recording.time_ms, np.inf)

    def grid(self, axis: Axis) -> Floats:
        """[POINTS] the sampling points: simulated seconds, or whole evaluations."""
        shares = np.arange(1, POINTS + 1) / POINTS
        if axis == "time":
            return np.asarray(self.baseline.budget_s * shares)
        return np.ceil(self.baseline.budget * shares * (1 - _SLACK))

    @cached_property
    def baselines(self) -> dict[Axis, Floats]:
        """[POINTS] the baseline E_i in milliseconds, by time and by evaluations."""
        per_draw = self.baseline.seconds_per_draw
        draws = self.grid("time") / per_draw if per_draw else self.grid("evaluations")
        return {"time": self.baseline.curve(draws), "evaluations": self.baseline.curve(self.grid("evaluations"))}

    def best_ms(self, rows: Integers) -> Floats:
        """[n + 1] the best recorded time after 0, 1, … n evaluations of the points `rows` [n]; the mean time, as in the
        baseline, where nothing was timed yet."""
        best = np.minimum.accumulate(np.concatenate([[np.inf], self._times_ms[rows]]))
        return np.where(np.isfinite(best), best, self.baseline.unknown_ms)

    def curve(self, rows: Integers, axis: Axis) -> Floats:
        """[POINTS] the best recorded time b_i at each point of the grid; a run that ended keeps its best."""
        grid = self.grid(axis)
        if axis == "time":
            ends = np.cumsum(self._seconds[rows])
            done = np.searchsorted(ends, grid * (1 + _SLACK), side="right")
        else:
            done = np.minimum(grid.astype(np.int64), len(rows))
        return self.best_ms(rows)[done]

    def points(self, rows: Integers, axis: Axis) -> Floats:
        """[POINTS] P_i; 0 where random search itself is at the optimum, so that P_i has no meaning."""
        return self.standardise(self.curve(rows, axis), axis)

    def standardise(self, curve: Floats, axis: Axis) -> Floats:
        """[…, POINTS] curves of best times on the scale on which random search is 0 and the optimum 1."""
        base = self.baselines[axis]
        gap = base - self.baseline.optimum_ms
        useful = gap > _SLACK * self.baseline.optimum_ms
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
    """The kernel of each recording: the one it names; else that of another file with the same name up to `__`, as some
    formats name the kernel and others do not; else that part of the file's name."""
    named = {_prefix(recording): recording.kernel for recording in recordings if recording.kernel}
    return tuple(recording.kernel or named.get(_prefix(recording), _prefix(recording)) for recording in recordings)


def _prefix(recording: Recording) -> str:
    return recording.name.partition("__")[0]


def recording_weights(kernels: Sequence[str]) -> Floats:
    """[recordings] weights that add up to 1, the same for each kernel, and for each recording of a kernel."""
    counts = [kernels.count(kernel) for kernel in kernels]
    return 1.0 / (np.array(counts, np.float64) * len(set(kernels)))


def weighted_median(values: Sequence[float | None], weights: Sequence[float]) -> float | None:
    """The least value with at least half of the weight at or below it; None stands for "never", above any value.

    None where half of the weight is "never": a median of the others would hide it.
    """
    ordered = sorted(zip(values, weights, strict=True), key=lambda pair: (pair[0] is None, pair[0] or 0.0))
    half, below = sum(weights) / 2, 0.0
    for value, weight in ordered:
        below += weight
        if below >= half * (1 - 1e-9):
            return value
    return None


class Estimate(Struct, frozen=True):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Floats, kernels: Sequence[str], key: Key = _KEY, draws: int = _RESAMPLES) -> Estimate:
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
