"""Whether a search may stop although configs are left: the belief that none of them is much faster than the best.

The belief is the posterior of the Gaussian process of `strategies.gaussian_process`, with a prior mean of 0: a function
of the observations alone, whatever the strategy is, so that a replay comes to the same decision. Of the m configs that
are left, config i beats the best by more than the regret with probability p_i. The search stops when the product of the
1 - p_i is at least the confidence. The times of like configs go together, which makes the product too small: the search
rather goes on.

A list that many processors compile is mostly held up by its slowest compiles, and those are of configs with too much
code for each thread, which neighbours have shown to be slow.
"""

import numpy as np

from autotune.core.models.acquisition import normal_cdf
from autotune.core.models.gp import Floats, TrainingInputs, condition
from autotune.core.models.gp_features import feature_map
from autotune.core.one_thread import one_thread
from autotune.core.parameters import Codes
from autotune.core.search.state import Search
from autotune.core.strategies.gaussian_process import (
    KNOWN_POINTS,
    fit_hyperparameters,
    probability_to_work,
    select_informative,
    standardise_log_times,
)
from autotune.core.strategies.protocol import ListStrategy

LEAST_SHARE, LEAST_TIMED = 2 / 3, 4
"""At least this share of a list is measured, and this number of its configs timed, before a model of it is believed.
After half of a list, 5.0 % of the lists lost a faster config at a confidence of 0.95; after two thirds, 3.6 %
(docs/design/stopping.md)."""

MOST_LEFT = 1000
"""The belief is computed for at most this number of configs; with more left, there is hardly anything to believe."""


def believe_done(search: Search) -> str | None:
    """Why the search may stop, in words; None where its budget has no regret, or it must go on."""
    budget, strategy = search.plan.budget, search.plan.strategy
    if budget.regret is None or not isinstance(strategy, ListStrategy):
        return None
    if search.default_trial is not None and not search.records.has(search.default_trial):
        return None  # the pick is compared with it
    archive, listed = search.archive.whole, strategy.listed(search.plan.space, search.state)
    left = listed[search.points.unseen(listed)]
    if search.outstanding:
        left = np.concatenate([left, search.points.rows[[trial.id for trial in search.pending]]])
    few = len(archive) < LEAST_SHARE * (len(archive) + len(left)) or archive.ok.sum() < LEAST_TIMED
    if few or not 0 < len(left) <= MOST_LEFT:
        return None
    with one_thread():
        chances = chances_to_beat(search, left, budget.regret)
    none = float(np.prod(1 - chances))
    if none < budget.confidence:
        return None
    others = "the config that is left is not" if len(left) == 1 else f"none of the {len(left)} configs that are left is"
    sure = min(np.floor(none * 1000) / 1000, 0.999)
    return f"with a probability of {sure:.3g}, {others} more than {100 * budget.regret:.3g} % faster than the best"


def chances_to_beat(search: Search, points: Codes, regret: float) -> Floats:
    """The probability [m] that each of these points [m, columns] works and is more than `regret` faster than the best
    config of the search, which has timed one."""
    archive, features_of = search.archive.whole, feature_map(search.plan.space)
    axis_of, arrived = features_of.axis_of, archive.arrived
    inputs = features_of.features(archive.asked.rows[arrived["trial"]])
    hyper = fit_hyperparameters(inputs, arrived["time_ms"], arrived["ok"], axis_of, np.zeros(len(inputs)))
    kept = select_informative(archive.ok, archive.time_ms, KNOWN_POINTS)
    ok = archive.ok[kept]
    targets, unit = standardise_log_times(archive.time_ms[kept], ok)
    known = TrainingInputs(hyper, features_of.features(archive.points[kept]), axis_of)
    posterior = condition(known, float(np.exp(hyper.log_amplitude)), float(np.exp(hyper.log_noise)), targets)
    correlation = known.correlation(features_of.features(points))
    means, deviations, _ = posterior.predict(correlation)
    wanted = targets[ok].min() + np.log1p(-regret) / unit
    chances: Floats = normal_cdf((wanted - means) / deviations) * probability_to_work(known, ok, correlation)
    return chances
