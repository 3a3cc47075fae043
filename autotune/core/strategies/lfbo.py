"""Likelihood-free Bayesian optimisation: what the strategies that walk by a classifier of good and bad configs share.

Song et al., "A general recipe for likelihood-free Bayesian optimization", ICML 2022: a classifier of "among the best",
its positives weighted by how much better they are, estimates the expected improvement up to a constant. Failures are
negatives like any other, so they teach as well.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.history import Archive
from autotune.core.keys import Key, fold, integers, permutation, uniform
from autotune.core.models.forest import Features, Forest, fit_classifier, similarity_to
from autotune.core.models.ordering import promising_first
from autotune.core.parameters import BLOCK_SIZE, NUM_WARPS, Codes
from autotune.core.points import first_of_each
from autotune.core.space import Space
from autotune.core.strategies.moves import Axis, axes, perturbed
from autotune.core.strategies.pattern_search import Walks, first_walks, moved
from autotune.core.strategies.population import (
    BETTER,
    Generations,
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
)
from autotune.core.strategies.protocol import Ask, Done, Observation, Proposals, Seeds, Wait, require

DECIMALS = 9
"""Scores are rounded to so many before they are ranked, so that no last bit decides."""

LEAST_GAIN_MS = 1e-5
"""The gain over the threshold, in milliseconds, that a positive counts for at least."""

Generate = Callable[[Forest | None, Codes, int, Key], tuple[Codes, NDArray[np.int64]]]
"""Candidates around the starts [w, columns], with the start of each, by the model if there is one; constraints aside.
The arguments are the model, the starts, the generation (from 1) and a key."""


class HasWalks(HasPopulation, Generations[Walks], Protocol):
    """The settings that both strategies have."""

    @property
    def initial_population(self) -> int: ...
    @property
    def initial_share(self) -> float: ...
    @property
    def copies(self) -> int: ...
    @property
    def max_generations(self) -> int: ...
    @property
    def min_improvement_delta(self) -> float: ...
    @property
    def frac_selected(self) -> float: ...
    @property
    def num_neighbors(self) -> int: ...
    @property
    def radius(self) -> int: ...
    @property
    def quantile(self) -> float: ...
    @property
    def patience(self) -> int: ...
    @property
    def similarity_penalty(self) -> float: ...


def checked_walks(name: str, settings: HasWalks) -> None:
    """Raises StrategyError for settings out of range."""
    checked_population(name, settings)
    checked_share(name, settings.initial_share)
    least = {"initial_population": 1, "copies": 1, "max_generations": 0, "num_neighbors": 1, "radius": 1, "patience": 0}
    for setting, lowest in least.items():
        value = getattr(settings, setting)
        require(value >= lowest, name, setting, value, f"at least {lowest}")
    delta, penalty = settings.min_improvement_delta, settings.similarity_penalty
    require(delta >= 0, name, "min_improvement_delta", delta, "at least 0")
    require(0 < settings.frac_selected <= 1, name, "frac_selected", settings.frac_selected, "a number above 0 up to 1")
    require(0 < settings.quantile < 1, name, "quantile", settings.quantile, "a number between 0 and 1")
    require(0 <= penalty < math.inf, name, "similarity_penalty", penalty, "at least 0")


def next_batch(
    settings: HasWalks, space: Space, state: Past[Walks], ask: Ask, key: Key, generate: Generate
) -> Proposals | Done:
    """The next generation of every walk that goes on, once there is a population and nothing is pending."""
    known, generation = ask.archive.whole, max(state.last, 0) + 1
    if generation > settings.max_generations:
        return Done(f"{settings.max_generations} generations were evaluated")
    walks = members_of(settings, state)
    alive = np.array([i for i, walk in enumerate(walks) if walk.alive], np.int64)
    if not len(alive):
        return Done("every walk has ended")
    forest = classifier(space, known, settings.quantile)
    starts = ask.archive.asked.rows[[walks[i].trial for i in alive]]
    rows, origin = generate(forest, starts, generation - first_generation(state.table), fold(key, "candidates"))
    first = first_of_each(rows)
    first = first[ask.fresh(rows[first])]
    usable = first[space.valid(rows[first])]
    chosen = usable[_chosen(settings, space, forest, rows[usable], origin[usable], fold(key, "select"))]
    if not len(chosen):
        return Done("the walks have no new neighbours")
    chosen = chosen[promising_first(space, known, rows[chosen])]
    how = "by a forest" if forest else "at random"
    why = f"{len(chosen)} of {len(usable)} neighbours of {len(alive)} walks, {how}"
    return Proposals(rows[chosen], alive[origin[chosen]], generation, why)


def _chosen(
    settings: HasWalks, space: Space, forest: Forest | None, rows: Codes, origin: NDArray[np.int64], key: Key
) -> NDArray[np.int64]:
    """The indices of the candidates [n, columns] to measure, each walk's own share of its own ones, best first."""
    order = np.lexsort(rows.T[::-1])  # from here on the first of equals is the lowest point
    leaves = None if forest is None else forest.leaves(space.features(rows[order]))
    chosen = []
    for i in np.unique(origin):
        mine = np.flatnonzero(origin[order] == i)
        count = math.ceil(len(mine) * settings.frac_selected)
        if forest is None or leaves is None:
            picked = permutation(fold(key, int(i)), len(mine))[:count]
        else:
            picked = greedy(forest.mean(leaves[mine]), leaves[mine], count, settings.similarity_penalty)
        chosen.append(order[mine[picked]])
    return np.concatenate([np.empty(0, np.int64), *chosen])


def greedy(
    probability: NDArray[np.float64], leaves: NDArray[np.int64], count: int, penalty: float
) -> NDArray[np.int64]:
    """The indices of `count` of n points: the most probable, then always the best of what is probable and different.

    A point scores its probability [n] less `penalty` times its mean similarity to those selected, by their leaves
    [n, trees]. Equal scores go to the first point.
    """
    likeness = np.zeros(len(probability))
    score = probability.round(DECIMALS)
    selected: list[int] = []
    while len(selected) < count:
        best = int(np.argmax(score))
        selected.append(best)
        likeness += similarity_to(leaves, best)
        score = (probability - penalty * likeness / len(selected)).round(DECIMALS)
        score[selected] = -np.inf
    return np.array(selected, np.int64)


def classifier(space: Space, archive: Archive, quantile: float) -> Forest | None:
    """A forest that tells good configs from bad ones; None while there is only one sort."""
    labels, weights = labelled(archive, quantile)
    if labels.all() or not labels.any():
        return None
    return fit_classifier(space.features(archive.points), labels, weights)


def labelled(archive: Archive, quantile: float) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which configs [n] are good, and what each counts for [n].

    Good is what is no slower than the quantile of all times; it counts for its gain over that, 1 in the mean. All else,
    failures included, counts for 1.
    """
    times, ok = archive.time_ms, archive.ok
    weights = np.ones(len(archive))
    if not ok.any():
        return ok, weights
    threshold = max(float(np.quantile(times[ok], quantile)), float(times[ok].min()))  # at least one is good
    good = ok & (times <= threshold)
    gains = np.maximum(threshold - times[good], LEAST_GAIN_MS)
    gains /= gains.max()  # huge ones would overflow in the mean
    weights[good] = gains / gains.mean()
    return good, weights


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


class LFBOTreeSearch(Struct, frozen=True, tag="lfbo_tree_search", omit_defaults=True):
    """The `copies` best of the initial population each walk to where single trees of a classifier lead them.

    The first generation draws neighbours as lfbo_pattern_search does; from the second one on each comes from a random
    tree (`guided`). num_neighbors: so many for each walk and generation. frac_selected: the share of them
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


WIDEST = 64
"""At most this many neighbours on an axis are looked at in one generation, drawn at random."""


class Options(NamedTuple):
    """Where each of w starts can go on each axis: the start itself, then its neighbours.

    rows [m, columns] and their features [m, features]; those of start i on axis j are sizes[i, j] from first[i, j] on.
    """

    rows: Codes
    features: Features
    first: NDArray[np.int64]
    sizes: NDArray[np.int64]


def guided(
    space: Space, forest: Forest, starts: Codes, trials: int, radius: int, key: Key
) -> tuple[Codes, NDArray[np.int64]]:
    """The points that `trials` walks down random trees lead to from each of the starts [w, columns].

    A trial follows its start down its tree and notes the axes split on, then a random block size and the warps; on each
    in turn it moves to the best of the values within `radius`, by that one tree, ties at random. Returns rows
    [w * trials, columns], repeats and the starts among them, and the start of each; constraints aside.
    """
    parts = axes(space)
    origin = np.repeat(np.arange(len(starts)), trials)
    trees = integers(fold(key, "tree"), len(forest), len(origin))
    options = reachable(space, parts, starts, radius, fold(key, "widest"))
    rows, features = starts[origin], space.features(starts)[origin]
    order = itinerary(parts, forest.paths(features, trees), fold(key, "block"))
    of_columns = np.array([_within(axis.columns, space.columns) for axis in parts])
    of_features = np.array([_within(axis.features, features.shape[1]) for axis in parts])
    for step in range(order.shape[1]):
        going = np.flatnonzero(order[:, step] >= 0)
        axis, start = order[going, step], origin[going]
        count = options.sizes[start, axis]
        begin = np.cumsum(count) - count
        each = np.repeat(np.arange(len(going)), count)
        option = options.first[start, axis][each] + np.arange(len(each)) - begin[each]
        tried = np.where(of_features[axis[each]], options.features[option], features[going[each]])
        scores = forest.value[forest.descend(tried, trees[going[each]])]
        best = option[best_of_each(scores, each, begin, fold(key, "tie", step))]
        rows[going] = np.where(of_columns[axis], options.rows[best], rows[going])
        features[going] = np.where(of_features[axis], options.features[best], features[going])
    return rows, origin


def reachable(space: Space, parts: tuple[Axis, ...], starts: Codes, radius: int, key: Key) -> Options:
    """The options of every start [w, columns] on every axis."""
    blocks = []
    for i, row in enumerate(starts):
        for j, axis in enumerate(parts):
            near = axis.near(row, radius)
            if len(near) > WIDEST:
                near = near[permutation(fold(key, i, j), len(near))[:WIDEST]]
            blocks += [row[None], near]
    count = np.array([len(block) for block in blocks], np.int64).reshape(len(starts), len(parts), 2).sum(axis=2)
    first = np.cumsum(count).reshape(count.shape) - count
    rows = np.concatenate(blocks)
    return Options(rows, space.features(rows), first, count)


def itinerary(parts: tuple[Axis, ...], path: NDArray[np.int64], key: Key) -> NDArray[np.int64]:
    """The axes each of n trials takes, in order: [n, steps], filled up with -1.

    Those of the features on its decision path [n, depth], then a random block size and the warps; each axis once.
    """
    n = len(path)
    of_feature = np.concatenate([np.full(axis.features.stop - axis.features.start, i) for i, axis in enumerate(parts)])
    columns = [np.where(path >= 0, of_feature[path], -1)]
    for role in (BLOCK_SIZE, NUM_WARPS):
        those = np.array([i for i, axis in enumerate(parts) if axis.role == role], np.int64)
        if len(those):
            columns.append(those[integers(fold(key, role), len(those), n)][:, None])
    order = np.concatenate(columns, axis=1)
    for step in range(1, order.shape[1]):
        order[(order[:, :step] == order[:, step : step + 1]).any(axis=1), step] = -1
    order = np.take_along_axis(order, np.argsort(order < 0, axis=1, kind="stable"), axis=1)
    return order[:, : int((order >= 0).sum(axis=1).max(initial=0))]


def best_of_each(
    scores: NDArray[np.float64], each: NDArray[np.int64], begin: NDArray[np.int64], key: Key
) -> NDArray[np.int64]:
    """The index of the highest score [m] of every run of equal `each` [m], which begin at `begin`; ties at random."""
    rounded = scores.round(DECIMALS)
    luck = uniform(key, len(scores))
    luck[rounded < np.maximum.reduceat(rounded, begin)[each]] = -1.0
    winners = np.flatnonzero(luck == np.maximum.reduceat(luck, begin)[each])
    return winners[np.searchsorted(each[winners], np.arange(len(begin)))]


def _within(part: slice, n: int) -> NDArray[np.bool_]:
    mask = np.zeros(n, bool)
    mask[part] = True
    return mask
