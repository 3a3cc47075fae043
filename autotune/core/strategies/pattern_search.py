"""Pattern search: walks from the best of an initial population to their best neighbours.

Hooke and Jeeves, "Direct search solution of numerical and statistical problems", J. ACM 8 (1961); in this form (several
walks, pairs of block sizes, all proposals of a generation measured as one batch) the PatternSearch of Helion.
"""

from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.history import Archive
from autotune.core.keys import Key, fold, permutation
from autotune.core.parameters import Codes
from autotune.core.points import first_of_each
from autotune.core.space import Space
from autotune.core.strategies.initial import InitialPopulation
from autotune.core.strategies.moves import neighbourhood
from autotune.core.strategies.ordering import promising_first
from autotune.core.strategies.population import (
    Initial,
    checked_population,
    first_points,
    initial_proposals,
    last_initial,
)
from autotune.core.strategies.protocol import Ask, Done, Observation, Proposals, Seeds, Wait
from autotune.core.strategies.ranges import require


class Walk(NamedTuple):
    """Where a walk stands: the index of its point in the archive, and whether it goes on."""

    current: int
    alive: bool


class PatternSearch(Struct, frozen=True, tag="pattern_search", omit_defaults=True):
    """The `copies` best of the initial population each walk to the best of their neighbours, one batch a generation.

    initial_population: how many configs are drawn to begin with, of which the better half is measured.
    max_generations: batches after the initial one.
    min_improvement_delta: a walk ends when abs(best / current - 1) is below this.
    num_neighbors_cap: keep this many neighbours of a walk and generation, drawn at random; -1: all.
    initial_population_strategy: None leaves it to the effort. compile_timeout_*: see `limits.compile_timeout`.
    """

    initial_population: int = 100
    copies: int = 5
    max_generations: int = 20
    min_improvement_delta: float = 0.001
    num_neighbors_cap: int = -1
    initial_population_strategy: InitialPopulation | None = None
    compile_timeout_lower_bound: float = 30.0
    compile_timeout_quantile: float = 0.9

    def __post_init__(self) -> None:
        name = "pattern_search"
        checked_population(name, self)
        require(self.initial_population >= 1, name, "initial_population", self.initial_population, "at least 1")
        require(self.copies >= 1, name, "copies", self.copies, "at least 1")
        require(self.max_generations >= 0, name, "max_generations", self.max_generations, "at least 0")
        cap, delta = self.num_neighbors_cap, self.min_improvement_delta
        require(delta >= 0, name, "min_improvement_delta", delta, "at least 0")
        require(cap == -1 or cap >= 1, name, "num_neighbors_cap", cap, "at least 1, or -1 for all neighbours")

    def init(self, space: Space, seeds: Seeds, key: Key) -> Initial:
        kind, n = self.initial_population_strategy, self.initial_population
        return first_points(kind, space, seeds, n, key, walks=True)

    def propose(self, space: Space, state: Initial, ask: Ask, key: Key) -> Proposals | Wait | Done:
        begun = initial_proposals(space, state, ask, self.initial_population, self.max_generations, key)
        if begun is not None:
            return begun
        generation = int(ask.archive.generation.max(initial=0)) + 1
        if generation > self.max_generations:
            return Done(f"{self.max_generations} generations were evaluated")
        walks = self.walks(ask.archive)
        batches = [
            self._neighbours(space, ask, ask.archive.points[walk.current], fold(key, i)) if walk.alive else None
            for i, walk in enumerate(walks)
        ]
        kept = [(i, points) for i, points in enumerate(batches) if points is not None and len(points)]
        if not kept:
            return Done("every walk has ended")
        points = np.concatenate([points for _, points in kept])
        origin = np.concatenate([np.full(len(points), i, np.int64) for i, points in kept])
        first = first_of_each(points)
        order = first[promising_first(space, ask.archive.whole, points[first])]
        return Proposals(points[order], origin[order], generation, f"neighbours of {len(kept)} walks")

    def observe(self, space: Space, state: Initial, seen: tuple[Observation, ...]) -> Initial:
        return state

    def walks(self, archive: Archive) -> list[Walk]:
        """Where the walks have come to, read off what was measured."""
        begun = last_initial(archive)
        ranking = archive.ranking()
        walks = [Walk(int(i), True) for i in ranking[archive.generation[ranking] <= begun][: self.copies]]
        for generation in range(begun + 1, int(archive.generation.max(initial=0)) + 1):
            batch = np.flatnonzero(archive.ok & (archive.generation == generation))
            walks = [
                self._moved(archive, walk, batch[archive.walk[batch] == i]) if walk.alive else walk
                for i, walk in enumerate(walks)
            ]
        return walks

    def _moved(self, archive: Archive, walk: Walk, batch: NDArray[np.int64]) -> Walk:
        """The walk after a batch of its own: at the best of it and itself, ended where that gained too little."""
        if not len(batch):
            return Walk(walk.current, False)
        times = archive.time_ms
        best = int(batch[np.argmin(times[batch])])
        if times[best] >= times[walk.current]:
            return Walk(walk.current, False)
        return Walk(best, bool(abs(times[best] / times[walk.current] - 1) >= self.min_improvement_delta))

    def _neighbours(self, space: Space, ask: Ask, row: Codes, key: Key) -> Codes:
        points = neighbourhood(space, row, fold(key, "wide"))
        points = points[ask.fresh(points)]
        points = points[space.valid(points)]
        if 0 <= self.num_neighbors_cap < len(points):
            points = points[np.sort(permutation(key, len(points))[: self.num_neighbors_cap])]
        return points
