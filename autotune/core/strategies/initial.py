"""Initial populations: where a search begins."""

from enum import StrEnum

import numpy as np

from autotune.core.arguments import shown
from autotune.core.errors import StrategyError
from autotune.core.keys import Key
from autotune.core.parameters import Codes
from autotune.core.points import first_of_each
from autotune.core.space import Space
from autotune.core.strategies.protocol import Seeds


class InitialPopulationStrategy(StrEnum):
    """Where a search begins; each is equal to its value, and a strategy takes the one or the other.

    FROM_RANDOM: the default, the user's seeds, then random configs. FROM_DEFAULT: the default alone.
    FROM_BEST_AVAILABLE: the default, the user's seeds and up to 20 of the best configs of earlier runs.
    """

    FROM_RANDOM = "from_random"
    FROM_DEFAULT = "from_default"
    FROM_BEST_AVAILABLE = "from_best_available"


POPULATION = "initial_population_strategy"
"""The setting, of every strategy that begins somewhere."""

BEST_AVAILABLE = 20
"""At most this many of the best configs of earlier runs join an initial population."""


def given_points(kind: InitialPopulationStrategy | None, seeds: Seeds) -> Codes:
    """The points that a search of this kind begins with and that are not drawn, each once: [m, columns].

    from_random: the default and the user's seeds. from_default: the default. from_best_available, and None: the
    default, the user's seeds and up to 20 of the best configs of earlier runs.
    """
    match kind:
        case InitialPopulationStrategy.FROM_DEFAULT:
            rows = seeds.default
        case InitialPopulationStrategy.FROM_RANDOM:
            rows = np.concatenate([seeds.default, seeds.user])
        case _:
            rows = np.concatenate([seeds.default, seeds.user, seeds.best[:BEST_AVAILABLE]])
    return rows[first_of_each(rows)]


def initial_population_strategy(strategy: str, given: object) -> InitialPopulationStrategy | None:
    """The kind that a setting names; raises StrategyError, with the kinds that there are, for anything else."""
    if given is None:
        return None
    if isinstance(given, str) and given in tuple(InitialPopulationStrategy):
        return InitialPopulationStrategy(given)
    known = ", ".join(InitialPopulationStrategy)
    raise StrategyError(f"{strategy}: {POPULATION} = {shown(given)} is unknown; use one of {known}, or None")


def initial_population(kind: InitialPopulationStrategy | None, space: Space, seeds: Seeds, n: int, key: Key) -> Codes:
    """The first points of a search, different and valid: [m, columns], m <= n wherever random points fill up.

    from_random (also None): the default, the user's seeds, then random points, `n` in all.
    from_default: the default alone. from_best_available: the default, the user's seeds and up to 20 of the best
    configs of earlier runs, filled up to `n` at random if `seeds.pad`. A kind without any point falls back to random.
    """
    rows = given_points(kind or InitialPopulationStrategy.FROM_RANDOM, seeds)
    if len(rows) and alone(kind, seeds):
        return rows
    known = {row.tobytes() for row in rows}

    def unseen(drawn: Codes) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.fromiter((row.tobytes() not in known for row in drawn), np.bool_, len(drawn))

    return np.concatenate([rows, space.sample_distinct(key, max(n - len(rows), 0), unseen)])


def alone(kind: InitialPopulationStrategy | None, seeds: Seeds) -> bool:
    """Whether a population is made of the points that are given, if there are any, and no random ones join them."""
    if kind is InitialPopulationStrategy.FROM_BEST_AVAILABLE:
        return not seeds.pad
    return kind is InitialPopulationStrategy.FROM_DEFAULT
