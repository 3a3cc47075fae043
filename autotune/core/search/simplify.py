"""Simplification: put back to its default whatever does not matter to the best config.

A round measures every single-parameter reset of the config, then all the harmless ones together. What has been asked
and measured says how far it got, so there is no state to keep: the same points lead to the same next step.
"""

from dataclasses import dataclass

import numpy as np

from autotune.core.outcomes import Trial
from autotune.core.parameters import Codes
from autotune.core.search.limits import limits_for, remaining_evaluations
from autotune.core.search.messages import Measure
from autotune.core.search.qualify import qualified
from autotune.core.search.state import SIMPLIFY, Search

SLOWER = 0.005
"""How much slower, relatively, a noisy reset may look and still count as harmless if the intervals meet."""


@dataclass(frozen=True)
class Step:
    """Where simplification stands: the trial that is the simplest so far, and points to measure next, if any."""

    trial: int
    points: Codes


def simplification(search: Search) -> Measure | None:
    """The next resets to measure, or None when there is nothing left to try or to spend."""
    step = _walk(search)
    if step is None or not len(step.points):
        return None
    first = len(search.trials)
    configs = search.plan.space.decode(step.points)
    trials = tuple(Trial(first + i, config, SIMPLIFY, generation=-1) for i, config in enumerate(configs))
    return Measure(trials, limits_for(search, 1), why="does it matter, or will the default do?")


def simplified(search: Search) -> int | None:
    """The trial that simplification has arrived at: the best one itself where nothing could be reset."""
    step = _walk(search)
    return None if step is None else step.trial


def _walk(search: Search) -> Step | None:
    best = _found(search)
    if best is None or search.default_trial is None:
        return None
    trial, nothing = best, search.points.rows[:0]
    for _ in range(search.plan.settings.simplify_rounds):
        resets = _resets(search, trial)
        if len(todo := _affordable(search, resets)):
            return Step(trial, todo)
        harmless = _harmless(search, trial, resets)
        if not len(harmless):
            return Step(trial, nothing)
        together = _together(search, trial, harmless)
        if len(todo := _affordable(search, together)):
            return Step(trial, todo)
        accepted = _harmless(search, trial, together)
        trial = int(search.points.places(accepted if len(accepted) else harmless[:1])[0])
    return Step(trial, nothing)


def _found(search: Search) -> int | None:
    """The best trial that simplification did not ask for itself: of the contenders, if they were compared."""
    ranked = [*qualified(search), *search.archive.trials[search.archive.ranking()].tolist()]
    return next((i for i in ranked if search.trials[i].origin != SIMPLIFY), None)


def _resets(search: Search, trial: int) -> Codes:
    """The valid points that differ from the trial's in one parameter, set to its default."""
    space, row = search.plan.space, search.point(trial)
    default = search.point(0)
    rows = [
        space.with_part(row, name, default[None, part])
        for name, part in space.slices.items()
        if (row[part] != default[part]).any()
    ]
    points = np.concatenate(rows) if rows else search.points.rows[:0]
    return points[space.valid(points)]


def _together(search: Search, trial: int, harmless: Codes) -> Codes:
    """The point with all harmless resets at once, [1, columns], or none where that is not valid."""
    row = search.point(trial)
    combined = np.where((harmless != row).any(axis=0), search.point(0), row)[None]
    return combined[search.plan.space.valid(combined)]


def _affordable(search: Search, points: Codes) -> Codes:
    """Those of the points that were never asked for, as many as the budget allows."""
    unseen = points[search.points.unseen(points)]
    left = remaining_evaluations(search, reserved=False)
    return unseen if left is None else unseen[: max(left, 0)]


def _harmless(search: Search, trial: int, points: Codes) -> Codes:
    """Those of the points that were measured and are not slower than the trial, fastest first."""
    latest = {int(record["trial"]): record for record in search.archive.latest}
    base, exact = latest[trial], search.plan.settings.exact
    allowed = float(base["time_ms"]) * (1 if exact else 1 + SLOWER)
    kept: list[tuple[float, int]] = []
    for i, place in enumerate(search.points.places(points).tolist()):
        record = latest.get(place)
        if record is not None and record["ok"] and record["time_ms"] <= allowed and record["low_ms"] <= base["high_ms"]:
            kept.append((float(record["time_ms"]), i))
    return points[[i for _, i in sorted(kept)]]
