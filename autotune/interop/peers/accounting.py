"""The rules by which a strategy of another tuner is measured on a recording, the same for all of them.

Each distinct recorded point counts once; repeats, and points that were not recorded, are free. A run is repeatable: the
global random state that a tuner draws from is seeded, and it computes on one thread.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import patch

import numpy as np

from autotune.core.errors import StrategyError
from autotune.shell.settings import set_variables
from autotune.studies.recordings import Recording
from autotune.studies.simulation import Simulation, Trace

MAX_FREE = 5_000
"""Free answers in succession after which a search is stopped, because it goes in a circle."""

_IDLE_ROUNDS = 3
"""Restarts in succession that measure nothing new after which there is no further one."""

_ONE_THREAD = {"LOKY_MAX_CPU_COUNT": "1"}
"""Read by scikit-learn where a tuner asks it for all processors. On one thread forests add up their trees in one order,
so that no last bit depends on the machine."""


class BudgetSpent(Exception):
    """Raised in a tuner that must stop: its evaluations are used up, or it only repeats itself."""


class PeerBudget:
    """The points that one run has measured, and how many it may still measure.

    rows: the rows measured, in order. free: how many answers were free; `max_free` of them in succession end the run.
    """

    def __init__(self, recording: Recording, evaluations: int, max_free: int = MAX_FREE) -> None:
        self.rows: dict[int, None] = {}
        self.free = 0
        self._in_succession = 0
        self._max_free = max_free
        self._evaluations = min(evaluations, len(recording))
        self._times = [
            time if ok else None for time, ok in zip(recording.time_ms.tolist(), recording.timed, strict=True)
        ]

    @property
    def left(self) -> int:
        """How many new points may still be measured."""
        return self._evaluations - len(self.rows)

    def begin_round(self) -> None:
        """Forget the free answers in succession: a new round may repeat the points of the one before."""
        self._in_succession = 0

    def measure(self, row: int | None) -> float | None:
        """The recorded milliseconds of a row; None for a failure, and for None, a point that was not recorded.

        Raises BudgetSpent when nothing may be measured any more.
        """
        if not self.left or self._in_succession >= self._max_free:
            raise BudgetSpent
        if row is None or row in self.rows:
            self.free += 1
            self._in_succession += 1
        else:
            self.rows[row] = None
            self._in_succession = 0
        return None if row is None else self._times[row]


PeerSearch = Callable[[PeerBudget, int], None]
"""One search from its beginning to its end, which measures by the budget. The number is a seed below 2**32. It may end
by itself, and lets BudgetSpent through."""


def run_peer(
    name: str,
    simulation: Simulation,
    search: PeerSearch,
    *,
    evaluations: int,
    seed: int,
    restarts: bool,
    max_free: int = MAX_FREE,
) -> Trace:
    """The trace of a search; with `restarts` it begins again, with another seed, while evaluations are left."""
    budget = PeerBudget(simulation.recording, evaluations, max_free)
    began, cpu = time.perf_counter(), time.process_time()
    idle, rounds = 0, 0
    while budget.left and idle < _IDLE_ROUNDS:
        known = len(budget.rows)
        budget.begin_round()
        number = int(np.random.SeedSequence([seed, rounds]).generate_state(1)[0])
        with seed_globally(number), set_variables(_ONE_THREAD), suppress(BudgetSpent):
            search(budget, number)
        rounds += 1
        idle = idle + 1 if len(budget.rows) == known else 0
        if not restarts:
            break
    recording = simulation.recording
    return Trace(
        space=recording.name,
        peer=name,
        seed=seed,
        keys=tuple(recording.key(row) for row in budget.rows),
        own_end=len(budget.rows) < evaluations,
        cpu_s=time.process_time() - cpu,
        wall_s=time.perf_counter() - began,
        rejected=budget.free,
    )


@contextmanager
def seed_globally(seed: int) -> Iterator[None]:
    """Seed `random` and `numpy.random` with a number below 2**32; afterwards both have their states of before.

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


def take_restarts(name: str, settings: Mapping[str, Any], allowed: list[str]) -> tuple[dict[str, Any], bool]:
    """The options of the tuner, and whether `restarts` is on, which every peer has; else StrategyError."""
    options = dict(settings)
    restarts = options.pop("restarts", False)
    if not isinstance(restarts, bool):
        raise StrategyError(f"{name}: restarts = {restarts!r}; use true or false")
    for option in options:
        if option not in allowed:
            raise StrategyError(f"{name} has no setting {option!r}; it has {', '.join([*allowed, 'restarts'])}")
    return options, restarts
