"""Outcomes of every sort, drawn by Hypothesis, and a table that has an outcome for every config of every space."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from autotune.core.config import Config
from autotune.core.keys import fold, root, uniform
from autotune.core.outcomes import FAILURE_KINDS, Failed, Outcome, Timed

_EXTREMES = st.sampled_from([1e300, 1e-300, 5e-324, 1.7976931348623157e308, 1.0, 1.0 + 2**-52])
_TIMES = st.floats(1e-3, 1e3) | _EXTREMES
_SECONDS = st.sampled_from([0.0, 0.1, 3.0, 1e6, 1e300])


@st.composite
def timed_outcomes(draw: st.DrawFn) -> Outcome:
    match draw(st.integers(0, 3)):
        case 0:  # ties
            samples = (1.0,) * draw(st.integers(1, 3))
        case 1:
            samples = tuple(draw(st.lists(_TIMES, min_size=1, max_size=5)))
        case _:
            middle = draw(st.floats(0.5, 2.0))
            samples = tuple(middle * factor for factor in (1.0, 1.02, 0.99, 1.05, 1.01))
    return Timed(samples, draw(_SECONDS), draw(_SECONDS), cut=draw(st.booleans()))


def failed_outcomes() -> st.SearchStrategy[Outcome]:
    return st.builds(Failed, st.sampled_from(FAILURE_KINDS), st.text(max_size=5), _SECONDS, _SECONDS)


@st.composite
def outcome_scripts(draw: st.DrawFn) -> list[Outcome]:
    """Outcomes for trials by number, begun again at the end: mixed, or all failures, or all ties."""
    match draw(st.sampled_from(["mixed", "mixed", "mixed", "failures", "ties"])):
        case "failures":
            return draw(st.lists(failed_outcomes(), min_size=1, max_size=3))
        case "ties":
            return [Timed((2.0, 2.0, 2.0))]
        case _:
            return draw(st.lists(timed_outcomes() | timed_outcomes() | failed_outcomes(), min_size=1, max_size=12))


class HashedTable:
    """A recording of any space, for `SimulatedEvaluator`: the outcome of a config is read off its digest.

    failing: the share of configs that fail. Times are rounded, so that there are ties.
    """

    def __init__(self, failing: float = 0.15, seed: int = 11) -> None:
        self.failing = failing
        self._key = root(seed)

    def _draws(self, config: Config, purpose: str, n: int) -> NDArray[np.float64]:
        return uniform(fold(self._key, purpose, config.digest), n)

    def outcome(self, config: Config) -> Outcome:
        fails, kind, time, compile_s = self._draws(config, "outcome", 4).tolist()
        if fails < self.failing:
            return Failed(FAILURE_KINDS[int(kind * len(FAILURE_KINDS))], "as recorded", compile_s, 0.01)
        return Timed((0.5 + round(4 * time, 1),), round(compile_s, 2), 0.05)

    def samples(self, config: Config) -> NDArray[np.float64]:
        outcome = self.outcome(config)
        if isinstance(outcome, Failed):
            return np.empty(0)
        return outcome.time_ms * (1 + 0.1 * self._draws(config, "samples", 12))
