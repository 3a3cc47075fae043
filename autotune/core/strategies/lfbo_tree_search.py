"""LFBO tree search: LFBO pattern search whose neighbours come from the trees of the forest themselves.

The LFBOTreeSearch of Helion, after Song et al., "A general recipe for likelihood-free Bayesian optimization", ICML
2022, and Mišić, "Optimization of tree ensembles", Operations Research 68 (2020).
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.forest import Forest
from autotune.core.keys import Key
from autotune.core.parameters import Codes
from autotune.core.space import Space
from autotune.core.strategies.initial import InitialPopulation
from autotune.core.strategies.lfbo import checked_walks, next_batch
from autotune.core.strategies.lfbo_pattern_search import around
from autotune.core.strategies.population import Initial, first_points, initial_proposals
from autotune.core.strategies.protocol import Ask, Done, Observation, Proposals, Seeds, Wait
from autotune.core.strategies.tree_moves import guided


class LFBOTreeSearch(Struct, frozen=True, tag="lfbo_tree_search", omit_defaults=True):
    """The `copies` best of the initial population each walk to where single trees of a classifier lead them.

    The first generation draws neighbours as lfbo_pattern_search does; from the second one on each comes from a random
    tree (`tree_moves.guided`). num_neighbors: so many for each walk and generation. frac_selected: the share of them
    that is measured. radius: how far one move goes.
    initial_population: how many configs are drawn to begin with, of which the better half is measured.
    max_generations: batches after the initial one.
    min_improvement_delta, patience: a walk ends when abs(best / current - 1) is below this for more than `patience`
    generations in a row. quantile: the share of the configs that is called good.
    similarity_penalty: what likeness to those selected already costs, in probability.
    initial_population_strategy: None leaves it to the effort. compile_timeout_*: see `limits.compile_timeout`.
    """

    num_neighbors: int = 200
    frac_selected: float = 0.1
    radius: int = 2
    initial_population: int = 100
    copies: int = 5
    max_generations: int = 20
    min_improvement_delta: float = 0.001
    quantile: float = 0.1
    patience: int = 1
    similarity_penalty: float = 1.0
    initial_population_strategy: InitialPopulation | None = None
    compile_timeout_lower_bound: float = 30.0
    compile_timeout_quantile: float = 0.9

    def __post_init__(self) -> None:
        checked_walks("lfbo_tree_search", self)

    def init(self, space: Space, seeds: Seeds, key: Key) -> Initial:
        kind, n = self.initial_population_strategy, self.initial_population
        return first_points(kind, space, seeds, n, key, walks=True)

    def propose(self, space: Space, state: Initial, ask: Ask, key: Key) -> Proposals | Wait | Done:
        begun = initial_proposals(space, state, ask, self.initial_population, self.max_generations, key)
        if begun is not None:
            return begun

        def candidates(
            forest: Forest | None, starts: Codes, generation: int, key: Key
        ) -> tuple[Codes, NDArray[np.int64]]:
            if forest is None or generation == 1:
                return around(space, starts, self.num_neighbors, self.radius, key)
            return guided(space, forest, starts, self.num_neighbors, self.radius, key)

        return next_batch(self, space, ask, key, candidates)

    def observe(self, space: Space, state: Initial, seen: tuple[Observation, ...]) -> Initial:
        return state
