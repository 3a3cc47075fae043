"""What the rounds of all comparisons say of each pair of configs.

The bounds of one search hold together: the claims that follow from them (`verdicts`) can only be wrong where the bound
of the fastest config over another one is, so the error is shared among as many bounds as there are other configs. This
is the argument of best-arm identification; Kaufmann and Koolen, "Mixture martingales revisited with applications to
sequential tests and confidence intervals" (2021).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.certificate.bounds import Logs, RatioNoise, estimate_noise, lower_bounds, medians
from autotune.core.memo import read_only

FASTEST = 4
"""How many of the fastest configs of a comparison the others are held against."""


class Block(Struct, frozen=True):
    """The rounds of one comparison. trials: of its configs. times_ms: of each trial a sample for each round."""

    trials: tuple[int, ...]
    times_ms: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Bounds of the ratios of the compared configs' times.

    trials: the compared ones, in order of appearance. lower [trials, trials]: the lower bound of log(t_i / t_j); -inf
    where i was not held against j. middle: the median of log(t_i / t_j) over the rounds of both; NaN where there is
    none. rounds: how many rounds both were in. noise: of a log ratio. error: of one bound.
    """

    trials: tuple[int, ...]
    lower: NDArray[np.float64]
    middle: NDArray[np.float64]
    rounds: NDArray[np.int64]
    noise: RatioNoise
    error: float

    def place(self, trial: int) -> int:
        """The row and column of a trial; raises ValueError for one that was not compared."""
        return self.trials.index(trial)


def weigh(blocks: Sequence[Block], error: float) -> Evidence | None:
    """The evidence of comparisons, in the order in which they were held; None where no two configs were compared.

    error: the probability that any claim that follows is wrong. A bound that once held goes on to hold, so the best one
    after each comparison counts.
    """
    trials = tuple(dict.fromkeys(trial for block in blocks for trial in block.trials))
    if len(trials) < 2:
        return None
    each = error / (len(trials) - 1)
    lower = np.array(_bounds(tuple(blocks), trials, each))
    np.fill_diagonal(lower, 0.0)
    joined = _join(blocks, trials)
    shared = ~np.isnan(joined)
    rounds = (shared[:, None] & shared[None]).sum(axis=2)
    middle = medians((joined[:, None] - joined[None]).reshape(-1, joined.shape[1])).reshape(lower.shape)
    return Evidence(
        trials=trials,
        lower=read_only(lower),
        middle=read_only(middle),
        rounds=read_only(rounds),
        noise=estimate_noise(_logs(blocks)),
        error=each,
    )


@lru_cache(maxsize=64)
def _bounds(blocks: tuple[Block, ...], trials: tuple[int, ...], each: float) -> NDArray[np.float64]:
    """The best lower bound [trials, trials] after any of the comparisons; those before the last are mostly known."""
    if not blocks:
        return read_only(np.full((len(trials), len(trials)), -inf))
    lower = np.array(_bounds(blocks[:-1], trials, each))
    joined, columns = _join(blocks, trials), _held_against(blocks, trials)
    ratios = joined[:, None] - joined[None, columns]  # [trials, columns, rounds]
    found = lower_bounds(ratios.reshape(-1, joined.shape[1]), estimate_noise(_logs(blocks)), each)
    lower[:, columns] = np.maximum(lower[:, columns], found.reshape(ratios.shape[:2]))
    return read_only(lower)


def _logs(blocks: Sequence[Block]) -> list[Logs]:
    return [np.log(np.array(block.times_ms, float)) for block in blocks]


def _held_against(blocks: Sequence[Block], trials: tuple[int, ...]) -> list[int]:
    """The places of the trials that others are held against: the fastest of each comparison."""
    found: dict[int, bool] = {}
    for block, times in zip(blocks, _logs(blocks), strict=True):
        for row in np.argsort(np.median(times, axis=1), kind="stable")[:FASTEST].tolist():
            found[trials.index(block.trials[row])] = True
        found[trials.index(block.trials[0])] = True  # the likeliest pick by what was known before
    return sorted(found)


def _join(blocks: Sequence[Block], trials: tuple[int, ...]) -> Logs:
    """The logarithms of all times [trials, rounds]; NaN where a trial took no part."""
    parts = []
    for block, times in zip(blocks, _logs(blocks), strict=True):
        part = np.full((len(trials), times.shape[1]), np.nan)
        part[[trials.index(trial) for trial in block.trials]] = times
        parts.append(part)
    return np.concatenate(parts, axis=1)
