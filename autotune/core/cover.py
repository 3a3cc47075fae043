"""The fewest configs that serve many shapes: a minimum cover of a table of times. Pure.

A table has a row for each shape and a column for each config; a cell is a time, infinite where the config fails, NaN
where it is unknown. A config serves a shape if it takes at most so much longer than the fastest config measured there.

`complete` estimates the unknown cells, `minimum_cover` finds the configs by branch and bound, `suit_both` chooses for a
shape between two others, and `left_out_losses` says how well the configs of the others would have served each shape.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, log
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from autotune.core.errors import PlanError

Times = NDArray[np.float64]
Flags = NDArray[np.bool_]

T = TypeVar("T")

MOST_NODES = 50_000
"""Nodes of the search tree after which the best cover so far is taken: about a second. Tables of 64 shapes and 500
configs mostly need fewer than a thousand."""

_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A table without unknown cells but those that nothing is known about, which are infinite.

    losses: of each cell, how much longer it takes than the fastest measured config of its shape, relative and at least
    0; an estimate counts with one standard deviation of the model's residuals added. estimated: which cells are
    estimates. spread: that standard deviation, of the logarithm of a time.
    """

    losses: Times
    estimated: Flags
    spread: float


@dataclass(frozen=True, kw_only=True)
class Cover:
    """Configs that serve all shapes.

    configs: their columns. choice: of each shape the column of the fastest of them; None where all of them fail.
    losses: of each shape, that config's loss. exact: whether no smaller number of configs would do; else a greedy
    choice, improved for as long as the search may take.
    """

    configs: tuple[int, ...]
    choice: tuple[int | None, ...]
    losses: tuple[float, ...]
    exact: bool


def complete(times: Times) -> Completed:
    """Estimate the unknown cells of a table by the additive model: the logarithm of a time is that of the shape plus
    that of the config, fitted by least squares to the known times.

    Nothing is estimated across parts of the table that share no shape and no config. Raises PlanError for a table with
    a shape without a time.
    """
    finite = np.isfinite(times)
    if times.ndim != 2 or not finite.any(axis=1).all():
        raise PlanError("a shape has no config with a time; leave it out, or tune it")
    missing = np.isnan(times)
    logs = np.log(np.where(finite, times, 1.0))
    fitted = _fit_additive(logs, finite) if missing.any() else logs
    estimated = missing & _connected(finite)
    freedom = max(int(finite.sum()) - sum(times.shape) + 1, 1)
    spread = float(np.sqrt((np.where(finite, logs - fitted, 0.0) ** 2).sum() / freedom))
    filled = np.where(estimated, fitted + spread, np.where(finite, logs, inf))
    best = np.where(finite, logs, inf).min(axis=1, keepdims=True)
    losses = np.expm1(np.maximum(filled - best, 0.0))
    for array in (losses, estimated):
        array.setflags(write=False)
    return Completed(losses=losses, estimated=estimated, spread=spread)


def _fit_additive(logs: Times, known: Flags) -> Times:
    """The fitted logarithm of every cell. The configs' terms are eliminated from the normal equations, which leaves one
    equation for each shape."""
    weight = known.astype(float)
    by_shape, by_config = weight.sum(axis=1), np.maximum(weight.sum(axis=0), 1.0)
    sums = np.where(known, logs, 0.0)
    means = sums.sum(axis=0) / by_config
    reduced = np.diag(by_shape) - (weight / by_config) @ weight.T
    shapes = np.linalg.lstsq(reduced, sums.sum(axis=1) - weight @ means, rcond=None)[0]
    configs = means - (weight * shapes[:, None]).sum(axis=0) / by_config
    fitted: Times = shapes[:, None] + configs[None, :]
    return fitted


def _connected(known: Flags) -> Flags:
    """Which cells have a shape and a config that known cells connect."""
    part = np.arange(known.shape[0])
    for _ in range(known.shape[0]):
        of_config = np.where(known, part[:, None], known.shape[0]).min(axis=0)
        lowest = np.minimum(part, np.where(known, of_config[None, :], known.shape[0]).min(axis=1))
        if (lowest == part).all():
            break
        part = lowest
    of_config = np.where(known, part[:, None], known.shape[0]).min(axis=0)
    connected: Flags = part[:, None] == of_config[None, :]
    return connected


def minimum_cover(
    losses: Times, within: float, weights: Sequence[float] | None = None, most_nodes: int = MOST_NODES
) -> Cover:
    """The fewest configs such that each shape has one that loses at most `within` (relative).

    losses: of a row for each shape and a column for each config, as `complete` gives them. weights: of the shapes; a
    shape with weight 0 need not be served. Of several covers of that number, the one with the smaller weighted mean of
    the logarithms of the losses that exchanging one config at a time leads to. Raises PlanError where a shape cannot be
    served.
    """
    count = len(losses)
    weight = np.ones(count) if weights is None else np.asarray(weights, dtype=float)
    if weight.shape != (count,) or not (np.isfinite(weight) & (weight >= 0)).all() or not weight.any():
        raise PlanError("weights: give each shape a number from 0 on, and one of them more than 0")
    if not within >= 0:
        raise PlanError(f"within is {within!r}; use 0 or more, 0.05 for 5 %")
    needed = [int(i) for i in np.flatnonzero(weight > 0)]
    serves = losses[needed] <= within + _ROUNDING
    if not serves.any(axis=1).all():
        raise PlanError("no config serves every shape to be served; raise within")
    columns, exact = _fewest(serves, most_nodes)
    columns = _lighten(columns, losses, serves, needed, weight)
    part = losses[:, columns]
    best = part.argmin(axis=1)
    found = part[np.arange(count), best]
    choice = tuple(columns[int(k)] if np.isfinite(loss) else None for k, loss in zip(best, found, strict=True))
    return Cover(configs=tuple(columns), choice=choice, losses=tuple(map(float, found)), exact=exact)


def left_out_losses(
    times: Times, distances: Times, within: float, weights: Sequence[float] | None = None
) -> tuple[float, ...]:
    """The loss of each shape with the config that a cover of the other shapes alone has for the nearest two of them, as
    `suit_both` takes it.

    distances: between shapes; infinite where one must not stand in for the other. A shape without a neighbour has the
    loss NaN, one on which that config fails has infinity.
    """
    truth = complete(times).losses
    found = []
    for i in range(len(times)):
        others = [j for j in range(len(times)) if j != i and (weights is None or weights[j] > 0)]
        near = sorted((j for j in others if np.isfinite(distances[i, j])), key=lambda j: distances[i, j])[:2]
        if not near:
            found.append(np.nan)
            continue
        rest = complete(times[others])
        weight = None if weights is None else [weights[j] for j in others]
        cover = minimum_cover(rest.losses, within, weight, MOST_NODES // len(times))
        rows = [rest.losses[others.index(j)] for j in near]
        known = [{c: 1 + float(row[c]) for c in cover.configs if np.isfinite(row[c])} for row in rows]
        column = suit_both(known[0], known[-1], distances[i, near[0]], distances[i, near[-1]])
        found.append(float(truth[i, column]))
    return tuple(found)


def suit_both(near: Mapping[T, float], far: Mapping[T, float], apart: float, farther: float) -> T:
    """The config for a shape between two others: its losses on the two, as logarithms of its times over the fastest
    times there, are interpolated by the distances, and the least wins.

    near, far: milliseconds of configs on the two shapes. apart, farther: the distances of those. The fastest of the
    nearer shape wins where it was not measured on the other one: the two then say too little about each other.
    """
    fastest = min(near, key=near.__getitem__)
    if fastest not in far or apart + farther == 0:
        return fastest
    least_near, least_far = near[fastest], min(far.values())
    share = apart / (apart + farther)

    def loss(config: T) -> float:
        return (1 - share) * log(near[config] / least_near) + share * log(far[config] / least_far)

    return min((config for config in near if config in far), key=loss)


def _fewest(serves: Flags, most_nodes: int) -> tuple[list[int], bool]:
    """The columns of a minimum cover of all rows, and whether it is known to be one."""
    masks: dict[int, int] = {}
    for column in range(serves.shape[1]):
        masks.setdefault(_mask(serves[:, column]), column)
    kept: list[int] = []
    for mask in sorted(masks, key=int.bit_count, reverse=True):
        if mask and not any(mask & other == mask for other in kept):
            kept.append(mask)
    search = _Search(kept, serves.shape[0], most_nodes)
    return sorted(masks[kept[k]] for k in search.run()), search.nodes <= most_nodes


def _mask(flags: Flags) -> int:
    return sum(1 << int(i) for i in np.flatnonzero(flags))


class _Search:
    """Branch and bound over sets of rows as bits. sets: the rows that each column serves.

    A branch takes the row that the fewest columns serve, and tries each of them, the one that serves most first. The
    bound: rows of which no two are served by one column need a column each.
    """

    def __init__(self, sets: list[int], rows: int, most_nodes: int) -> None:
        self._sets, self._most = sets, most_nodes
        self._of_row = [[k for k, one in enumerate(sets) if one >> row & 1] for row in range(rows)]
        self._reach = [self._union(of) for of in self._of_row]
        self._scarce = sorted(range(rows), key=lambda row: (self._reach[row].bit_count(), row))
        self.nodes = 0

    def _union(self, columns: list[int]) -> int:
        union = 0
        for k in columns:
            union |= self._sets[k]
        return union

    def run(self) -> list[int]:
        everything = (1 << len(self._of_row)) - 1
        self._best = self._greedy(everything)
        self._branch(everything, [])
        return self._best

    def _greedy(self, left: int) -> list[int]:
        chosen: list[int] = []
        while left:
            best = max(range(len(self._sets)), key=lambda k: ((self._sets[k] & left).bit_count(), -k))
            chosen.append(best)
            left &= ~self._sets[best]
        return chosen

    def _branch(self, left: int, chosen: list[int]) -> None:
        self.nodes += 1
        if self.nodes > self._most or len(chosen) + self._bound(left) >= len(self._best):
            return
        if not left:
            self._best = list(chosen)
            return
        row = min((r for r in self._scarce if left >> r & 1), key=lambda r: len(self._of_row[r]))
        for k in sorted(self._of_row[row], key=lambda k: (-(self._sets[k] & left).bit_count(), k)):
            self._branch(left & ~self._sets[k], [*chosen, k])

    def _bound(self, left: int) -> int:
        count = 0
        for row in self._scarce:
            if left >> row & 1:
                count += 1
                left &= ~self._reach[row]
        return count


def _lighten(columns: list[int], losses: Times, serves: Flags, needed: list[int], weight: Times) -> list[int]:
    """A cover of at most as many columns with a smaller loss: columns that are not needed go, and one column at a time
    is exchanged for as long as that helps."""
    for column in list(columns):
        rest = [one for one in columns if one != column]
        if rest and serves[:, rest].any(axis=1).all():
            columns = rest
    cost = np.log1p(losses[needed])
    share = weight[needed] / weight[needed].sum()
    now = float(share @ cost[:, columns].min(axis=1))
    improved = True
    while improved:
        improved = False
        for k in range(len(columns)):
            rest = columns[:k] + columns[k + 1 :]
            served = serves[:, rest].sum(axis=1, keepdims=True) > 0
            base = cost[:, rest].min(axis=1) if rest else np.full(len(needed), inf)
            able = np.flatnonzero((serves | served).all(axis=0))
            means = share @ np.minimum(base[:, None], cost[:, able])
            at = int(means.argmin())
            if means[at] < now - _ROUNDING:
                columns, now, improved = sorted([*rest, int(able[at])]), float(means[at]), True
                break
    return columns
