"""The evaluators that every law of journals and runs is tried with; a new one joins EVALUATORS and inherits them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune import CallableEvaluator, Config, Disturbance, Failed, Outcome, SimulatedEvaluator, Timed
from autotune.core.keys import fold, root, uniform
from autotune.core.outcomes import FAILURE_KINDS
from autotune.shell.evaluators.protocol import Evaluator

FAILING = 0.15


class HashTable:
    """A recording of any space at all: what a config does is read off its digest. One in seven fails."""

    def __init__(self, failing: float = FAILING, seed: int = 11) -> None:
        self.failing = failing
        self._key = root(seed)

    def _draws(self, config: Config, purpose: str, n: int) -> NDArray[np.float64]:
        return uniform(fold(self._key, purpose, config.digest), n)

    def outcome(self, config: Config) -> Outcome:
        fails, kind, time, compile_s = self._draws(config, "outcome", 4).tolist()
        if fails < self.failing:
            return Failed(FAILURE_KINDS[int(kind * len(FAILURE_KINDS))], "as recorded", compile_s, 0.01)
        return Timed((0.5 + round(4 * time, 1),), round(compile_s, 2), 0.05)  # rounded, so that there are ties

    def samples(self, config: Config) -> NDArray[np.float64]:
        outcome = self.outcome(config)
        if isinstance(outcome, Failed):
            return np.empty(0)
        return outcome.time_ms * (1 + 0.1 * self._draws(config, "samples", 12))


def built(config: Config) -> Callable[[], Any]:
    """A function that returns the time that the table has for the config."""
    outcome = TABLE.outcome(config)
    if isinstance(outcome, Failed):
        raise RuntimeError(outcome.message)
    return lambda: outcome.time_ms


LAST = [1.0]
TABLE = HashTable()
DISTURBED = Disturbance(
    jitter=0.01, tails=4, outliers=0.05, outlier_size=0.02, walk=0.003, trend=0.05, trend_s=5.0, carry_over=0.001
)


def in_process(exact: bool) -> CallableEvaluator:
    return CallableEvaluator(
        remembering, isolation="in_process", timer=remembered, warmup_ms=0.0, target_ms=0.0, max_repeats=3, exact=exact
    )


def remembering(config: Config) -> Callable[[], float]:
    function = built(config)

    def kernel() -> float:
        LAST[0] = function()
        return LAST[0]

    return kernel


def remembered(call: Callable[[], Any]) -> float:
    """A timer that believes what the function said, so that no run depends on how busy the machine is."""
    call()
    return LAST[0]


EVALUATORS: dict[str, Callable[[], Evaluator]] = {
    "simulated exact": lambda: SimulatedEvaluator(TABLE),
    "simulated noisy": lambda: SimulatedEvaluator(TABLE, noise="resample", repeats=5, seed=3),
    "simulated wide": lambda: SimulatedEvaluator(TABLE, compile_workers=5, devices=2, noise="resample", repeats=4),
    "simulated wide exact": lambda: SimulatedEvaluator(TABLE, compile_workers=6, devices=3),
    "simulated disturbed": lambda: SimulatedEvaluator(TABLE, compile_workers=3, seed=5, disturbance=DISTURBED),
    "simulated in batches": lambda: SimulatedEvaluator(TABLE, compile_workers=3, batch=4),
    "callable in this process": lambda: in_process(exact=False),
    "callable in this process, exact": lambda: in_process(exact=True),
}

REPEATABLE = {name: make for name, make in EVALUATORS.items() if isinstance(make(), SimulatedEvaluator)}
"""Those whose runs, clock included, are a pure function of plan and seed."""
