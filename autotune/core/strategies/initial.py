"""Initial populations: where a search begins."""

from typing import Literal

import numpy as np

from autotune.core.keys import Key
from autotune.core.parameters import Codes
from autotune.core.points import first_of_each
from autotune.core.space import Space
from autotune.core.strategies.protocol import Seeds

InitialPopulation = Literal["from_random", "from_default", "from_best_available"]

BEST_AVAILABLE = 20
"""At most this many of the best configs of earlier runs join an initial population."""


def given_points(seeds: Seeds) -> Codes:
    """The default, the user's seeds and up to 20 of the best configs of earlier runs, each once: [m, columns]."""
    rows = np.concatenate([seeds.default, seeds.user, seeds.best[:BEST_AVAILABLE]])
    return rows[first_of_each(rows)]


def initial_population(kind: InitialPopulation | None, space: Space, seeds: Seeds, n: int, key: Key) -> Codes:
    """The first points of a search, different and valid: [m, columns], m <= n wherever random points fill up.

    from_random (also None): the default, the user's seeds, then random points, `n` in all.
    from_default: the default alone. from_best_available: the default, the user's seeds and up to 20 of the best
    configs of earlier runs, filled up to `n` at random if `seeds.pad`. A kind without any point falls back to random.
    """
    if kind == "from_default":
        rows = seeds.default
    elif kind == "from_best_available":
        rows = given_points(seeds)
    else:
        rows = np.concatenate([seeds.default, seeds.user])
    rows = rows[first_of_each(rows)]
    if len(rows) and (kind == "from_default" or (kind == "from_best_available" and not seeds.pad)):
        return rows
    known = {row.tobytes() for row in rows}

    def unseen(drawn: Codes) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.fromiter((row.tobytes() not in known for row in drawn), np.bool_, len(drawn))

    return np.concatenate([rows, space.sample_distinct(key, max(n - len(rows), 0), unseen)])
