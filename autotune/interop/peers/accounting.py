"""The rules by which a strategy of another tuner is measured on a recording, the same for all of them."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from autotune.core.errors import StrategyError
from autotune.interop.peers.randomness import one_thread, seeded
from autotune.studies.recordings import Recording
from autotune.studies.simulation import Simulation, Trace

STALE = 5_000
"""Free answers in succession after which a search is stopped: it goes in a circle."""

IDLE_ROUNDS = 3
"""Restarts in succession that measure nothing new after which there is no further one."""


class Spent(Exception):
    """Told to a tuner that must stop: its evaluations are used up, or it only repeats itself."""


class Ledger:
    """What one run has measured. Each distinct recorded point counts once; repeats and points that were not recorded
    are free, but only `stale` of them in succession."""

    def __init__(self, recording: Recording, evaluations: int, stale: int = STALE) -> None:
        self.rows: dict[int, None] = {}
        """The rows measured, in order."""
        self.free = 0
        self._in_succession = 0
        self._stale = stale
        self._evaluations = min(evaluations, len(recording))
        self._times = [
            time if ok else None for time, ok in zip(recording.time_ms.tolist(), recording.timed, strict=True)
        ]

    @property
    def left(self) -> int:
        """How many new points may still be measured."""
        return self._evaluations - len(self.rows)

    def renew(self) -> None:
        """A new start: what came before is no sign that it goes in a circle."""
        self._in_succession = 0

    def measure(self, row: int | None) -> float | None:
        """The recorded milliseconds of a row; None for a failure, and for None, a point that was not recorded.

        Raises Spent when it may not be measured any more.
        """
        if not self.left or self._in_succession >= self._stale:
            raise Spent
        if row is None or row in self.rows:
            self.free += 1
            self._in_succession += 1
        else:
            self.rows[row] = None
            self._in_succession = 0
        return None if row is None else self._times[row]


Round = Callable[[Ledger, int], None]
"""One search from its beginning to its end: told the ledger to measure by, and a seed below 2**32. It may end by
itself, and lets Spent through."""


def run_peer(
    name: str,
    simulation: Simulation,
    search: Round,
    *,
    evaluations: int,
    seed: int,
    restarts: bool,
    stale: int = STALE,
) -> Trace:
    """The trace of a search; with `restarts` it begins again, with another seed, while evaluations are left.

    Global random state is seeded for each round, and afterwards what it was before; a round computes on one thread.
    """
    ledger = Ledger(simulation.recording, evaluations, stale)
    began, cpu = time.perf_counter(), time.process_time()
    idle, rounds = 0, 0
    while ledger.left and idle < IDLE_ROUNDS:
        known = len(ledger.rows)
        ledger.renew()
        number = int(np.random.SeedSequence([seed, rounds]).generate_state(1)[0])
        with seeded(number), one_thread(), suppress(Spent):
            search(ledger, number)
        rounds += 1
        idle = idle + 1 if len(ledger.rows) == known else 0
        if not restarts:
            break
    recording = simulation.recording
    return Trace(
        space=recording.name,
        peer=name,
        seed=seed,
        keys=tuple(recording.key(row) for row in ledger.rows),
        own_end=len(ledger.rows) < evaluations,
        cpu_s=time.process_time() - cpu,
        wall_s=time.perf_counter() - began,
        rejected=ledger.free,
    )


def take_restarts(name: str, settings: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The settings without `restarts`, which every peer has, and whether it is on; else StrategyError."""
    restarts = settings.get("restarts", False)
    if not isinstance(restarts, bool):
        raise StrategyError(f"{name}: restarts = {restarts!r}; use true or false")
    return {key: value for key, value in settings.items() if key != "restarts"}, restarts
