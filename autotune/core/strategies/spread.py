"""Points spread out over a space."""

import numpy as np
from numpy.typing import NDArray

from autotune.core.gaussian.axes import Axes
from autotune.core.keys import Key
from autotune.core.parameters import Codes
from autotune.core.space import Space

POOL = 100
"""Points are picked from so many drawn at random. From all points, the corners of the space would be picked, which are
slower than most; the best of the first ten from 100 are faster than ten at random."""


def spread_out(space: Space, axes: Axes, known: Codes, n: int, key: Key) -> Codes:
    """`known` points and others, `n` in all where there are so many: each as far as can be from those before it."""
    seen = {row.tobytes() for row in known}

    def unseen(rows: Codes) -> NDArray[np.bool_]:
        return np.array([row.tobytes() not in seen for row in rows], bool)

    pool = space.sample_distinct(key, max(POOL, n), unseen)
    if not len(pool):
        return known
    chosen = list(known) or [pool[0]]
    features = axes.of(pool)
    distance = np.full(len(pool), np.inf)
    for row in chosen:
        distance = np.minimum(distance, np.square(features - axes.of(row[None])).sum(axis=1))
    for _ in range(min(n - len(chosen), len(pool) - (not len(known)))):
        pick = int(np.argmax(np.round(distance, 9)))
        chosen.append(pool[pick])
        distance = np.minimum(distance, np.square(features - features[pick]).sum(axis=1))
        distance[pick] = -1.0
    return np.array(chosen, np.int64)
