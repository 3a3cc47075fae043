"""Features scaled for distances, and points spread out by them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.core.keys import Key
from autotune.core.parameters import Codes
from autotune.core.space import Space

SAMPLE, POOL = 512, 200
LOGARITHMIC = 8
"""A feature whose values span this factor, all above 0, counts by its logarithm."""


@dataclass(frozen=True)
class Scaling:
    """How features become numbers between 0 and 1, about: `low` and `span` [d] of the features `kept`, some as logs."""

    kept: NDArray[np.int64]
    logarithmic: NDArray[np.bool_]
    low: NDArray[np.float64]
    span: NDArray[np.float64]

    def of(self, space: Space, rows: Codes) -> NDArray[np.float64]:
        """The scaled features [n, d] of points [n, columns]."""
        features = space.features(rows)[:, self.kept]
        features[:, self.logarithmic] = np.log2(np.maximum(features[:, self.logarithmic], 1e-9))
        scaled: NDArray[np.float64] = (features - self.low) / self.span
        return scaled


def scaling(space: Space, key: Key) -> Scaling:
    """The scaling that a sample of the space's valid points suggests; features that never vary are dropped."""
    features = space.features(space.sample(key, SAMPLE))
    low, high = features.min(axis=0), features.max(axis=0)
    kept = np.flatnonzero(high > low)
    kept = kept if len(kept) else np.zeros(1, np.int64)
    low, high = low[kept], high[kept]
    logarithmic = (low > 0) & (high >= LOGARITHMIC * low)
    low[logarithmic], high[logarithmic] = np.log2(low[logarithmic]), np.log2(high[logarithmic])
    return Scaling(kept, logarithmic, low, np.where(high > low, high - low, 1.0))


def spread_out(space: Space, scaled: Scaling, known: Codes, n: int, key: Key) -> Codes:
    """`known` points and others, `n` in all where there are so many: each as far as can be from those before it."""
    seen = {row.tobytes() for row in known}

    def unseen(rows: Codes) -> NDArray[np.bool_]:
        return np.array([row.tobytes() not in seen for row in rows], bool)

    pool = space.sample_distinct(key, max(POOL, n), unseen)
    if not len(pool):
        return known
    chosen = list(known) or [pool[0]]
    features = scaled.of(space, pool)
    distance = np.full(len(pool), np.inf)
    for row in chosen:
        distance = np.minimum(distance, np.square(features - scaled.of(space, row[None])).sum(axis=1))
    for _ in range(min(n - len(chosen), len(pool) - (not len(known)))):
        pick = int(np.argmax(np.round(distance, 9)))
        chosen.append(pool[pick])
        distance = np.minimum(distance, np.square(features - features[pick]).sum(axis=1))
        distance[pick] = -1.0
    return np.array(chosen, np.int64)
