"""Moves guided by the trees of a forest: along the parameters a tree splits on, to where that tree promises most.

After Mišić, "Optimization of tree ensembles", Operations Research 68 (2020), and the LFBOTreeSearch of Helion. All
trials of all walks take their next step together, so that a generation costs a few dozen numpy calls.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotune.core.forest import Features, Forest
from autotune.core.keys import Key, fold, integers, permutation, uniform
from autotune.core.parameters import BLOCK_SIZE, NUM_WARPS, Codes
from autotune.core.space import Space
from autotune.core.strategies.moves import Axis, axes

DECIMALS = 9
"""Scores are rounded to so many before they are compared, so that no last bit decides."""

WIDEST = 64
"""At most this many neighbours on an axis are looked at in one generation, drawn at random."""


class Options(NamedTuple):
    """Where each of w starts can go on each axis: the start itself, then its neighbours.

    rows [m, columns] and their features [m, features]; those of start i on axis j are sizes[i, j] from first[i, j] on.
    """

    rows: Codes
    features: Features
    first: NDArray[np.int64]
    sizes: NDArray[np.int64]


def guided(
    space: Space, forest: Forest, starts: Codes, trials: int, radius: int, key: Key
) -> tuple[Codes, NDArray[np.int64]]:
    """The points that `trials` walks down random trees lead to from each of the starts [w, columns].

    A trial follows its start down its tree and notes the axes split on, then a random block size and the warps; on each
    in turn it moves to the best of the values within `radius`, by that one tree, ties at random. Returns rows
    [w * trials, columns], repeats and the starts among them, and the start of each; constraints aside.
    """
    parts = axes(space)
    origin = np.repeat(np.arange(len(starts)), trials)
    trees = integers(fold(key, "tree"), len(forest), len(origin))
    options = reachable(space, parts, starts, radius, fold(key, "widest"))
    rows, features = starts[origin], space.features(starts)[origin]
    order = itinerary(parts, forest.paths(features, trees), fold(key, "block"))
    of_columns = np.array([_within(axis.columns, space.columns) for axis in parts])
    of_features = np.array([_within(axis.features, features.shape[1]) for axis in parts])
    for step in range(order.shape[1]):
        going = np.flatnonzero(order[:, step] >= 0)
        axis, start = order[going, step], origin[going]
        count = options.sizes[start, axis]
        begin = np.cumsum(count) - count
        each = np.repeat(np.arange(len(going)), count)
        option = options.first[start, axis][each] + np.arange(len(each)) - begin[each]
        tried = np.where(of_features[axis[each]], options.features[option], features[going[each]])
        scores = forest.value[forest.descend(tried, trees[going[each]])]
        best = option[best_of_each(scores, each, begin, fold(key, "tie", step))]
        rows[going] = np.where(of_columns[axis], options.rows[best], rows[going])
        features[going] = np.where(of_features[axis], options.features[best], features[going])
    return rows, origin


def reachable(space: Space, parts: tuple[Axis, ...], starts: Codes, radius: int, key: Key) -> Options:
    """The options of every start [w, columns] on every axis."""
    blocks = []
    for i, row in enumerate(starts):
        for j, axis in enumerate(parts):
            near = axis.near(row, radius)
            if len(near) > WIDEST:
                near = near[permutation(fold(key, i, j), len(near))[:WIDEST]]
            blocks += [row[None], near]
    count = np.array([len(block) for block in blocks], np.int64).reshape(len(starts), len(parts), 2).sum(axis=2)
    first = np.cumsum(count).reshape(count.shape) - count
    rows = np.concatenate(blocks)
    return Options(rows, space.features(rows), first, count)


def itinerary(parts: tuple[Axis, ...], path: NDArray[np.int64], key: Key) -> NDArray[np.int64]:
    """The axes each of n trials takes, in order: [n, steps], filled up with -1.

    Those of the features on its decision path [n, depth], then a random block size and the warps; each axis once.
    """
    n = len(path)
    of_feature = np.concatenate([np.full(axis.features.stop - axis.features.start, i) for i, axis in enumerate(parts)])
    columns = [np.where(path >= 0, of_feature[path], -1)]
    for role in (BLOCK_SIZE, NUM_WARPS):
        those = np.array([i for i, axis in enumerate(parts) if axis.role == role], np.int64)
        if len(those):
            columns.append(those[integers(fold(key, role), len(those), n)][:, None])
    order = np.concatenate(columns, axis=1)
    for step in range(1, order.shape[1]):
        order[(order[:, :step] == order[:, step : step + 1]).any(axis=1), step] = -1
    order = np.take_along_axis(order, np.argsort(order < 0, axis=1, kind="stable"), axis=1)
    return order[:, : int((order >= 0).sum(axis=1).max(initial=0))]


def best_of_each(
    scores: NDArray[np.float64], each: NDArray[np.int64], begin: NDArray[np.int64], key: Key
) -> NDArray[np.int64]:
    """The index of the highest score [m] of every run of equal `each` [m], which begin at `begin`; ties at random."""
    rounded = scores.round(DECIMALS)
    luck = uniform(key, len(scores))
    luck[rounded < np.maximum.reduceat(rounded, begin)[each]] = -1.0
    winners = np.flatnonzero(luck == np.maximum.reduceat(luck, begin)[each])
    return winners[np.searchsorted(each[winners], np.arange(len(begin)))]


def _within(part: slice, n: int) -> NDArray[np.bool_]:
    mask = np.zeros(n, bool)
    mask[part] = True
    return mask
