"""One number out of the times of several workloads."""

from collections.abc import Sequence
from math import exp, log
from typing import Literal

from msgspec import Struct

Kind = Literal["geomean", "worst"]


class Objective(Struct, frozen=True):
    """kind: the weighted geometric mean of the times, or the longest of them. relative: of the times over those of the
    default config, brought back to milliseconds by the default's own geometric mean. weights: one for each workload.
    """

    kind: Kind = "geomean"
    relative: bool = False
    weights: tuple[float, ...] = (1.0,)

    def __call__(self, times_ms: Sequence[float], default_ms: Sequence[float] | None = None) -> float:
        """Milliseconds; the default's times are looked at only where the objective is relative, and may be missing."""
        if len(times_ms) == 1:
            return times_ms[0]
        scale = [1.0] * len(times_ms)
        unit = 1.0
        if self.relative and default_ms is not None:
            scale, unit = list(default_ms), self._mean(default_ms)
        ratios = [time / own for time, own in zip(times_ms, scale, strict=True)]
        if self.kind == "worst":
            return unit * max(ratio for ratio, weight in zip(ratios, self.weights, strict=True) if weight > 0)
        return unit * self._mean(ratios)

    def _mean(self, values: Sequence[float]) -> float:
        total = sum(self.weights)
        return exp(sum(w * log(v) for w, v in zip(self.weights, values, strict=True)) / total)
