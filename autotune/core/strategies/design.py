"""The initial design: the first points of a model-based search, from the middle of a space and far apart.

Points as far apart as can be, a common design, are the corners of a space: on GPUs the smallest blocks with the most
warps, slower than most points and often too large to run. Points from the middle are fast sooner, and teach less. Half
of each, in turn, serves both. Where blocks are tiles worked on by warps, the corners are so slow that they teach
nothing about fast points: there all points are from the middle, from the default outwards. Numbers that 2 divides
often are preferred, since hardware likes powers of two.
"""

import numpy as np

from autotune.core.history import Points
from autotune.core.keys import Key
from autotune.core.models.gp import Floats
from autotune.core.models.gp_features import FeatureMap
from autotune.core.parameters import Codes
from autotune.core.space import Space

DRAWN, POOL = 1200, 300
"""Points drawn at random, and how many of them are the pool: those whose numbers 2 divides most often."""

APART = 3
"""Points far apart are picked from this multiple of their number, drawn at random: from the whole pool, they would be
the corners."""

ROUNDS = 10
"""Rounds of k-means; it need not converge."""


def draw_design(space: Space, features_of: FeatureMap, given: Codes, n: int, key: Key) -> Codes:
    """The `given` points [m, columns] and others, `n` in all, or as many as there are."""
    more, unseen = n - len(given), Points(space.columns).append(given).unseen
    drawn = space.sample_distinct(key, max(DRAWN, n), unseen) if more > 0 else given[:0]
    if not len(drawn):
        return given
    features = features_of.features(drawn)
    pool = np.argsort(-features[:, features_of.alignment].sum(axis=1), kind="stable")[: max(POOL, n)]
    drawn, features = drawn[pool], features[pool]
    taken = features_of.features(given)
    if features_of.derived:
        picks = _pick_outwards(features, taken, min(more, len(drawn)))
    else:
        picks = _pick_in_turn(features, taken, min((more + 1) // 2, len(drawn)), more)
    return np.concatenate([given, drawn[picks]])


def _pick_outwards(features: Floats, taken: Floats, n: int) -> list[int]:
    """Indices of `n` points, each in the middle of a part of all; in order of the distance from the first one taken, or
    from the mean of all."""
    middle = _pick_middle(features, n)
    origin = taken[0] if len(taken) else features.mean(axis=0)
    distance = _distances(features[middle], origin[None])[:, 0]
    return [middle[i] for i in np.argsort(distance, kind="stable")]


def _pick_in_turn(features: Floats, taken: Floats, n: int, most: int) -> list[int]:
    """Indices of `most` points or all: `n` in the middle of parts of all, each followed by a far one."""
    middle = _pick_middle(features, n)
    far = _pick_far_apart(features, np.concatenate([taken, features[middle]]), middle, most - n)
    return list(dict.fromkeys(pick for pair in zip(middle, [*far, *middle[len(far) :]], strict=True) for pick in pair))


def _pick_middle(features: Floats, n: int) -> list[int]:
    """Indices of `n` points, each in the middle of a part of all: near the centres that k-means finds (Lloyd 1982)."""
    centres = features[:n]
    for _ in range(ROUNDS):
        nearest = np.argmin(_distances(features, centres), axis=1)
        counts = np.bincount(nearest, minlength=n)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, features)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
    picks: list[int] = []
    for distance in _distances(features, centres).T:
        distance[picks] = np.inf
        picks.append(int(np.argmin(distance)))
    return picks


def _pick_far_apart(features: Floats, taken: Floats, picked: list[int], n: int) -> list[int]:
    """Indices of `n` more points, each as far as can be from those before it and from the features `taken`."""
    few = np.setdiff1d(np.arange(min(len(features), APART * (len(picked) + n))), picked)
    distance = _distances(features[few], taken).min(axis=1)
    picks: list[int] = []
    for _ in range(min(n, len(few))):
        pick = int(np.argmax(distance))
        picks.append(int(few[pick]))
        distance = np.minimum(distance, _distances(features[few], features[few[pick]][None])[:, 0])
        distance[pick] = -1.0
    return picks


def _distances(a: Floats, b: Floats) -> Floats:
    """Squared distances [n, m] of rows [n, d] and [m, d], rounded so that ties are ties on every machine."""
    squares: Floats = np.square(a[:, None] - b[None]).sum(axis=2)
    return np.round(squares, 9)
