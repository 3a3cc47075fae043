"""Likelihood-free Bayesian optimisation: walks to neighbours that a classifier of good and bad configs selects.

Song et al., "A general recipe for likelihood-free Bayesian optimization", ICML 2022. A config is good if its time y is
at most the threshold τ, a quantile of all times. A classifier of good configs, which weights each of them by its gain
τ - y and all others, failures included, by 1, estimates the expected improvement below τ up to a constant.

The parts in their order:

    labels         good or bad, and weights (`label_good`)
    model          a random forest with the log-loss criterion (`fit_good`)
    candidates     neighbours of each walk: random ones (LFBOPatternSearch, `draw_neighbours`), or from the second
                   generation on points that single trees lead to (LFBOTreeSearch, `follow_trees`)
    selection      greedy, by probability less similarity to the points already selected (`select_diverse`)
    walks          as in `pattern_search`

Both are searches of Helion. The trees as guides: Mišić, "Optimization of tree ensembles", Operations Research 68
(2020).
All trials of all walks take their next step together, so that a generation costs a few dozen numpy calls.
"""

import math
from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from autotune.core.arguments import AtLeast0, AtLeast1, Nonnegative, Positive, PositiveShare, Proportion
from autotune.core.history import Archive
from autotune.core.keys import Key, fold, integers, permutation, uniform
from autotune.core.models.forest import FeatureRows, Forest, fit_classifier, similarity_to
from autotune.core.models.ordering import promising_first
from autotune.core.parameters import BLOCK_SIZE, NUM_WARPS, Codes
from autotune.core.points import first_of_each
from autotune.core.space import Space
from autotune.core.strategies.moves import Coordinate, coordinates, perturb
from autotune.core.strategies.pattern_search import follow_walks
from autotune.core.strategies.population import (
    INITIAL_SHARE,
    InitialPopulation,
    InitialPopulationStrategy,
    begin,
    first_generation,
    last_generation,
    propose_initial,
)
from autotune.core.strategies.protocol import ArchiveStrategy, Ask, AwaitOutcome, Done, Proposals, Seeds

DECIMALS = 9
"""Decimals to which scores are rounded before they are ranked, so that no last bit decides."""

LEAST_GAIN_MS = 1e-5
"""A good config counts for a gain of at least this many milliseconds, as in Helion: one at the threshold has none."""

MOST_OPTIONS = 64
"""The most neighbours on a coordinate that are looked at in one generation, drawn at random: a choice of thousands of
values must not cost a multiple of the time."""


class LFBOPatternSearch(ArchiveStrategy, frozen=True, kw_only=True, tag="lfbo_pattern_search", omit_defaults=True):
    """The `copies` best of the initial population each walk among random neighbours that a classifier selects.

    copies: walks, from as many configs.
    initial_population: configs drawn to begin with. initial_share: the share of them that is measured, the most
    promising ones; 1.0: all.
    max_generations: batches after the initial one.
    min_improvement_delta, patience: a walk ends when abs(best / current - 1) is below this for more than `patience`
    generations in a row. frac_selected: the share of the neighbours that is measured.
    num_neighbors: drawn for each walk and generation. radius: how far block sizes and warps move (log2 for powers of
    two), and how many other parameters move. quantile: the share of the configs that is called good.
    similarity_penalty: the cost of similarity to the points already selected, in probability.
    initial_population_strategy: None leaves it to the effort.
    compile_timeout_quantile, compile_timeout_lower_bound: after the initial population, a compile may take this
    quantile of the compile times so far, but at least the lower bound, in seconds.
    """

    initial_population: AtLeast1 = 100
    copies: AtLeast1 = 5
    max_generations: AtLeast0 = 20
    min_improvement_delta: Nonnegative = 0.001
    frac_selected: PositiveShare = 0.1
    num_neighbors: AtLeast1 = 300
    radius: AtLeast1 = 2
    quantile: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    patience: AtLeast0 = 1
    similarity_penalty: Nonnegative = 1.0
    initial_population_strategy: InitialPopulationStrategy | None = None
    compile_timeout_lower_bound: Positive = 30.0
    compile_timeout_quantile: Proportion = 0.9
    initial_share: PositiveShare = INITIAL_SHARE

    def init(self, space: Space, seeds: Seeds, key: Key) -> InitialPopulation:
        kind, n = self.initial_population_strategy, self.initial_population
        return begin(kind, space, seeds, n, key, share=self.initial_share, walks=True)

    def propose(self, space: Space, state: InitialPopulation, ask: Ask, key: Key) -> Proposals | AwaitOutcome | Done:
        first = propose_initial(space, state, ask, self.initial_population, self.max_generations, key)
        if first is not None:
            return first
        table, archive = ask.archive.latest, ask.archive.whole
        generation = max(last_generation(table), 0) + 1
        if generation > self.max_generations:
            return Done(f"{self.max_generations} generations were evaluated")
        walks = follow_walks(table, self.copies, self.min_improvement_delta, self.patience)
        alive = np.array([i for i, walk in enumerate(walks) if walk.alive], np.int64)
        if not len(alive):
            return Done("every walk has ended")
        forest = fit_good(space, archive, self.quantile)
        starts = ask.archive.asked.rows[[walks[i].trial for i in alive]]
        first_batch = generation - first_generation(table) == 1
        rows, start = self._candidates(space, None if first_batch else forest, starts, fold(key, "candidates"))
        distinct = first_of_each(rows)
        distinct = distinct[ask.fresh(rows[distinct])]
        usable = distinct[space.valid(rows[distinct])]
        selected = usable[self._select(space, forest, rows[usable], start[usable], fold(key, "select"))]
        if not len(selected):
            return Done("the walks have no new neighbours")
        selected = selected[promising_first(space, archive, rows[selected])]
        how = "by a forest" if forest else "at random"
        why = f"{len(selected)} of {len(usable)} neighbours of {len(alive)} walks, {how}"
        return Proposals(rows[selected], alive[start[selected]], generation, why)

    def _candidates(
        self, space: Space, guide: Forest | None, starts: Codes, key: Key
    ) -> tuple[Codes, NDArray[np.int64]]:
        """Candidates [m, columns] around the starts [w, columns], and the start of each [m]; constraints aside.

        guide: the forest, None in the first generation of walks or where there is none.
        """
        return draw_neighbours(space, starts, self.num_neighbors, self.radius, key)

    def _select(
        self, space: Space, forest: Forest | None, rows: Codes, start: NDArray[np.int64], key: Key
    ) -> NDArray[np.int64]:
        """The indices of the candidates [n, columns] to measure, for each start its own share, best first."""
        order = np.lexsort(rows.T[::-1])  # so that the first of equal scores is the lowest point
        leaves = None if forest is None else forest.leaves(space.features(rows[order]))
        selected = []
        for i in np.unique(start):
            own = np.flatnonzero(start[order] == i)
            count = math.ceil(len(own) * self.frac_selected)
            if forest is None or leaves is None:
                picked = permutation(fold(key, int(i)), len(own))[:count]
            else:
                picked = select_diverse(forest.mean(leaves[own]), leaves[own], count, self.similarity_penalty)
            selected.append(order[own[picked]])
        return np.concatenate([np.empty(0, np.int64), *selected])


class LFBOTreeSearch(LFBOPatternSearch, frozen=True, kw_only=True, tag="lfbo_tree_search", omit_defaults=True):
    """The `copies` best of the initial population each walk to where single trees of a classifier lead them.

    The first generation draws neighbours as LFBOPatternSearch does; from the second one on each comes from a random
    tree (`follow_trees`), with moves within `radius`. The other settings are those of LFBOPatternSearch.
    """

    num_neighbors: AtLeast1 = 200

    def _candidates(
        self, space: Space, guide: Forest | None, starts: Codes, key: Key
    ) -> tuple[Codes, NDArray[np.int64]]:
        if guide is None:
            return draw_neighbours(space, starts, self.num_neighbors, self.radius, key)
        return follow_trees(space, guide, starts, self.num_neighbors, self.radius, key)


# The labels and the model


def label_good(archive: Archive, quantile: float) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which configs [n] are good, and the weight of each [n]: the gain over the threshold for good ones, 1 in the mean,
    and 1 for all others."""
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


def fit_good(space: Space, archive: Archive, quantile: float) -> Forest | None:
    """A forest that tells good configs from bad ones; None while all are of one sort."""
    good, weights = label_good(archive, quantile)
    if good.all() or not good.any():
        return None
    return fit_classifier(space.features(archive.points), good, weights)


# The candidates


def draw_neighbours(space: Space, starts: Codes, n: int, radius: int, key: Key) -> tuple[Codes, NDArray[np.int64]]:
    """`n` random points around each of the starts [w, columns]: rows [w * n, columns], and the start of each."""
    rows = [perturb(space, row, n, radius, fold(key, i)) for i, row in enumerate(starts)]
    return np.concatenate(rows), np.repeat(np.arange(len(starts)), n)


def follow_trees(
    space: Space, forest: Forest, starts: Codes, trials: int, radius: int, key: Key
) -> tuple[Codes, NDArray[np.int64]]:
    """The points that `trials` trials each, guided by random trees, reach from each of the starts [w, columns].

    A trial follows its start down its tree and notes the coordinates split on, then a random block size and the warps;
    on each in turn it moves to the best of the values within `radius`, by that one tree, ties at random. Returns rows
    [w * trials, columns], repeats and the starts among them, and the start of each; constraints aside.
    """
    parts = coordinates(space)
    start = np.repeat(np.arange(len(starts)), trials)
    trees = integers(fold(key, "tree"), len(forest), len(start))
    options = _list_options(space, parts, starts, radius, fold(key, "widest"))
    rows, features = starts[start], space.features(starts)[start]
    itinerary = plan_itineraries(parts, forest.paths(features, trees), fold(key, "block"))
    has_column = np.array([_mask(part.columns, space.columns) for part in parts])
    has_feature = np.array([_mask(part.features, features.shape[1]) for part in parts])
    for step in range(itinerary.shape[1]):
        going = np.flatnonzero(itinerary[:, step] >= 0)
        part, origin = itinerary[going, step], start[going]
        count = options.sizes[origin, part]
        first = np.cumsum(count) - count
        each = np.repeat(np.arange(len(going)), count)
        option = options.first[origin, part][each] + np.arange(len(each)) - first[each]
        tried = np.where(has_feature[part[each]], options.features[option], features[going[each]])
        scores = forest.value[forest.descend(tried, trees[going[each]])]
        best = option[_pick_best_of_runs(scores, each, first, fold(key, "tie", step))]
        rows[going] = np.where(has_column[part], options.rows[best], rows[going])
        features[going] = np.where(has_feature[part], options.features[best], features[going])
    return rows, start


class _MoveOptions(NamedTuple):
    """The options of each of w starts on each coordinate: the start itself, then its neighbours.

    rows [m, columns] and their features [m, d]; those of start i on coordinate j are sizes[i, j] from first[i, j] on.
    """

    rows: Codes
    features: FeatureRows
    first: NDArray[np.int64]
    sizes: NDArray[np.int64]


def _list_options(space: Space, parts: tuple[Coordinate, ...], starts: Codes, radius: int, key: Key) -> _MoveOptions:
    blocks = []
    for i, row in enumerate(starts):
        for j, part in enumerate(parts):
            near = part.neighbours(row, radius)
            if len(near) > MOST_OPTIONS:
                near = near[permutation(fold(key, i, j), len(near))[:MOST_OPTIONS]]
            blocks += [row[None], near]
    sizes = np.array([len(block) for block in blocks], np.int64).reshape(len(starts), len(parts), 2).sum(axis=2)
    first = np.cumsum(sizes).reshape(sizes.shape) - sizes
    rows = np.concatenate(blocks)
    return _MoveOptions(rows=rows, features=space.features(rows), first=first, sizes=sizes)


def plan_itineraries(parts: tuple[Coordinate, ...], path: NDArray[np.int64], key: Key) -> NDArray[np.int64]:
    """The coordinates each of n trials moves along, in order: indices [n, steps], filled up with -1.

    Those of the features on its decision path [n, depth], then a random block size and the warps; each coordinate once.
    """
    n = len(path)
    of_feature = np.concatenate([np.full(part.features.stop - part.features.start, i) for i, part in enumerate(parts)])
    columns = [np.where(path >= 0, of_feature[path], -1)]
    for role in (BLOCK_SIZE, NUM_WARPS):
        of_role = np.array([i for i, part in enumerate(parts) if part.role == role], np.int64)
        if len(of_role):
            columns.append(of_role[integers(fold(key, role), len(of_role), n)][:, None])
    order = np.concatenate(columns, axis=1)
    for step in range(1, order.shape[1]):
        order[(order[:, :step] == order[:, step : step + 1]).any(axis=1), step] = -1
    order = np.take_along_axis(order, np.argsort(order < 0, axis=1, kind="stable"), axis=1)
    return order[:, : int((order >= 0).sum(axis=1).max(initial=0))]


def _pick_best_of_runs(
    scores: NDArray[np.float64], run: NDArray[np.int64], first: NDArray[np.int64], key: Key
) -> NDArray[np.int64]:
    """The index of the highest score [m] of each run of equal `run` [m], which begin at `first`; ties at random."""
    rounded = scores.round(DECIMALS)
    luck = uniform(key, len(scores))
    luck[rounded < np.maximum.reduceat(rounded, first)[run]] = -1.0
    winners = np.flatnonzero(luck == np.maximum.reduceat(luck, first)[run])
    return winners[np.searchsorted(run[winners], np.arange(len(first)))]


def _mask(part: slice, n: int) -> NDArray[np.bool_]:
    mask = np.zeros(n, bool)
    mask[part] = True
    return mask


# The selection


def select_diverse(
    probability: NDArray[np.float64], leaves: NDArray[np.int64], count: int, penalty: float
) -> NDArray[np.int64]:
    """The indices of `count` of n points: the most probable one, then always the best of the probable and different
    ones.

    A point scores its probability [n] less `penalty` times its mean similarity to those selected, by their leaves
    [n, trees]. Equal scores go to the first point.
    """
    similarity = np.zeros(len(probability))
    score = probability.round(DECIMALS)
    selected: list[int] = []
    while len(selected) < count:
        best = int(np.argmax(score))
        selected.append(best)
        similarity += similarity_to(leaves, best)
        score = (probability - penalty * similarity / len(selected)).round(DECIMALS)
        score[selected] = -np.inf
    return np.array(selected, np.int64)
