"""Bayesian optimisation with a Gaussian process: a few configs of an initial design, then what promises the most.

After Jones, Schonlau and Welch (1998) and, for kernels, Willemsen, van Nieuwpoort and van Werkhoven, "Bayesian
optimization for auto-tuning GPU kernels" (PMBS 2021). Here: log times squashed towards the slow end, a second process
for the probability that a config works at all, batches by believing the model, and candidates from neighbourhoods and
samples, so that the size of the space does not matter.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.history import Archive
from autotune.core.keys import Key, fold
from autotune.core.models.acquisition import batch, normal_cdf
from autotune.core.models.gp import Blocks, Floats, Hyper, Known, condition, fit, prior
from autotune.core.models.gp_features import axes_of
from autotune.core.parameters import Codes
from autotune.core.space import Space
from autotune.core.strategies.design import initial_design
from autotune.core.strategies.population import InitialPopulationStrategy, alone, checked_population, given_points
from autotune.core.strategies.proposals import WORK, at_most, candidates, neglected, shape_columns
from autotune.core.strategies.protocol import Ask, Done, Observation, Proposals, Seeds, Wait, nothing_left, require

EXTREMES = 0.4
"""What is expected of points beforehand: those at the ends of ranges of powers of two to be slower than those in the
middle, by so many standard deviations times how far out they are. A few observations outweigh it."""

FIT_WORK = 60_000
"""Hyper-parameters are fitted to so many observations that their pairs, times the axes, are this: 110 for ten axes."""

KNOWN_POINTS = 400
"""The process is conditioned on this many observations at most."""

FIRST_FIT, GROWTH = 8, 1.15
"""The hyper-parameters are fitted to the first 8 observations, and anew each time there are 1.15 times as many."""

FIRST_STEPS, STEPS = 30, 8
WITHOUT_BUDGET = 400
LEAST_BATCH = 4
"""Proposed together at least: a model is not worth fitting for one config."""

BEST = 10
"""At most this many of the best configs of earlier runs are tried first: of them one is often nearly as good here, and
more of the same tell little."""

FAILURE_QUANTILE, SLOW_SHARE = 0.9, 0.8
FAILURE_NOISE = 0.05


class Begun(NamedTuple):
    """The first points; all else is read off the archive."""

    points: Codes


class GaussianProcessSearch(Struct, frozen=True, tag="gaussian_process", omit_defaults=True):
    """Expected improvement of a Gaussian process over neighbours of the best and samples of the space.

    initial_population: configs of the initial design. `initial_points` is its name in older journals.
    candidates: points of the space considered for each batch at least, beside the neighbours of the best; many more
    while few configs are known.
    neighbourhoods: how many of the best configs have their neighbours considered.
    count: configs in all, after which the search ends; None: as many as its budget allows, and 400 without a budget.
    initial_population_strategy: None: the default, the seeds and up to ten of the best of earlier runs are part of the
    design. from_random: no earlier runs. from_best_available: up to 20 of their best, with the rest of the design only
    if `seeds.pad`. from_default: the default alone. compile_timeout_*: see `limits.compile_timeout`.
    """

    initial_population: int = 8
    candidates: int = 600
    neighbourhoods: int = 3
    count: int | None = None
    initial_population_strategy: InitialPopulationStrategy | None = None
    compile_timeout_lower_bound: float = 30.0
    compile_timeout_quantile: float = 0.9
    initial_points: int | None = None

    def __post_init__(self) -> None:
        name = "gaussian_process"
        checked_population(name, self)
        if self.initial_points is not None:
            msgspec.structs.force_setattr(self, "initial_population", self.initial_points)
            msgspec.structs.force_setattr(self, "initial_points", None)
        require(self.initial_population >= 1, name, "initial_population", self.initial_population, "at least 1")
        require(self.candidates >= 1, name, "candidates", self.candidates, "at least 1")
        require(self.neighbourhoods >= 0, name, "neighbourhoods", self.neighbourhoods, "at least 0")
        require(self.count is None or self.count >= 1, name, "count", self.count, "at least 1, or None")

    def init(self, space: Space, seeds: Seeds, key: Key) -> Begun:
        kind = self.initial_population_strategy
        given = given_points(kind, replace(seeds, best=seeds.best[:BEST]) if kind is None else seeds)
        if len(given) and alone(kind, seeds):
            return Begun(given)
        return Begun(initial_design(space, axes_of(space), given, self.initial_population, fold(key, "design")))

    def propose(self, space: Space, state: Begun, ask: Ask, key: Key) -> Proposals | Wait | Done:
        first = state.points[ask.fresh(state.points)]
        if len(first):
            return _proposed(first, 0, "the initial design")
        if (most := self._most(ask)) is not None and ask.proposed >= most:
            return Done(f"all {most} configs were tried")
        known = ask.archive.whole
        if not known.ok.any():
            if ask.outstanding:
                return Wait()
            drawn = space.sample_distinct(key, max(ask.room, LEAST_BATCH), ask.fresh)
            return (
                _proposed(drawn, _generation(ask), "nothing has worked so far")
                if len(drawn)
                else nothing_left(space, ask)
            )
        candidates = self._candidates(space, known, ask, key)
        if not len(candidates):
            return Wait() if ask.outstanding else nothing_left(space, ask)
        return self._picked(space, known, ask, candidates)

    def observe(self, space: Space, state: Begun, seen: tuple[Observation, ...]) -> Begun:
        return state

    def _candidates(self, space: Space, known: Archive, ask: Ask, key: Key) -> Codes:
        best = known.points[known.ranking()[: self.neighbourhoods]]
        axes = axes_of(space).weight
        near, most = (at_most(self.candidates, n, axes) for n in (WORK, len(known)))
        return candidates(space, best, near, most, ask.fresh, key)

    def _most(self, ask: Ask) -> int | None:
        """How many configs may be proposed; None: the budget is what ends the search."""
        budgets = (ask.evaluations, ask.seconds, ask.generations)
        unbound = all(budget is None for budget in budgets)
        return WITHOUT_BUDGET if self.count is None and unbound else self.count

    def _picked(self, space: Space, known: Archive, ask: Ask, candidates: Codes) -> Proposals:
        axes = axes_of(space)
        inputs, times, ok, blocks = axes.of(known.points), known.time_ms, known.ok, axes.blocks
        came = known.arrived
        before = axes.of(known.asked.rows[came["trial"]])
        hyper = hyper_parameters(before, came["time_ms"], came["ok"], blocks, EXTREMES * axes.extremes(before))
        kept = informative(ok, times, KNOWN_POINTS)
        works, targets = ok[kept], squashed(times[kept], ok[kept])
        data, expected = Known(hyper, inputs[kept], blocks), EXTREMES * axes.extremes(inputs[kept])
        under_way = ask.pending if ask.outstanding else candidates[:0]
        rows = np.concatenate([under_way, candidates])
        points, tried = axes.of(rows), np.concatenate([known.points, under_way])
        novelty = neglected(shape_columns(space), tried, rows)
        correlation = data.correlation(points)
        process = condition(
            data, float(np.exp(hyper.log_amplitude)), float(np.exp(hyper.log_noise)), targets - expected
        )
        room, best = min(max(ask.room, LEAST_BATCH), len(candidates)), float(targets[works].min())
        chance = chance_to_work(data, works, correlation)
        prior = EXTREMES * axes.extremes(points)
        picks = batch(process, points, correlation, prior, chance, best, room, len(under_way), novelty)
        chosen = candidates[np.array(picks, np.int64) - len(under_way)]
        matter = ", ".join(axes.names[i] for i in _shortest(hyper, blocks))
        why = f"the most promising of {len(candidates)} candidates; what matters most: {matter}"
        return _proposed(chosen, _generation(ask), why)


def _proposed(points: Codes, generation: int, why: str) -> Proposals:
    return Proposals(points, np.zeros(len(points), np.int64), generation, why)


def _generation(ask: Ask) -> int:
    return 1 + ask.proposed // LEAST_BATCH


def _shortest(hyper: Hyper, blocks: Blocks) -> list[int]:
    """The axes on which the least distance makes a difference, at most three."""
    shortest = np.full(int(blocks.max()) + 1, np.inf)
    np.minimum.at(shortest, blocks, hyper.log_lengths)
    order: list[int] = np.argsort(shortest, kind="stable")[:3].tolist()
    return order


def informative(ok: NDArray[np.bool_], times: Floats, most: int) -> NDArray[np.int64]:
    """Indices of at most `most` observations: the best half of them, and an even choice of the rest, in order."""
    if len(ok) <= most:
        return np.arange(len(ok))
    ranked = np.argsort(np.where(ok, times, np.inf), kind="stable")
    rest = ranked[most // 2 :]
    even = rest[np.arange(most - most // 2) * len(rest) // (most - most // 2)]
    return np.sort(np.concatenate([ranked[: most // 2], even]))


def squashed(times: Floats, ok: NDArray[np.bool_]) -> Floats:
    """Targets of mean 0 and variance 1: log times, the slow end drawn in, failures at the 90 % quantile."""
    above = np.log(times[ok]) - np.log(times[ok].min())
    scale = max(float(np.quantile(above, SLOW_SHARE)), 1e-3)
    drawn = above / (1 + above / scale)
    targets = np.full(len(times), float(np.quantile(drawn, FAILURE_QUANTILE)))
    targets[ok] = drawn
    deviation = float(targets.std())
    standard: Floats = (targets - targets.mean()) / (deviation if deviation > 0 else 1.0)
    return standard


def chance_to_work(known: Known, ok: NDArray[np.bool_], correlation: Floats) -> Floats:
    """The probability [m] that each point works, by a process on the same length scales; 1 where nothing has failed.

    correlation: that of the points with the known inputs [m, n], of which `ok` [n] worked.
    """
    if ok.all():
        return np.ones(len(correlation))
    labels = np.where(ok, 1.0, -1.0)
    middle = float(labels.mean())
    working = condition(known, 1.0, FAILURE_NOISE, labels - middle)
    return np.clip(normal_cdf(2 * (middle + working.mean(correlation))), 0.02, 1.0)


def hyper_parameters(inputs: Floats, times: Floats, ok: NDArray[np.bool_], blocks: Blocks, expected: Floats) -> Hyper:
    """The hyper-parameters for these observations [n, d], as they came, with features of the axes `blocks` [d].

    expected: what was expected [n] of the targets beforehand.

    They are fitted to the first 8, 10, 12, 14, 17, … of them, each time from where the last fit ended: a function of
    the observations alone, whoever asked before, and a fit for a few batches only.
    """
    counts = [FIRST_FIT]
    while counts[-1] <= len(inputs):
        counts.append(int(counts[-1] * GROWTH) + 1)
    return _fitted(_first((inputs, times, ok, expected), blocks, counts[:-1]), tuple(counts[:-1]))


def _first(observed: Sequence[NDArray[Any]], blocks: Blocks, counts: Sequence[int]) -> "_Arrays":
    """What the last fit of `counts` sees, and nothing else: later observations must not look like another question."""
    n = counts[-1] if counts else 0
    return _Arrays((*(array[:n] for array in observed), blocks))


@lru_cache(maxsize=64)
def _fitted(observed: "_Arrays", counts: tuple[int, ...]) -> Hyper:
    inputs, times, ok, expected, blocks = observed
    if not counts:
        return prior(inputs.shape[1])
    start = _fitted(_first((inputs, times, ok, expected), blocks, counts[:-1]), counts[:-1])
    if not ok.any():
        return start
    kept = informative(ok, times, int(np.sqrt(2 * FIT_WORK / (blocks.max() + 1))))
    steps = STEPS if len(counts) > 1 else FIRST_STEPS
    return fit(start, inputs[kept], squashed(times[kept], ok[kept]) - expected[kept], blocks, steps, counts[-1])


class _Arrays(tuple[NDArray[Any], ...]):
    """Arrays that are equal, and hash alike, when their dtypes, shapes and bytes are."""

    __slots__ = ()

    def _content(self) -> tuple[tuple[str, tuple[int, ...], bytes], ...]:
        return tuple((array.dtype.str, array.shape, array.tobytes()) for array in self)

    def __hash__(self) -> int:
        return hash(self._content())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Arrays) and self._content() == other._content()
