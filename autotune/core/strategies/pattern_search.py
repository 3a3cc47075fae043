"""Pattern search: walks from the best of an initial population to their best neighbours.

Hooke and Jeeves, "Direct search solution of numerical and statistical problems", J. ACM 8 (1961); in this form (several
walks, pairs of block sizes, all proposals of a generation measured as one batch) the PatternSearch of Helion. The LFBO
searches walk in the same way, to other neighbours.
"""

from typing import NamedTuple

import numpy as np

from autotune.core.arguments import AtLeast0, AtLeast1, Nonnegative, Positive, PositiveShare, Proportion
from autotune.core.errors import StrategyError
from autotune.core.keys import Key, fold, permutation
from autotune.core.models.ordering import promising_first
from autotune.core.parameters import Codes
from autotune.core.points import first_of_each
from autotune.core.space import Space
from autotune.core.strategies.moves import neighbourhood
from autotune.core.strategies.population import (
    INITIAL_SHARE,
    InitialPopulation,
    InitialPopulationStrategy,
    Table,
    begin,
    first_generation,
    last_generation,
    propose_initial,
    rank_timed,
)
from autotune.core.strategies.protocol import ArchiveStrategy, Ask, AwaitOutcome, Done, Proposals, Seeds


class Walk(NamedTuple):
    """A walk: the trial it is at with its time, its generations without progress, whether it goes on."""

    trial: int
    time_ms: float
    stalled: int = 0
    alive: bool = True


Walks = tuple[Walk, ...]


def follow_walks(table: Table, copies: int, delta: float, patience: int) -> Walks:
    """The walks after these trials, some of which have worked. They begin at the `copies` best of the initial
    population; each generation takes a walk to the best of its own part of the batch and of where it was.

    A walk ends when its best has improved by less than `delta`, relatively, for more than `patience` generations in a
    row, or when it had nothing to propose.
    """
    begun, generation = first_generation(table), table["generation"]
    population = table[generation <= begun]
    best = population[rank_timed(population)[:copies]]
    walks = [Walk(trial, time) for trial, time in zip(best["trial"].tolist(), best["time_ms"].tolist(), strict=True)]
    for number in range(begun + 1, last_generation(table) + 1):
        batch = table[generation == number]
        for i, walk in enumerate(walks):
            if walk.alive:
                walks[i] = _move(walk, batch[batch["walk"] == i], delta, patience)
    return tuple(walks)


def _move(walk: Walk, own: Table, delta: float, patience: int) -> Walk:
    if not len(own):
        return walk._replace(alive=False)
    trial, time = walk.trial, walk.time_ms
    timed = own[own["ok"]]
    if len(timed):
        best = timed[int(np.argmin(timed["time_ms"]))]
        if best["time_ms"] < time:
            trial, time = int(best["trial"]), float(best["time_ms"])
    gained = trial != walk.trial and abs(time / walk.time_ms - 1) >= delta
    stalled = 0 if gained else walk.stalled + 1
    return Walk(trial, time, stalled, stalled <= patience)


class PatternSearch(ArchiveStrategy, frozen=True, kw_only=True, tag="pattern_search", omit_defaults=True):
    """The `copies` best of the initial population each walk to the best of their neighbours, one batch a generation.

    copies: walks, from as many configs.
    initial_population: configs drawn to begin with. initial_share: the share of them that is measured, the most
    promising ones; 1.0: all.
    max_generations: batches after the initial one.
    min_improvement_delta: a walk ends when abs(best / current - 1) is below this.
    num_neighbors_cap: keep this many neighbours of a walk and generation, drawn at random; -1: all.
    initial_population_strategy: None leaves it to the effort.
    compile_timeout_quantile, compile_timeout_lower_bound: after the initial population, a compile may take this
    quantile of the compile times so far, but at least the lower bound, in seconds.
    """

    initial_population: AtLeast1 = 100
    copies: AtLeast1 = 5
    max_generations: AtLeast0 = 20
    min_improvement_delta: Nonnegative = 0.001
    num_neighbors_cap: int = -1
    initial_population_strategy: InitialPopulationStrategy | None = None
    compile_timeout_lower_bound: Positive = 30.0
    compile_timeout_quantile: Proportion = 0.9
    initial_share: PositiveShare = INITIAL_SHARE

    def __post_init__(self) -> None:
        super().__post_init__()
        cap = self.num_neighbors_cap
        if cap != -1 and cap < 1:
            allowed = "at least 1, or -1 for all neighbours"
            raise StrategyError(f"pattern_search: num_neighbors_cap = {cap} is out of range; use {allowed}")

    def init(self, space: Space, seeds: Seeds, key: Key) -> InitialPopulation:
        kind, n = self.initial_population_strategy, self.initial_population
        return begin(kind, space, seeds, n, key, share=self.initial_share, walks=True)

    def propose(self, space: Space, state: InitialPopulation, ask: Ask, key: Key) -> Proposals | AwaitOutcome | Done:
        first = propose_initial(space, state, ask, self.initial_population, self.max_generations, key)
        if first is not None:
            return first
        table = ask.archive.latest
        generation = max(last_generation(table), 0) + 1
        if generation > self.max_generations:
            return Done(f"{self.max_generations} generations were evaluated")
        batches = [
            self._neighbours(space, ask, ask.archive.asked.rows[walk.trial], fold(key, i)) if walk.alive else None
            for i, walk in enumerate(follow_walks(table, self.copies, self.min_improvement_delta, patience=0))
        ]
        kept = [(i, points) for i, points in enumerate(batches) if points is not None and len(points)]
        if not kept:
            return Done("every walk has ended")
        points = np.concatenate([points for _, points in kept])
        walk = np.concatenate([np.full(len(points), i, np.int64) for i, points in kept])
        distinct = first_of_each(points)
        order = distinct[promising_first(space, ask.archive.whole, points[distinct])]
        return Proposals(points[order], walk[order], generation, f"neighbours of {len(kept)} walks")

    def _neighbours(self, space: Space, ask: Ask, row: Codes, key: Key) -> Codes:
        points = neighbourhood(space, row, fold(key, "wide"))
        points = points[ask.fresh(points)]
        points = points[space.valid(points)]
        if 0 <= self.num_neighbors_cap < len(points):
            points = points[np.sort(permutation(key, len(points))[: self.num_neighbors_cap])]
        return points
