"""How well one run did on one recording: the score P, evaluations to near the optimum, and how near it came when.

P: Willemsen et al., "A methodology for comparing auto-tuning optimization algorithms", FGCS 159 (2024). At each of
`POINTS` equidistant points of the budget, by simulated time or by evaluations,

    P_i = (baseline_i - best_i) / (baseline_i - optimum)        P = mean of P_i

0 is random search, 1 the optimum at once; below 0 is worse than random. P is linear in the best times, so the mean of
the seeds' scores is the score of their mean curve.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from msgspec import Struct

from autotune.studies.baseline import SLACK, Baseline, Floats, Integers, seconds_of
from autotune.studies.recordings import Recording

POINTS = 50
"""Sampling points of the score: budget * 1/50, 2/50, …, 50/50."""

NEARNESS = (0.10, 0.05, 0.01)
"""Distances to the optimum, relative, for `Score.reached`."""

MARKS = (50, 100, 200, 400)
"""Numbers of evaluations for `Score.quality`."""

Axis = Literal["time", "evaluations"]
AXES: tuple[Axis, ...] = ("time", "evaluations")


class Score(Struct, frozen=True):
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
class Judge:
    """Scores runs on one recording; what does not depend on the run is worked out once."""

    recording: Recording

    @cached_property
    def baseline(self) -> Baseline:
        return Baseline(self.recording)

    @cached_property
    def _seconds(self) -> Floats:
        return seconds_of(self.recording)

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
        return self.standardised(self.curve(rows, axis), axis)

    def standardised(self, curve: Floats, axis: Axis) -> Floats:
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
