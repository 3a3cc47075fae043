"""Bayesian optimisation with a Gaussian process: a few configs of an initial design, then the most promising ones.

Jones, Schonlau and Welch, "Efficient global optimization of expensive black-box functions", J. Global Optimization 13
(1998), and, for kernels, Willemsen, van Nieuwpoort and van Werkhoven, "Bayesian optimization for auto-tuning GPU
kernels" (PMBS 2021). Beyond these: standardised log times whose slow end is drawn in, a second process for the
probability that a config works at all, batches by the kriging believer, and candidates from neighbourhoods and
samples, so that the size of the space does not matter.

A batch, once the design is measured, in the order of the code:

    1. candidates         `proposals.propose_candidates`
    2. hyperparameters θ  of all observations in the order in which they arrived (`fit_hyperparameters`)
    3. observations       the informative ones, at most KNOWN_POINTS (`select_informative`): inputs X, targets y
    4. prior mean         EXTREMES times how far out a point lies on its powers of two; the process models y less it
    5. posterior          `gp.condition`; of a second process on the same θ, the probability to work
    6. picks              `acquisition.choose_batch`, every second one of a neglected shape
"""

from dataclasses import replace
from hashlib import blake2b
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from autotune.core.arguments import AtLeast0, AtLeast1, Positive, Proportion
from autotune.core.history import Archive
from autotune.core.keys import Key, fold
from autotune.core.models.acquisition import choose_batch, normal_cdf
from autotune.core.models.gp import (
    AxisIndex,
    Floats,
    Hyperparameters,
    TrainingInputs,
    condition,
    fit,
    prior_hyperparameters,
)
from autotune.core.models.gp_features import feature_map
from autotune.core.parameters import Codes
from autotune.core.space import Space
from autotune.core.strategies.design import draw_design
from autotune.core.strategies.population import InitialPopulationStrategy, draws_none, seed_points
from autotune.core.strategies.proposals import (
    WORK,
    count_affordable,
    number_neglected_shapes,
    propose_candidates,
    shape_columns,
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
from autotune.core.strategies.random_search import PointList

EXTREMES = 0.4
"""Points at the ends of ranges of powers of two are expected to be slower than those in the middle, by this number of
standard deviations times how far out they are. A few observations outweigh it; without it, the model first proposes
the corners, of which it knows least (docs/design/gaussian_process.md)."""

FIT_WORK = 60_000
"""The most pairs of observations, times the axes, that θ is fitted to: 110 observations for ten axes."""

KNOWN_POINTS = 400
"""The most observations that the process is conditioned on: the cost grows with their cube."""

FIRST_FIT, GROWTH = 8, 1.15
"""θ is fitted to the first 8 observations, and again each time there are 1.15 times as many: to 8, 10, 12, 14, 17, …"""

FIRST_STEPS, STEPS = 30, 8
"""Steps of the first fit, and of each later one, which starts from the one before."""

WITHOUT_BUDGET = 400
"""Configs in all where neither a budget nor a setting ends the search."""

LEAST_BATCH = 4
"""The least number of configs proposed together: a model is not worth fitting for one."""

MOST_BEST = 10
"""The most configs of earlier runs, the best ones, that are tried first: of ten one is often nearly as good here, and
more of the same tell little. With four, a search that began with the best from elsewhere was no faster than one from
nothing."""

SLOW_SHARE, FAILURE_QUANTILE = 0.8, 0.9
"""Log times above the best are drawn in on the scale of this quantile of them; failures count as the other one."""

FAILURE_NOISE = 0.05
"""The variance of the noise of the process for whether a config works, whose labels are 1 and -1."""

LEAST_CHANCE = 0.02
"""The probability to work is never taken to be lower."""

MOST_FITS = 64
"""The fits that are remembered; a search asks for its latest one only."""


class GaussianProcessSearch(ArchiveStrategy, frozen=True, kw_only=True, tag="gaussian_process", omit_defaults=True):
    """Expected improvement of a Gaussian process over neighbours of the best and samples of the space.

    initial_population: configs of the initial design. initial_points: its name in older journals.
    candidates: points of the space considered for each batch at least, beside the neighbours of the best; many more
    while few configs are known.
    neighbourhoods: how many of the best configs have their neighbours considered.
    count: configs in all, after which the search ends; None: as many as its budget allows, and 400 without a budget.
    initial_population_strategy: None: the default, the seeds and up to ten of the best of earlier runs are part of the
    design. from_random: no earlier runs. from_best_available: up to 20 of their best, with the rest of the design only
    if `seeds.pad`. from_default: the default alone.
    compile_timeout_quantile, compile_timeout_lower_bound: after the initial population, a compile may take this
    quantile of the compile times so far, but at least the lower bound, in seconds.
    """

    initial_population: AtLeast1 = 8
    candidates: AtLeast1 = 600
    neighbourhoods: AtLeast0 = 3
    count: AtLeast1 | None = None
    initial_population_strategy: InitialPopulationStrategy | None = None
    compile_timeout_lower_bound: Positive = 30.0
    compile_timeout_quantile: Proportion = 0.9
    initial_points: AtLeast1 | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.initial_points is not None:
            msgspec.structs.force_setattr(self, "initial_population", self.initial_points)
            msgspec.structs.force_setattr(self, "initial_points", None)

    def init(self, space: Space, seeds: Seeds, key: Key) -> PointList:
        """The design; all else is read off the archive."""
        kind = self.initial_population_strategy
        given = seed_points(kind, replace(seeds, best=seeds.best[:MOST_BEST]) if kind is None else seeds)
        if len(given) and draws_none(kind, seeds):
            return PointList(given)
        return PointList(draw_design(space, feature_map(space), given, self.initial_population, fold(key, "design")))

    def propose(self, space: Space, state: PointList, ask: Ask, key: Key) -> Proposals | AwaitOutcome | Done:
        first = state.points[ask.fresh(state.points)]
        if len(first):
            return Proposals.of(first, 0, "the initial design")
        if (most := self._most_configs(ask)) is not None and ask.proposed >= most:
            return Done(f"all {most} configs were tried")
        archive, generation = ask.archive.whole, 1 + ask.proposed // LEAST_BATCH
        if not archive.ok.any():
            if ask.outstanding:
                return AwaitOutcome()
            drawn = space.sample_distinct(key, max(ask.room, LEAST_BATCH), ask.fresh)
            why = "nothing has worked so far"
            return Proposals.of(drawn, generation, why) if len(drawn) else done_with_space(space, ask)
        candidates = self._candidates(space, archive, ask, key)
        if not len(candidates):
            return AwaitOutcome() if ask.outstanding else done_with_space(space, ask)
        points, why = pick_promising(space, archive, ask, candidates)
        return Proposals.of(points, generation, why)

    def _most_configs(self, ask: Ask) -> int | None:
        """How many configs may be proposed; None: the budget ends the search."""
        unbound = ask.evaluations is None and ask.seconds is None and ask.generations is None
        return WITHOUT_BUDGET if self.count is None and unbound else self.count

    def _candidates(self, space: Space, archive: Archive, ask: Ask, key: Key) -> Codes:
        best = archive.points[archive.ranking()[: self.neighbourhoods]]
        cost = feature_map(space).comparison_cost
        near, most = (count_affordable(self.candidates, n, cost) for n in (WORK, len(archive)))
        return propose_candidates(space, best, near, most, ask.fresh, key)


def pick_promising(space: Space, archive: Archive, ask: Ask, candidates: Codes) -> tuple[Codes, str]:
    """The points of the next batch [n, columns] among the candidates [m, columns], and why."""
    features_of = feature_map(space)
    axis_of = features_of.axis_of
    arrived = archive.arrived
    inputs = features_of.features(archive.asked.rows[arrived["trial"]])
    prior_mean = EXTREMES * features_of.extremeness(inputs)
    hyper = fit_hyperparameters(inputs, arrived["time_ms"], arrived["ok"], axis_of, prior_mean)

    inputs, times, ok = features_of.features(archive.points), archive.time_ms, archive.ok
    kept = select_informative(ok, times, KNOWN_POINTS)
    works, targets = ok[kept], standardise_log_times(times[kept], ok[kept]).targets
    known, prior_mean = TrainingInputs(hyper, inputs[kept], axis_of), EXTREMES * features_of.extremeness(inputs[kept])
    amplitude, noise = float(np.exp(hyper.log_amplitude)), float(np.exp(hyper.log_noise))
    posterior = condition(known, amplitude, noise, targets - prior_mean)

    pending = ask.pending if ask.outstanding else candidates[:0]
    rows = np.concatenate([pending, candidates])
    points, tried = features_of.features(rows), np.concatenate([archive.points, pending])
    correlation = known.correlation(points)
    picks = choose_batch(
        posterior,
        points,
        correlation,
        prior_mean=EXTREMES * features_of.extremeness(points),
        factor=probability_to_work(known, works, correlation),
        best=float(targets[works].min()),
        n=min(max(ask.room, LEAST_BATCH), len(candidates)),
        pending=len(pending),
        novelty=number_neglected_shapes(shape_columns(space), tried, rows),
    )
    matter = ", ".join(features_of.names[i] for i in _axes_that_matter(hyper, axis_of))
    why = f"the most promising of {len(candidates)} candidates; what matters most: {matter}"
    return candidates[np.array(picks, np.int64) - len(pending)], why


def _axes_that_matter(hyper: Hyperparameters, axis_of: AxisIndex) -> list[int]:
    """The axes with the shortest length scales, at most three: there the least distance makes a difference."""
    shortest = np.full(int(axis_of.max()) + 1, np.inf)
    np.minimum.at(shortest, axis_of, hyper.log_lengths)
    order: list[int] = np.argsort(shortest, kind="stable")[:3].tolist()
    return order


def select_informative(ok: NDArray[np.bool_], times: Floats, most: int) -> NDArray[np.int64]:
    """Indices of at most `most` observations: the best half of them, and an even choice of the rest, in order."""
    if len(ok) <= most:
        return np.arange(len(ok))
    ranked = np.argsort(np.where(ok, times, np.inf), kind="stable")
    rest = ranked[most // 2 :]
    even = rest[np.arange(most - most // 2) * len(rest) // (most - most // 2)]
    return np.sort(np.concatenate([ranked[: most // 2], even]))


class LogTimes(NamedTuple):
    """Targets [n] of mean 0 and variance 1, and the difference of log times that a difference of 1 stands for, near the
    best."""

    targets: Floats
    unit: float


def standardise_log_times(times: Floats, ok: NDArray[np.bool_]) -> LogTimes:
    """Log times above the best, t, drawn in as t / (1 + t / scale), for it matters little how slow a slow config is;
    failures are at the 90 % quantile."""
    above = np.log(times[ok]) - np.log(times[ok].min())
    scale = max(float(np.quantile(above, SLOW_SHARE)), 1e-3)
    drawn_in = above / (1 + above / scale)
    targets = np.full(len(times), float(np.quantile(drawn_in, FAILURE_QUANTILE)))
    targets[ok] = drawn_in
    deviation = float(targets.std())
    unit = deviation if deviation > 0 else 1.0
    return LogTimes((targets - targets.mean()) / unit, unit)


def probability_to_work(known: TrainingInputs, ok: NDArray[np.bool_], correlation: Floats) -> Floats:
    """The probability [m] that each point works, by a process on the same length scales; 1 where nothing has failed.

    correlation: of the points with the known inputs [m, n], of which `ok` [n] worked.
    """
    if ok.all():
        return np.ones(len(correlation))
    labels = np.where(ok, 1.0, -1.0)
    middle = float(labels.mean())
    working = condition(known, 1.0, FAILURE_NOISE, labels - middle)
    return np.clip(normal_cdf(2 * (middle + working.mean(correlation))), LEAST_CHANCE, 1.0)


# The hyperparameters


def fit_hyperparameters(
    inputs: Floats, times: Floats, ok: NDArray[np.bool_], axis_of: AxisIndex, prior_mean: Floats
) -> Hyperparameters:
    """θ for these observations in the order in which they arrived: inputs [n, d], times [n], ok [n], prior mean [n].

    It is fitted to the first 8, 10, 12, 14, 17, … of them, each time from where the last fit ended: a function of the
    observations alone, whatever was fitted before, and a fit for a few batches only. Each fit sees nothing but its
    observations, so it is remembered by them: the loop begins behind the latest fit that is remembered.
    """
    counts = [FIRST_FIT]
    while counts[-1] <= len(inputs):
        counts.append(int(counts[-1] * GROWTH) + 1)
    counts.pop()
    hyper, missing = prior_hyperparameters(inputs.shape[1]), []
    for n in reversed(counts):
        key = _digest(inputs[:n], times[:n], ok[:n], prior_mean[:n], axis_of)
        if (remembered := _fits.get(key)) is not None:
            hyper = remembered
            break
        missing.append((n, key))
    for n, key in reversed(missing):
        if ok[:n].any():
            kept = select_informative(ok[:n], times[:n], int(np.sqrt(2 * FIT_WORK / (axis_of.max() + 1))))
            targets = standardise_log_times(times[kept], ok[kept]).targets - prior_mean[kept]
            steps = FIRST_STEPS if n == FIRST_FIT else STEPS
            hyper = fit(hyper, inputs[kept], targets, axis_of, steps=steps, observations=n)
        _remember(key, hyper)
    return hyper


_fits: dict[bytes, Hyperparameters] = {}
"""The latest fits by the digest of their observations: a memo of a pure function, so no result depends on it."""


def _remember(key: bytes, hyper: Hyperparameters) -> None:
    _fits[key] = hyper
    for oldest in list(_fits)[:-MOST_FITS]:
        _fits.pop(oldest, None)


def _digest(*arrays: NDArray[np.generic]) -> bytes:
    digest = blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.digest()
