"""LFBO pattern search: walks to random neighbours, of which a random forest selects the promising and different ones.

The LFBOPatternSearch of Helion, after Song et al., "A general recipe for likelihood-free Bayesian optimization",
ICML 2022.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.forest import Forest
from autotune.core.keys import Key, fold
from autotune.core.parameters import Codes
from autotune.core.space import Space
from autotune.core.strategies.initial import InitialPopulationStrategy
from autotune.core.strategies.lfbo import checked_walks, next_batch
from autotune.core.strategies.moves import perturbed
from autotune.core.strategies.population import BETTER, Past, Table, begun, initial_proposals, observed
from autotune.core.strategies.protocol import Ask, Done, Observation, Proposals, Seeds, Wait
from autotune.core.strategies.walks import Walks, first_walks, moved


class LFBOPatternSearch(Struct, frozen=True, tag="lfbo_pattern_search", omit_defaults=True):
    """The `copies` best of the initial population each walk among random neighbours that a classifier selects.

    initial_population: how many configs are drawn to begin with. initial_share: of these so many are measured, those
    that look best; 1.0: all.
    max_generations: batches after the initial one.
    min_improvement_delta, patience: a walk ends when abs(best / current - 1) is below this for more than `patience`
    generations in a row. frac_selected: the share of the neighbours that is measured.
    num_neighbors: drawn for each walk and generation. radius: how far block sizes and warps move (log2 for powers of
    two), and how many other parameters move. quantile: the share of the configs that is called good.
    similarity_penalty: what likeness to those selected already costs, in probability.
    initial_population_strategy: None leaves it to the effort. compile_timeout_*: see `limits.compile_timeout`.
    """

    initial_population: int = 100
    copies: int = 5
    max_generations: int = 20
    min_improvement_delta: float = 0.001
    frac_selected: float = 0.1
    num_neighbors: int = 300
    radius: int = 2
    quantile: float = 0.1
    patience: int = 1
    similarity_penalty: float = 1.0
    initial_population_strategy: InitialPopulationStrategy | None = None
    compile_timeout_lower_bound: float = 30.0
    compile_timeout_quantile: float = 0.9
    initial_share: float = BETTER

    def __post_init__(self) -> None:
        checked_walks("lfbo_pattern_search", self)

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
            return around(space, starts, self.num_neighbors, self.radius, key)

        return next_batch(self, space, state, ask, key, candidates)

    def observe(self, space: Space, state: Past[Walks], seen: tuple[Observation, ...]) -> Past[Walks]:
        return observed(self, state, seen)

    def first_members(self, population: Table) -> Walks:
        """Walks that begin at the best of the initial population."""
        return first_walks(population, self.copies)

    def next_members(self, members: Walks, batch: Table) -> Walks:
        """The walks after a generation."""
        return moved(members, batch, self.min_improvement_delta, self.patience)


def around(space: Space, starts: Codes, n: int, radius: int, key: Key) -> tuple[Codes, NDArray[np.int64]]:
    """`n` random points around each of the starts [w, columns]: rows [w * n, columns], and the start of each."""
    rows = [perturbed(space, row, n, radius, fold(key, i)) for i, row in enumerate(starts)]
    return np.concatenate(rows), np.repeat(np.arange(len(starts)), n)
