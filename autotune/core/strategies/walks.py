"""Walks from the best of an initial population: each is at the best of all it has measured, and ends when that stalls.

What pattern search and both LFBO searches share. The walks are what these strategies remember of past generations.
"""

from typing import NamedTuple

import numpy as np

from autotune.core.strategies.population import Table, ranked


class Walk(NamedTuple):
    """Where a walk stands: its trial and that one's time, generations without progress, whether it goes on."""

    trial: int
    time_ms: float
    stalled: int = 0
    alive: bool = True


Walks = tuple[Walk, ...]


def first_walks(population: Table, copies: int) -> Walks:
    """Walks that begin at the `copies` best of a population."""
    best = population[ranked(population)[:copies]]
    return tuple(
        Walk(trial, time) for trial, time in zip(best["trial"].tolist(), best["time_ms"].tolist(), strict=True)
    )


def moved(walks: Walks, batch: Table, delta: float, patience: int) -> Walks:
    """The walks after a generation that was measured: each at the best of its own part of it and of where it stood.

    A walk ends when its best has improved by less than `delta`, relatively, for more than `patience` generations in a
    row, or when it had nothing to propose.
    """
    return tuple(
        _moved(walk, batch[batch["walk"] == i], delta, patience) if walk.alive else walk for i, walk in enumerate(walks)
    )


def _moved(walk: Walk, own: Table, delta: float, patience: int) -> Walk:
    if not len(own):
        return walk._replace(alive=False)
    trial, time = walk.trial, walk.time_ms
    timed = own[own["ok"]]
    if len(timed):
        best = timed[int(np.argmin(timed["time_ms"]))]
        if best["time_ms"] < time:
            trial, time = int(best["trial"]), float(best["time_ms"])
    gained = trial != walk.trial and abs(time / walk.time_ms - 1) >= delta
    stalled = 0 if gained else walk.stalled + 1
    return Walk(trial, time, stalled, stalled <= patience)
