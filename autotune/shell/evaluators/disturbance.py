"""What a simulated device adds to the true time of a config: noise, outliers, drift, carry-over.

Everything is a pure function of the seed, of what is timed and of the time on the virtual clock, so a disturbed search
can be repeated, cut and resumed like any other, and what its numbers claim can be held against the truth.
"""

from collections.abc import Callable
from functools import cache
from math import exp, floor, sqrt

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from autotune.core.errors import EvaluatorError
from autotune.core.keys import Key, fold, uniform

Floats = NDArray[np.float64]

WALK_S, FINEST_S = 2.0**20, 2.0**-7
"""The random walk is drawn for twelve days, after which it starts again, and is straight within 8 ms."""

FARTHEST = 20.0
"""The largest logarithm of a factor: heavy tails know no bound, and a time must be a number."""


class Disturbance(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All sizes are relative: 0.01 is 1 % of a time. What is 0 is not there.

    jitter: the standard deviation of the logarithm of a sample; half of all samples are below the true time.
    tails: draw it from Student's t of so many degrees (above 0; 3 has heavy tails); None: normal.
    outliers, outlier_size: the share of samples that take longer by so much.
    walk: the standard deviation by which the device's speed has changed after one second, as a random walk.
    trend, trend_s: the clock falls by so much, evenly over the first so many seconds, and stays there.
    carry_over: in a comparison, what runs after another config of its round takes longer by so much.
    """

    jitter: float = 0.0
    tails: float | None = None
    outliers: float = 0.0
    outlier_size: float = 0.0
    walk: float = 0.0
    trend: float = 0.0
    trend_s: float = 60.0
    carry_over: float = 0.0

    def __post_init__(self) -> None:
        for name, value in structs.asdict(self).items():
            if value is not None and (isinstance(value, bool) or not 0 <= value < float("inf")):
                raise EvaluatorError(f"the disturbance has {name} = {value!r}; use a number of at least 0")
        for name, below in (("outliers", 1.0), ("trend", 1.0)):
            if getattr(self, name) > below:
                raise EvaluatorError(f"the disturbance has {name} = {getattr(self, name)}; use a number from 0 to 1")
        for name in ("tails", "trend_s"):
            if getattr(self, name) == 0:
                raise EvaluatorError(f"the disturbance has {name} = 0; use a number above 0")

    @property
    def none(self) -> bool:
        """Whether times are exact."""
        return not (self.jitter or (self.outliers and self.outlier_size) or self.walk or self.trend or self.carry_over)


class DisturbedDevice:
    """A device with a disturbance; `key` is its seed's."""

    def __init__(self, disturbance: Disturbance, key: Key) -> None:
        self._of = disturbance
        self._node: Callable[[int, int], float] = cache(
            lambda level, i: float(_normal(fold(key, "walk", level, i), 1)[0])
        )

    def drift(self, at: float) -> float:
        """The factor of every time at this second of the virtual clock: what is true then, in the long run."""
        of = self._of
        slower = 1 / max(1 - of.trend * min(at / of.trend_s, 1.0), 1e-3) if of.trend else 1.0
        return slower * exp(of.walk * self._walk(at)) if of.walk else slower

    def noise(self, key: Key, n: int) -> Floats:
        """The factors of n samples [n], by the key of what is timed."""
        of = self._of
        logs = of.jitter * _normal(fold(key, "jitter"), n, of.tails) if of.jitter else np.zeros(n)
        factors: Floats = np.exp(np.clip(logs, -FARTHEST, FARTHEST))
        if of.outliers and of.outlier_size:
            factors *= 1 + of.outlier_size * (uniform(fold(key, "outliers"), n) < of.outliers)
        return factors

    def after(self, place: int) -> float:
        """The factor of what runs at this place of a round."""
        return 1 + self._of.carry_over if place else 1.0

    def _walk(self, at: float) -> float:
        """Brownian motion at one time, from the coarse to the fine: each middle by its two ends, and so on.

        Lévy, "Processus stochastiques et mouvement brownien" (1948).
        """
        length, place = WALK_S, at % WALK_S
        begin, end, i, level = 0.0, sqrt(length) * self._node(0, 0), 0, 1
        while length > FINEST_S:
            half = (begin + end) / 2 + sqrt(length) / 2 * self._node(level, i)
            length /= 2
            i = floor(place / length)
            begin, end = (half, end) if i % 2 else (begin, half)
            level += 1
        return begin + (end - begin) * (place / length - i)


def _normal(key: Key, n: int, tails: float | None = None) -> Floats:
    """n normal numbers, or numbers of Student's t: Box and Muller (1958); Bailey, "Polar generation of random variates
    with the t-distribution" (1994)."""
    first, second = uniform(key, 2, n)
    first = 1 - first  # above 0
    radius = -2 * np.log(first) if tails is None else tails * (first ** (-2 / tails) - 1)
    drawn: Floats = np.sqrt(radius) * np.cos(2 * np.pi * second)
    return drawn
