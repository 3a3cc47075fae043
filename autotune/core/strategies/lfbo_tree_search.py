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
from autotune.core.strategies.initial import InitialPopulationStrategy
from autotune.core.strategies.lfbo import checked_walks, next_batch
from autotune.core.strategies.lfbo_pattern_search import around
from autotune.core.strategies.population import BETTER, Past, Table, begun, initial_proposals, observed
from autotune.core.strategies.protocol import Ask, Done, Observation, Proposals, Seeds, Wait
from autotune.core.strategies.tree_moves import guided
from autotune.core.strategies.walks import Walks, first_walks, moved


class LFBOTreeSearch(Struct, frozen=True, tag="lfbo_tree_search", omit_defaults=True):
    """The `copies` best of the initial population each walk to where single trees of a classifier lead them.

    The first generation draws neighbours as lfbo_pattern_search does; from the second one on each comes from a random
    tree (`tree_moves.guided`). num_neighbors: so many for each walk and generation. frac_selected: the share of them
    that is measured. radius: how far one move goes.
    initial_population: how many configs are drawn to begin with. initial_share: of these so many are measured, those
    that look best; 1.0: all.
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
    initial_population_strategy: InitialPopulationStrategy | None = None
    compile_timeout_lower_bound: float = 30.0
    compile_timeout_quantile: float = 0.9
    initial_share: float = BETTER

    def __post_init__(self) -> None:
        checked_walks("lfbo_tree_search", self)

    def init(self, space: Space, seeds: Seeds, key: Key) -> Past[Walks]:
        kind, n = self.initial_population_strategy, self.initial_population
        return begun(kind, space, seeds, n, key, share=self.initial_share, walks=True)

    def propose(self, space: Space, state: Past[Walks], ask: Ask, key: Key) -> Proposals | Wait | Done:
        first = initial_proposals(space, state, ask, self.initial_population, self.max_generations, key)
        if first is not None:
            return first

        def candidates(
            forest: Forest | None, starts: Codes, generation: int, key: Key
        ) -> tuple[Codes, NDArray[np.int64]]:
            if forest is None or generation == 1:
                return around(space, starts, self.num_neighbors, self.radius, key)
            return guided(space, forest, starts, self.num_neighbors, self.radius, key)

        return next_batch(self, space, state, ask, key, candidates)

    def observe(self, space: Space, state: Past[Walks], seen: tuple[Observation, ...]) -> Past[Walks]:
        return observed(self, state, seen)

    def first_members(self, population: Table) -> Walks:
        """Walks that begin at the best of the initial population."""
        return first_walks(population, self.copies)

    def next_members(self, members: Walks, batch: Table) -> Walks:
        """The walks after a generation."""
        return moved(members, batch, self.min_improvement_delta, self.patience)
