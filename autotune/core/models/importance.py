"""How much each parameter, and each pair, decides about the time: functional analysis of variance of a forest.

Hutter, Hoos and Leyton-Brown, "An efficient approach for assessing hyperparameter importance", ICML 2014. A regression
tree divides the product of all values into boxes with one prediction each, so the mean over all other parameters, the
marginal, is a sum over boxes. The variance of the marginal of a parameter, over that of the tree, is its share; a pair
has the variance of its joint marginal beyond the two single ones. Every tree has its own bootstrap sample, so the
spread over the trees is the uncertainty. Pure, and a function of the data alone.

Notation, with the names used in the code:

    n, p, T, L      points, parameters, trees, leaves of all trees
    levels [n, p]   each value as its place among the values of its parameter that occur
    m [p]           the number of levels
    low, high       [L, p] the levels low … high - 1 that a leaf takes of each parameter
    width [L, p]    the share of the levels that it takes
"""

from math import exp, log
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.keys import fold, permutation
from autotune.core.models.forest import FIT_KEY, LEAF, Forest, bootstrap_samples, fit_regressor

TREES = 64
"""Trees of the forest; more change the shares by less than their uncertainty."""

MOST_POINTS = 2000
"""More points are thinned out at random: the uncertainty is small then, and the fit takes a second."""

MOST_LEVELS = 32
"""Values of a parameter beyond this many are taken together in groups of neighbours with equally many points."""

MOST_PAIRED = 10
"""Pairs are computed among this many parameters, those with the largest shares of their own."""

LEAST_POINTS = 8
"""Fewer timed configs say nothing."""

FEW = 20
"""Fewer timed configs, or fewer than three for each parameter, are too few to tell."""

EXPLAINED = 0.3
"""Below this share of explained variance, on points that a tree has not seen, the shares are not to be relied on."""

SPREAD = (0.05, 0.95)
"""The quantiles over the trees that are given as the uncertainty."""

Levels = NDArray[np.int64]
Floats = NDArray[np.float64]


class Share(Struct, frozen=True, kw_only=True):
    """A share of the variance of log time, from 0 to 1; low, high: the 5 % and the 95 % quantile over the trees."""

    value: float
    low: float
    high: float


class Effect(Struct, frozen=True, kw_only=True):
    """The time with the values of the codes `first` to `last`, over the time with the best values of the parameter.

    Both are averages over all values of the other parameters. ratio: at least 1. low, high: 5 % and 95 % quantiles.
    """

    first: int
    last: int
    ratio: float
    low: float
    high: float


class ParameterImportance(Struct, frozen=True, kw_only=True):
    """The share of one parameter alone, and the effect of its values in the order of their codes."""

    parameter: int
    share: Share
    effects: tuple[Effect, ...]


class PairImportance(Struct, frozen=True, kw_only=True):
    """The share that two parameters have only together, beyond the share of each."""

    parameters: tuple[int, int]
    share: Share


class Importances(Struct, frozen=True, kw_only=True):
    """Parameters and pairs by their share, the largest first.

    points: the timed configs that were used. explained: the share of variance that the forest predicts on points it has
    not seen, None where nothing was fitted. doubt: why the shares are not to be relied on, "" where they are.
    """

    parameters: tuple[ParameterImportance, ...]
    pairs: tuple[PairImportance, ...]
    points: int
    explained: float | None
    doubt: str


class _Leaves(NamedTuple):
    """The leaves of all trees, as the module's notation has them, and the tree [L] and the value [L] of each."""

    tree: Levels
    value: Floats
    low: Levels
    high: Levels
    width: Floats


def compute_importances(codes: Levels, time_ms: Floats) -> Importances:
    """The importances of p parameters, from codes [n, p] of timed points and their times [n] in milliseconds.

    The codes of a parameter are its values in order, or numbers without an order; each code stands for one value.
    """
    n, p = codes.shape
    if n < LEAST_POINTS or p == 0:
        return Importances(parameters=(), pairs=(), points=n, explained=None, doubt=_too_few(n))
    kept = np.sort(permutation(fold(FIT_KEY, "importance", n), n)[:MOST_POINTS])
    codes, target = codes[kept], np.log(time_ms[kept])
    groups = [_group_codes(codes[:, j]) for j in range(p)]
    levels = np.stack([level for level, _ in groups], axis=1)
    m = np.array([len(bounds) for _, bounds in groups], np.int64)
    if np.ptp(target) == 0 or m.max() < 2:
        return Importances(
            parameters=(), pairs=(), points=n, explained=None, doubt="all timed configs take the same time"
        )
    forest = fit_regressor(levels.astype(np.float64), target, TREES)
    explained = _explained_variance(forest, levels, target)
    leaves = _leaves_of(forest, m)
    mean = _sums(leaves.tree, leaves.value * leaves.width.prod(axis=1), TREES)
    leaves = leaves._replace(value=leaves.value - mean[leaves.tree])
    total = _sums(leaves.tree, leaves.value**2 * leaves.width.prod(axis=1), TREES)
    marginals = [_marginal(leaves, j, int(m[j])) for j in range(p)]
    single = np.stack([(marginal**2).mean(axis=1) for marginal in marginals], axis=1)
    shares = [_share(single[:, j], total) for j in range(p)]
    ranked = sorted(range(p), key=lambda j: (-shares[j].value, j))
    parameters = tuple(
        ParameterImportance(parameter=j, share=shares[j], effects=_effects(marginals[j], groups[j][1])) for j in ranked
    )
    pairs = []
    for place, j in enumerate(ranked[:MOST_PAIRED]):
        for k in ranked[place + 1 : MOST_PAIRED]:
            joint = (_joint_marginal(leaves, (j, k), (int(m[j]), int(m[k]))) ** 2).mean(axis=(1, 2))
            share = _share(np.maximum(joint - single[:, j] - single[:, k], 0.0), total)
            pairs.append(PairImportance(parameters=(min(j, k), max(j, k)), share=share))
    pairs.sort(key=lambda pair: (-pair.share.value, pair.parameters))
    return Importances(
        parameters=parameters, pairs=tuple(pairs), points=n, explained=explained, doubt=_doubt(n, p, explained)
    )


def _too_few(n: int) -> str:
    return f"{n} timed configs are too few to tell which parameters matter"


def _doubt(n: int, p: int, explained: float) -> str:
    if n < max(FEW, 3 * p):
        return _too_few(n)
    if explained < EXPLAINED:
        return (
            f"the parameters explain {max(explained, 0):.0%} of the differences between configs that a model has not "
            "seen, so the shares say little"
        )
    return ""


def _group_codes(codes: Levels) -> tuple[Levels, list[tuple[int, int]]]:
    """The level [n] of each code, and the first and the last code of each level."""
    values, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    if len(values) <= MOST_LEVELS:
        return places.reshape(-1), [(int(value), int(value)) for value in values]
    middle = (np.cumsum(counts) - counts / 2) / counts.sum()
    _, group = np.unique((middle * MOST_LEVELS).astype(np.int64), return_inverse=True)
    group = group.reshape(-1)
    bounds = [(int(values[group == g][0]), int(values[group == g][-1])) for g in range(int(group[-1]) + 1)]
    return group[places.reshape(-1)], bounds


def _explained_variance(forest: Forest, levels: Levels, target: Floats) -> float:
    """1 - squared error / variance of the predictions of the trees whose sample lacks the point."""
    n = len(target)
    drawn = np.stack([np.bincount(sample, minlength=n) > 0 for sample in bootstrap_samples(n, len(forest))], axis=1)
    predicted = np.where(drawn, 0.0, forest.value[forest.leaves(levels.astype(np.float64))])
    count = (~drawn).sum(axis=1)
    known = count > 0
    error = predicted.sum(axis=1)[known] / count[known] - target[known]
    spread = float(((target[known] - target[known].mean()) ** 2).sum())
    return 1.0 - float((error**2).sum()) / spread if spread > 0 else 0.0


def _leaves_of(forest: Forest, m: Levels) -> _Leaves:
    """The boxes of all leaves, found from the roots down, all nodes of one depth at a time."""
    trees, p = len(forest), len(m)
    nodes, tree = forest.roots, np.arange(trees)
    low, high = np.zeros((trees, p), np.int64), np.tile(m, (trees, 1))
    found: list[tuple[Levels, Levels, Levels, Levels]] = []
    while len(nodes):
        inner = forest.feature[nodes] != LEAF
        found.append((tree[~inner], nodes[~inner], low[~inner], high[~inner]))
        nodes, tree, low, high = nodes[inner], tree[inner], low[inner], high[inner]
        each, feature = np.arange(len(nodes)), forest.feature[nodes]
        border = np.floor(forest.threshold[nodes]).astype(np.int64) + 1
        below, above = high.copy(), low.copy()
        below[each, feature] = np.minimum(below[each, feature], border)
        above[each, feature] = np.maximum(above[each, feature], border)
        nodes = np.concatenate([forest.left[nodes], forest.right[nodes]])
        tree, low, high = np.tile(tree, 2), np.concatenate([low, above]), np.concatenate([below, high])
    tree, nodes, low, high = (np.concatenate(column) for column in zip(*found, strict=True))
    return _Leaves(tree, forest.value[nodes], low, high, (high - low) / m)


def _sums(places: Levels, weights: Floats, n: int) -> Floats:
    """The sum of the weights at each of n places."""
    return np.bincount(places, weights, n).astype(np.float64)


def _others(leaves: _Leaves, *without: int) -> Floats:
    """The value of each leaf times the share of the points that it takes of the other parameters [L]."""
    left = [j for j in range(leaves.width.shape[1]) if j not in without]
    weighted: Floats = leaves.value * leaves.width[:, left].prod(axis=1)
    return weighted


def _marginal(leaves: _Leaves, j: int, m: int) -> Floats:
    """The mean prediction of each tree at each level of a parameter, less that of the tree: [T, m]."""
    weight, first = _others(leaves, j), leaves.tree * (m + 1)
    steps = _sums(first + leaves.low[:, j], weight, TREES * (m + 1))
    steps -= _sums(first + leaves.high[:, j], weight, TREES * (m + 1))
    summed: Floats = np.cumsum(steps.reshape(TREES, m + 1), axis=1)[:, :m]
    return summed


def _joint_marginal(leaves: _Leaves, pair: tuple[int, int], m: tuple[int, int]) -> Floats:
    """As `_marginal`, at each pair of levels: [T, m of the first, m of the second]."""
    weight, shape = _others(leaves, *pair), (TREES, m[0] + 1, m[1] + 1)
    steps = np.zeros(int(np.prod(shape)))
    for one, sign in ((leaves.low, 1.0), (leaves.high, -1.0)):
        for other, turn in ((leaves.low, sign), (leaves.high, -sign)):
            place = (leaves.tree * shape[1] + one[:, pair[0]]) * shape[2] + other[:, pair[1]]
            steps += turn * _sums(place, weight, len(steps))
    summed: Floats = np.cumsum(np.cumsum(steps.reshape(shape), axis=1), axis=2)[:, : m[0], : m[1]]
    return summed


def _share(part: Floats, total: Floats) -> Share:
    """The share over the trees; a tree without any split has none."""
    shares = np.clip(np.divide(part, total, out=np.zeros(len(total)), where=total > 0), 0.0, 1.0)
    low, high = np.quantile(shares, SPREAD)
    return Share(value=float(shares.mean()), low=float(low), high=float(high))


def _effects(marginal: Floats, bounds: list[tuple[int, int]]) -> tuple[Effect, ...]:
    best = int(np.argmin(marginal.mean(axis=0)))
    least = float(marginal.mean(axis=0)[best])
    cap = log(1e300)
    found = []
    for level, (first, last) in enumerate(bounds):
        column = marginal[:, level] - least
        low, high = np.quantile(column, SPREAD)
        mean, low, high = (exp(min(float(x), cap)) for x in (column.mean(), low, high))
        found.append(Effect(first=first, last=last, ratio=mean, low=low, high=high))
    return tuple(found)
