"""Differential evolution over mixed integer points.

Storn and Price, "Differential evolution: a simple and efficient heuristic for global optimization over continuous
spaces", J. Global Optimization 11 (1997). Mutation is defined by each parameter kind (`ParameterKind.mutate`).
"""

from typing import NamedTuple, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.history import Archive
from autotune.core.keys import Key, fold, permutations
from autotune.core.models.forest import Forest, fit_regressor
from autotune.core.models.ordering import promising_first
from autotune.core.parameters import Codes
from autotune.core.points import first_of_each
from autotune.core.space import Space
from autotune.core.strategies.population import (
    BETTER,
    HasPopulation,
    InitialPopulationStrategy,
    Past,
    Table,
    begun,
    checked_population,
    checked_share,
    first_generation,
    initial_proposals,
    members_of,
    observed,
    ranked,
)
from autotune.core.strategies.protocol import Ask, Done, Observation, Proposals, Seeds, Wait, nothing_left, require

TRIES = 10
"""How often a trial is bred again when it breaks a constraint or is not new, before a random point takes its place."""

AT_ONCE = 100
"""Where all tries that are left make no more crosses than this, they are bred together."""


class Member(NamedTuple):
    """A member of the population: its time and its trial. The lesser of two is the faster, or the first of equals."""

    time_ms: float
    trial: int


Members = tuple[Member, ...]
"""One for each slot."""


class DifferentialEvolutionSearch(Struct, frozen=True, tag="differential_evolution", omit_defaults=True):
    """A population whose members duel with a cross of themselves and the mutant a + (b - c) of three others.

    population_size: members; twice as many are drawn at first. initial_share: of these so many are measured, those that
    look best, and more while fewer than `population_size` different ones have worked; 1.0: all.
    max_generations: of `population_size` trials each, after the initial one. crossover_rate: the share of the mutant.
    immediate_update: True breeds and measures one trial at a time, from a population that is always up to date; False a
    generation; None leaves it to the plan: True for an evaluator that takes one config at a time, else False.
    min_improvement_delta, patience: end when the best improves by less than this, relatively, for that many
    generations; None: off.
    initial_population_strategy: None leaves it to the effort. compile_timeout_*: see `limits.compile_timeout`.
    """

    population_size: int = 40
    max_generations: int = 40
    crossover_rate: float = 0.8
    immediate_update: bool | None = None
    min_improvement_delta: float | None = None
    patience: int | None = None
    initial_population_strategy: InitialPopulationStrategy | None = None
    compile_timeout_lower_bound: float = 30.0
    compile_timeout_quantile: float = 0.9
    initial_share: float = BETTER

    def __post_init__(self) -> None:
        checked_evolution("differential_evolution", self)

    def init(self, space: Space, seeds: Seeds, key: Key) -> Past[Members]:
        twice, kind = 2 * self.population_size, self.initial_population_strategy
        return begun(kind, space, seeds, twice, key, share=self.initial_share, wanted=self.population_size)

    def propose(self, space: Space, state: Past[Members], ask: Ask, key: Key) -> Proposals | Wait | Done:
        first = initial_proposals(space, state, ask, 2 * self.population_size, self.max_generations, key)
        if first is not None:
            return first
        table = state.table
        if (ended := self.ended(table)) is not None:
            return ended
        slots, generation = np.arange(self.population_size), state.last + 1
        if self.immediate_update:
            nth, slot = divmod(bred(table), self.population_size)
            slots, generation = slots[slot : slot + 1], first_generation(table) + 1 + nth
        members = members_of(self, state)
        points, kept = breed(space, points_of(members, ask), slots, self.crossover_rate, ask, key)
        if not len(points):
            return nothing_left(space, ask)
        order = promising_first(space, ask.archive.whole, points)
        return Proposals(points[order], kept[order], generation, f"crosses of {len(points)} members with mutants")

    def observe(self, space: Space, state: Past[Members], seen: tuple[Observation, ...]) -> Past[Members]:
        return observed(self, state, seen)

    def first_members(self, population: Table) -> Members:
        """The best of the initial population in the order of their trials; too few of them are repeated."""
        best = population[np.sort(ranked(population)[: self.population_size])]
        members = [Member(*each) for each in zip(best["time_ms"].tolist(), best["trial"].tolist(), strict=True)]
        return tuple(members[i % len(members)] for i in range(self.population_size))

    def next_members(self, members: Members, batch: Table) -> Members:
        """The members after a generation: each slot's is the fastest that was tried in it, the first of equals."""
        after, timed = list(members), batch[batch["ok"]]
        columns = (timed[name].tolist() for name in ("walk", "time_ms", "trial"))
        for walk, time, trial in zip(*columns, strict=True):
            slot = walk % self.population_size
            after[slot] = min(after[slot], Member(time, trial))
        return tuple(after)

    def ended(self, table: Table) -> Done | None:
        """Why there is no further generation, once there is a population; None while there is one."""
        count = bred(table)
        if self.immediate_update and count % self.population_size:
            return None
        generations = int(table["generation"].max()) - first_generation(table)  # one cut short by a full space counts
        if count >= self.max_generations * self.population_size or generations >= self.max_generations:
            return Done(f"{self.max_generations} generations were evaluated")
        if self._converged(table):
            return Done(f"the best has not improved for {self.patience} generations")
        return None

    def _converged(self, table: Table) -> bool:
        """Whether the last `patience` generations each improved the best by less than `min_improvement_delta`."""
        if self.min_improvement_delta is None or self.patience is None:
            return False
        last = int(table["generation"].max(initial=0))
        if last - first_generation(table) < self.patience:
            return False
        best = [
            table["time_ms"][table["ok"] & (table["generation"] <= generation)].min()
            for generation in range(last - self.patience, last + 1)
        ]
        ratios = np.array(best[1:]) / np.array(best[:-1])
        return bool((np.abs(ratios - 1) < self.min_improvement_delta).all())


def bred(table: Table) -> int:
    """How many trials came after the initial population."""
    return int((table["generation"] > first_generation(table)).sum())


def points_of(members: Members, ask: Ask) -> Codes:
    """The points [population_size, columns] of the members."""
    points: Codes = ask.archive.asked.rows[[member.trial for member in members]]
    return points


class HasEvolution(HasPopulation, Protocol):
    """The settings of every strategy that evolves."""

    @property
    def initial_share(self) -> float: ...
    @property
    def population_size(self) -> int: ...
    @property
    def max_generations(self) -> int: ...
    @property
    def crossover_rate(self) -> float: ...
    @property
    def min_improvement_delta(self) -> float | None: ...
    @property
    def patience(self) -> int | None: ...


def checked_evolution(name: str, settings: HasEvolution) -> None:
    """Raises StrategyError for settings out of range."""
    delta, patience = settings.min_improvement_delta, settings.patience
    checked_population(name, settings)
    checked_share(name, settings.initial_share)
    require(settings.population_size >= 4, name, "population_size", settings.population_size, "at least 4")
    require(settings.max_generations >= 0, name, "max_generations", settings.max_generations, "at least 0")
    require(0 <= settings.crossover_rate <= 1, name, "crossover_rate", settings.crossover_rate, "a number from 0 to 1")
    require(delta is None or delta >= 0, name, "min_improvement_delta", delta, "at least 0, or None")
    require(patience is None or patience >= 1, name, "patience", patience, "at least 1, or None")


def breed(
    space: Space, members: Codes, slots: NDArray[np.int64], rate: float, ask: Ask, key: Key
) -> tuple[Codes, NDArray[np.int64]]:
    """A valid new point for each slot, as far as there are any: points [m, columns] and their slots [m]."""
    points = np.empty((0, space.columns), np.int64)
    left, kept, tried = slots, slots[:0], 0
    while len(left) and tried < TRIES:
        many = TRIES - tried if len(left) * (TRIES - tried) <= AT_ONCE else 1
        place = np.tile(np.arange(len(left)), many)
        bred = crossed(space, members, left[place], rate, fold(key, "try", tried))
        usable = np.flatnonzero(ask.fresh(bred) & space.valid(bred))
        new = first_of_each(np.concatenate([points, bred[usable]]))
        new = usable[new[new >= len(points)] - len(points)]
        new = new[np.unique(place[new], return_index=True)[1]]
        points, kept = np.concatenate([points, bred[new]]), np.concatenate([kept, left[place[new]]])
        left = np.delete(left, place[new])
        tried += many
    if len(left):
        taken = {row.tobytes() for row in points}

        def unseen(rows: Codes) -> NDArray[np.bool_]:
            other = np.array([row.tobytes() not in taken for row in rows], bool)
            new: NDArray[np.bool_] = ask.fresh(rows) & other
            return new

        drawn = space.sample_distinct(fold(key, "random"), len(left), unseen)
        points, kept = np.concatenate([points, drawn]), np.concatenate([kept, left[: len(drawn)]])
    order = np.argsort(kept, kind="stable")
    return points[order], kept[order]


def crossed(space: Space, members: Codes, slots: NDArray[np.int64], rate: float, key: Key) -> Codes:
    """One trial for each slot: its member crossed with a mutant of three others; constraints aside.

    Where b and c are the same point the difference is nothing, as in a population of equals: the mutant is then drawn
    at random.
    """
    others = permutations(fold(key, "others"), len(slots), len(members) - 1)[:, :3]
    others = others + (others >= slots[:, None])
    a, b, c = (members[others[:, i]] for i in range(3))
    mutants = space.mutate(a, b, c, fold(key, "mutate"))
    equal = (b == c).all(axis=1)
    if equal.any():
        mutants[equal] = space.sample(fold(key, "equals"), int(equal.sum()))
    return space.crossover(members[slots], mutants, rate, fold(key, "cross"))


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
