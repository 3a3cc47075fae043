"""Differential evolution over mixed integer points, and the hybrid in which a random forest filters its trials.

Storn and Price, "Differential evolution: a simple and efficient heuristic for global optimization over continuous
spaces", J. Global Optimization 11 (1997). Each slot i of the population has a member x_i. In a generation every slot
gets a trial: x_i crossed with the mutant x_a + (x_b - x_c) of three other members; the faster of the two stays. Each
parameter kind defines its own differences (`ParameterKind.mutate`).

The hybrid breeds several times as many trials as it measures, and a forest that has learnt the times chooses among
them: Jin, "Surrogate-assisted evolutionary computation: recent advances and future challenges", Swarm and Evolutionary
Computation 1 (2011). It is the DESurrogateHybrid of Helion, except that the forest learns from all observations,
failures included, and that a trial duels with its own parent.
"""

import numpy as np
from numpy.typing import NDArray

from autotune.core.arguments import AtLeast0, AtLeast1, AtLeast4, Nonnegative, Positive, PositiveShare, Proportion
from autotune.core.history import Archive, Points
from autotune.core.keys import Key, fold, permutations
from autotune.core.models.forest import Forest, fit_regressor
from autotune.core.models.ordering import promising_first
from autotune.core.parameters import Codes
from autotune.core.points import first_of_each
from autotune.core.space import Space
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
from autotune.core.strategies.protocol import (
    ArchiveStrategy,
    Ask,
    AwaitOutcome,
    Done,
    Proposals,
    Seeds,
    done_with_space,
)

TRIES = 10
"""The times that a trial is bred, if it breaks a constraint or is not new, before a random point takes its place."""

CROSSES_AT_ONCE = 100
"""Where all tries that are left make at most this number of crosses, they are bred together: one call costs as much."""

DECIMALS = 9
"""Decimals to which predictions are rounded before they are ranked, so that no last bit decides."""

_NEVER = np.iinfo(np.int64).max
"""Later than the number of any trial."""


# Settings of both classes may be given without a name, in the order of Helion's classes: they are not keyword-only.


class DifferentialEvolutionSearch(ArchiveStrategy, frozen=True, tag="differential_evolution", omit_defaults=True):
    """A population whose members duel with a cross of themselves and the mutant a + (b - c) of three others.

    population_size: members; twice as many are drawn at first. initial_share: the share of these that is measured, the
    most promising ones, and more while fewer than `population_size` different ones have worked; 1.0: all.
    max_generations: of `population_size` trials each, after the initial one. crossover_rate: the share of the mutant.
    immediate_update: True breeds and measures one trial at a time, from a population that is always up to date; False a
    generation; None leaves it to the plan: True for an evaluator that takes one config at a time, else False.
    min_improvement_delta, patience: end when the best improves by less than this, relatively, for that many
    generations; None: off.
    initial_population_strategy: None leaves it to the effort.
    compile_timeout_quantile, compile_timeout_lower_bound: after the initial population, a compile may take this
    quantile of the compile times so far, but at least the lower bound, in seconds.
    """

    population_size: AtLeast4 = 40
    max_generations: AtLeast0 = 40
    crossover_rate: Proportion = 0.8
    immediate_update: bool | None = None
    min_improvement_delta: Nonnegative | None = None
    patience: AtLeast1 | None = None
    initial_population_strategy: InitialPopulationStrategy | None = None
    compile_timeout_lower_bound: Positive = 30.0
    compile_timeout_quantile: Proportion = 0.9
    initial_share: PositiveShare = INITIAL_SHARE

    def init(self, space: Space, seeds: Seeds, key: Key) -> InitialPopulation:
        twice, kind = 2 * self.population_size, self.initial_population_strategy
        return begin(kind, space, seeds, twice, key, share=self.initial_share, wanted=self.population_size)

    def propose(self, space: Space, state: InitialPopulation, ask: Ask, key: Key) -> Proposals | AwaitOutcome | Done:
        first = propose_initial(space, state, ask, 2 * self.population_size, self.max_generations, key)
        if first is not None:
            return first
        table = ask.archive.latest
        if (done := check_end(self, table, bool(self.immediate_update))) is not None:
            return done
        slots, generation = np.arange(self.population_size), last_generation(table) + 1
        if self.immediate_update:
            nth, slot = divmod(_count_bred(table), self.population_size)
            slots, generation = slots[slot : slot + 1], first_generation(table) + 1 + nth
        members = ask.archive.asked.rows[find_members(table, self.population_size)]
        points, parents = breed(space, members, slots, self.crossover_rate, ask, key)
        if not len(points):
            return done_with_space(space, ask)
        order = promising_first(space, ask.archive.whole, points)
        return Proposals(points[order], parents[order], generation, f"crosses of {len(points)} members with mutants")


# The population


def find_members(table: Table, size: int) -> NDArray[np.int64]:
    """The trial of the member in each slot [size], after these trials, some of which have worked.

    The first members are the best of the initial population in the order of their trials; too few of them are repeated.
    A member is the fastest trial of its slot, the first of equals.
    """
    begun = table["generation"] <= first_generation(table)
    population = table[begun]
    best = population[np.sort(rank_timed(population)[:size])]
    slots = np.arange(size)
    bred = table[~begun & table["ok"]]
    rivals = np.concatenate([best[slots % len(best)], bred])
    slot = np.concatenate([slots, bred["walk"] % size])
    order = np.lexsort((rivals["trial"], rivals["time_ms"], slot))
    members: NDArray[np.int64] = rivals["trial"][order[np.searchsorted(slot[order], slots)]]
    return members


def check_end(
    strategy: "DifferentialEvolutionSearch | DESurrogateHybrid", table: Table, one_by_one: bool = False
) -> Done | None:
    """The reason why there is no further generation, once there is a population; None while there is one.

    one_by_one: whether a generation is bred trial by trial, and may be under way.
    """
    count, most = _count_bred(table), strategy.max_generations
    if one_by_one and count % strategy.population_size:
        return None
    generations = last_generation(table) - first_generation(table)  # one cut short by a full space counts
    if count >= most * strategy.population_size or generations >= most:
        return Done(f"{most} generations were evaluated")
    if _has_converged(table, strategy.min_improvement_delta, strategy.patience):
        return Done(f"the best has not improved for {strategy.patience} generations")
    return None


def _has_converged(table: Table, delta: float | None, patience: int | None) -> bool:
    """Whether the last `patience` generations each improved the best by less than `delta`."""
    last = last_generation(table)
    if delta is None or patience is None or last - first_generation(table) < patience:
        return False
    best = [
        table["time_ms"][table["ok"] & (table["generation"] <= generation)].min()
        for generation in range(last - patience, last + 1)
    ]
    ratios = np.array(best[1:]) / np.array(best[:-1])
    return bool((np.abs(ratios - 1) < delta).all())


def _count_bred(table: Table) -> int:
    """The number of trials after the initial population."""
    return int((table["generation"] > first_generation(table)).sum())


# Breeding


def breed(
    space: Space, members: Codes, slots: NDArray[np.int64], rate: float, ask: Ask, key: Key
) -> tuple[Codes, NDArray[np.int64]]:
    """A valid new point for each slot, as far as there are any: points [m, columns] and the slot of each [m]."""
    points = np.empty((0, space.columns), np.int64)
    left, found, tried = slots, slots[:0], 0
    while len(left) and tried < TRIES:
        many = TRIES - tried if len(left) * (TRIES - tried) <= CROSSES_AT_ONCE else 1
        place = np.tile(np.arange(len(left)), many)
        trials = cross(space, members, left[place], rate, fold(key, "try", tried))
        usable = np.flatnonzero(ask.fresh(trials) & space.valid(trials))
        new = first_of_each(np.concatenate([points, trials[usable]]))
        new = usable[new[new >= len(points)] - len(points)]
        new = new[np.unique(place[new], return_index=True)[1]]  # the first try of each slot
        points, found = np.concatenate([points, trials[new]]), np.concatenate([found, left[place[new]]])
        left = np.delete(left, place[new])
        tried += many
    if len(left):
        bred = Points(space.columns).append(points)
        drawn = space.sample_distinct(fold(key, "random"), len(left), lambda rows: ask.fresh(rows) & bred.unseen(rows))
        points, found = np.concatenate([points, drawn]), np.concatenate([found, left[: len(drawn)]])
    order = np.argsort(found, kind="stable")
    return points[order], found[order]


def cross(space: Space, members: Codes, slots: NDArray[np.int64], rate: float, key: Key) -> Codes:
    """One trial for each slot: its member crossed with the mutant of three others; constraints aside.

    Where b and c are the same point, as in a population of equals, their difference is nothing: the mutant is then
    drawn at random.
    """
    others = permutations(fold(key, "others"), len(slots), len(members) - 1)[:, :3]
    others = others + (others >= slots[:, None])
    a, b, c = (members[others[:, i]] for i in range(3))
    mutants = space.mutate(a, b, c, fold(key, "mutate"))
    equal = (b == c).all(axis=1)
    if equal.any():
        mutants[equal] = space.sample(fold(key, "equals"), int(equal.sum()))
    return space.crossover(members[slots], mutants, rate, fold(key, "cross"))


# The hybrid


class DESurrogateHybrid(ArchiveStrategy, frozen=True, tag="de_surrogate_hybrid", omit_defaults=True):
    """Differential evolution in which a regressor predicts which of many crosses are worth measuring.

    surrogate_threshold: the evaluations before the first fit; until then, it is differential evolution.
    candidate_ratio: `population_size` times this number of crosses are bred, and the `population_size` predicted to be
    fastest measured.
    refit_frequency: the generations between two fits of the regressor. n_estimators: its trees.
    population_size: members; twice as many are drawn at first. initial_share: the share of these that is measured, the
    most promising ones, and more while fewer than `population_size` different ones have worked; 1.0: all.
    max_generations: of `population_size` trials each, after the initial one. crossover_rate: the share of the mutant.
    min_improvement_delta, patience: end when the best improves by less than this, relatively, for that many
    generations; None: off.
    initial_population_strategy: None leaves it to the effort.
    compile_timeout_quantile, compile_timeout_lower_bound: after the initial population, a compile may take this
    quantile of the compile times so far, but at least the lower bound, in seconds.
    """

    population_size: AtLeast4 = 40
    max_generations: AtLeast0 = 40
    crossover_rate: Proportion = 0.8
    surrogate_threshold: AtLeast0 = 100
    candidate_ratio: AtLeast1 = 3
    refit_frequency: AtLeast1 = 5
    n_estimators: AtLeast1 = 50
    min_improvement_delta: Nonnegative | None = 0.001
    patience: AtLeast1 | None = 3
    initial_population_strategy: InitialPopulationStrategy | None = None
    compile_timeout_lower_bound: Positive = 30.0
    compile_timeout_quantile: Proportion = 0.9
    initial_share: PositiveShare = INITIAL_SHARE

    def init(self, space: Space, seeds: Seeds, key: Key) -> InitialPopulation:
        twice, kind = 2 * self.population_size, self.initial_population_strategy
        return begin(kind, space, seeds, twice, key, share=self.initial_share, wanted=self.population_size)

    def propose(self, space: Space, state: InitialPopulation, ask: Ask, key: Key) -> Proposals | AwaitOutcome | Done:
        first = propose_initial(space, state, ask, 2 * self.population_size, self.max_generations, key)
        if first is not None:
            return first
        table = ask.archive.latest
        if (done := check_end(self, table)) is not None:
            return done
        forest = self.surrogate(space, table, ask.archive.whole)
        slots = np.repeat(np.arange(self.population_size), 1 if forest is None else self.candidate_ratio)
        members = ask.archive.asked.rows[find_members(table, self.population_size)]
        points, parents = breed(space, members, slots, self.crossover_rate, ask, key)
        if not len(points):
            return done_with_space(space, ask)
        why = f"crosses of {self.population_size} members with mutants"
        if forest is None:
            order = promising_first(space, ask.archive.whole, points)
        else:
            why += f", the {self.population_size} of {len(points)} predicted to be fastest"
            predicted = forest.predict(space.features(points)).round(DECIMALS)
            order = np.lexsort((*points.T[::-1], predicted))[: self.population_size]  # ties by the point
        return Proposals(points[order], parents[order], last_generation(table) + 1, why)

    def surrogate(self, space: Space, table: Table, archive: Archive) -> Forest | None:
        """The regressor as it was fitted last; None below the threshold.

        A fit is due at the first generation above the threshold, and then every `refit_frequency` generations; it
        learns from all observations of trials before the first one of that generation.
        """
        generations = np.arange(first_generation(table) + 1, last_generation(table) + 2)
        first = [table["trial"][table["generation"] >= each].min(initial=_NEVER) for each in generations]
        sizes = np.searchsorted(archive.trials, first)
        above = np.flatnonzero(sizes >= self.surrogate_threshold)
        if not len(above):
            return None
        due = above[0] + (len(generations) - 1 - above[0]) // self.refit_frequency * self.refit_frequency
        return fit_log_times(space, archive, int(sizes[due]), self.n_estimators)


def fit_log_times(space: Space, archive: Archive, n: int, trees: int) -> Forest:
    """A forest that predicts the logarithm of the time, from the first `n` trials; a failure counts as the slowest."""
    ok, values = archive.ok[:n], np.zeros(n)
    np.log(archive.time_ms[:n], out=values, where=ok)
    values[~ok] = values[ok].max(initial=-np.inf)
    return fit_regressor(space.features(archive.points[:n]), values, trees)
