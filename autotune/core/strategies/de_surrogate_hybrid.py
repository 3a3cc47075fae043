"""Differential evolution that breeds several times as many trials as it measures, and lets a random forest choose.

Jin, "Surrogate-assisted evolutionary computation: recent advances and future challenges", Swarm and Evolutionary
Computation 1 (2011); the DESurrogateHybrid of Helion, except that here the forest learns from all that was measured,
failures included, and that a trial duels with its own parent.
"""

import numpy as np
from msgspec import Struct

from autotune.core.forest import Forest, fit_regressor
from autotune.core.history import Archive
from autotune.core.keys import Key
from autotune.core.space import Space
from autotune.core.strategies.differential_evolution import (
    DifferentialEvolutionSearch,
    Members,
    breed,
    checked_evolution,
    points_of,
)
from autotune.core.strategies.initial import InitialPopulationStrategy
from autotune.core.strategies.ordering import promising_first
from autotune.core.strategies.population import (
    BETTER,
    Past,
    Table,
    first_generation,
    initial_proposals,
    members_of,
    observed,
)
from autotune.core.strategies.protocol import Ask, Done, Observation, Proposals, Seeds, Wait, nothing_left
from autotune.core.strategies.ranges import require

DECIMALS = 9
"""Predictions are rounded to so many before they are ranked, so that no last bit decides."""

UNASKED = np.iinfo(np.int64).max
"""Later than any trial."""


class DESurrogateHybrid(Struct, frozen=True, tag="de_surrogate_hybrid", omit_defaults=True):
    """Differential evolution in which a regressor predicts which of many crosses are worth measuring.

    surrogate_threshold: from so many evaluations on; before, it is differential evolution.
    candidate_ratio: so many times `population_size` crosses are bred, and the `population_size` predicted to be fastest
    measured.
    refit_frequency: the regressor learns what is new every so many generations. n_estimators: its trees.
    population_size, initial_share, max_generations, crossover_rate, min_improvement_delta, patience: see
    DifferentialEvolutionSearch. initial_population_strategy: None leaves it to the effort.
    compile_timeout_*: see `limits.compile_timeout`.
    """

    population_size: int = 40
    max_generations: int = 40
    crossover_rate: float = 0.8
    surrogate_threshold: int = 100
    candidate_ratio: int = 3
    refit_frequency: int = 5
    n_estimators: int = 50
    min_improvement_delta: float | None = 0.001
    patience: int | None = 3
    initial_population_strategy: InitialPopulationStrategy | None = None
    compile_timeout_lower_bound: float = 30.0
    compile_timeout_quantile: float = 0.9
    initial_share: float = BETTER

    def __post_init__(self) -> None:
        name = "de_surrogate_hybrid"
        checked_evolution(name, self)
        least = {"surrogate_threshold": 0, "candidate_ratio": 1, "refit_frequency": 1, "n_estimators": 1}
        for setting, lowest in least.items():
            value = getattr(self, setting)
            require(value >= lowest, name, setting, value, f"at least {lowest}")

    @property
    def evolution(self) -> DifferentialEvolutionSearch:
        """The differential evolution that this is without its surrogate."""
        shared = (
            "population_size", "max_generations", "crossover_rate", "min_improvement_delta", "patience",
            "initial_share", "initial_population_strategy", "compile_timeout_lower_bound", "compile_timeout_quantile",
        )  # fmt: skip
        return DifferentialEvolutionSearch(**{name: getattr(self, name) for name in shared})

    def init(self, space: Space, seeds: Seeds, key: Key) -> Past[Members]:
        return self.evolution.init(space, seeds, key)

    def propose(self, space: Space, state: Past[Members], ask: Ask, key: Key) -> Proposals | Wait | Done:
        first = initial_proposals(space, state, ask, 2 * self.population_size, self.max_generations, key)
        if first is not None:
            return first
        evolution, table = self.evolution, state.table
        if (ended := evolution.ended(table)) is not None:
            return ended
        forest = self.surrogate(space, table, ask.archive.whole)
        slots = np.repeat(np.arange(self.population_size), 1 if forest is None else self.candidate_ratio)
        members = points_of(members_of(evolution, state), ask)
        points, kept = breed(space, members, slots, self.crossover_rate, ask, key)
        if not len(points):
            return nothing_left(space, ask)
        why = f"crosses of {self.population_size} members with mutants"
        if forest is not None:
            why += f", the {self.population_size} of {len(points)} predicted to be fastest"
            predicted = forest.predict(space.features(points)).round(DECIMALS)
            fastest = np.lexsort((*points.T[::-1], predicted))[: self.population_size]  # ties by the point
            points, kept = points[fastest], kept[fastest]
        if forest is None:
            order = promising_first(space, ask.archive.whole, points)
            points, kept = points[order], kept[order]
        return Proposals(points, kept, state.last + 1, why)

    def observe(self, space: Space, state: Past[Members], seen: tuple[Observation, ...]) -> Past[Members]:
        return observed(self.evolution, state, seen)

    def surrogate(self, space: Space, table: Table, known: Archive) -> Forest | None:
        """The regressor that chooses for the next generation, as it was fitted last; None below the threshold.

        It knows what was known, of all that was ever measured, when that fit was due: at the first generation above the
        threshold, and then every `refit_frequency` of them.
        """
        generations = np.arange(first_generation(table) + 1, int(table["generation"].max()) + 2)
        first = [table["trial"][table["generation"] >= each].min(initial=UNASKED) for each in generations]
        sizes = np.searchsorted(known.trials, first)
        above = np.flatnonzero(sizes >= self.surrogate_threshold)
        if not len(above):
            return None
        fits = above[0] + (len(generations) - 1 - above[0]) // self.refit_frequency * self.refit_frequency
        return regressor(space, known, int(sizes[fits]), self.n_estimators)


def regressor(space: Space, archive: Archive, first: int, trees: int) -> Forest:
    """A forest for the logarithm of the time, by the `first` trials; what failed counts as the slowest of them."""
    ok, values = archive.ok[:first], np.zeros(first)
    np.log(archive.time_ms[:first], out=values, where=ok)
    values[~ok] = values[ok].max(initial=-np.inf)
    return fit_regressor(space.features(archive.points[:first]), values, trees)
