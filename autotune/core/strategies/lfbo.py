"""Likelihood-free Bayesian optimisation: what the strategies that walk by a classifier of good and bad configs share.

Song et al., "A general recipe for likelihood-free Bayesian optimization", ICML 2022: a classifier of "among the best",
its positives weighted by how much better they are, estimates the expected improvement up to a constant. Failures are
negatives like any other, so they teach as well.
"""

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autotune.core.forest import Forest, fit_classifier
from autotune.core.forest.similarity import similarity_to
from autotune.core.history import Archive
from autotune.core.keys import Key, fold, permutation
from autotune.core.parameters import Codes
from autotune.core.points import first_of_each
from autotune.core.space import Space
from autotune.core.strategies.ordering import promising_first
from autotune.core.strategies.population import (
    Generations,
    HasPopulation,
    Past,
    checked_population,
    checked_share,
    first_generation,
    members_of,
)
from autotune.core.strategies.protocol import Ask, Done, Proposals
from autotune.core.strategies.ranges import require
from autotune.core.strategies.walks import Walks

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
