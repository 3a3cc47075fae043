"""Simplification: put back to its default whatever does not matter to the best config.

Each single-parameter reset of the config is measured once, which says which of them look harmless. These are timed side
by side with the config, together with all of them at once; where there is no room for each, with sets of them: all, the
better half, the most harmless one. The largest set that nothing shows to matter is taken, and what is left of the
resets is tried on top of it, until there is nothing left, or so many comparisons were held. What has been asked,
measured and compared says how far it got, so there is no state to keep: the same events lead to the same next step.
Exact times need no comparison.

Testing in groups spares evaluations where few parameters matter: Dorfman, "The detection of defective members of large
populations" (1943).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from autotune.core.outcomes import Failed, Outcome, Timed, Trial
from autotune.core.parameters import Codes
from autotune.core.search.limits import TOGETHER, limits_for, remaining_evaluations, sampling_s
from autotune.core.search.messages import Compare, Compared, Measure
from autotune.core.search.qualify import DRIFT, allowed_s, qualified, ready_s
from autotune.core.search.rounds import comparison, rounds_for
from autotune.core.search.state import SIMPLIFY, Search
from autotune.core.statistics import HARMLESS, LARGEST, STRICT, Ratio, divided, paired_ratio
from autotune.core.strategies.protocol import allowed

ENOUGH = 8
"""Rounds without which a comparison shows nothing here: the order of fewer reaches the level STRICT for no config."""

FARTHEST = 0.1
"""By so much the clock of a device may have changed between the search and simplification."""


FirstTimes = dict[int, tuple[float, float, float]]
"""Of each trial that was timed its first time and the ends of its notch."""


@dataclass(frozen=True)
class Step:
    """Where simplification stands: the trial that is the simplest so far, and what is wanted next: points to measure,
    or trials to compare with it; neither: it is over."""

    trial: int
    points: Codes | None = None
    rivals: tuple[int, ...] = ()


def simplification(search: Search) -> Measure | Compare | None:
    """The next resets to measure or to compare, or None when there is nothing left to try or to spend."""
    step = _walk(search)
    if step is None:
        return None
    if step.points is not None:
        first = len(search.trials)
        configs = search.plan.space.decode(step.points)
        trials = tuple(Trial(first + i, config, SIMPLIFY, generation=-1) for i, config in enumerate(configs))
        return Measure(trials, limits_for(search, 1), why="does it matter, or will the default do?")
    return _comparison(search, step) if step.rivals else None


def simplified(search: Search) -> int | None:
    """The trial that simplification has arrived at: the best one itself where nothing could be reset."""
    step = _walk(search)
    return None if step is None else step.trial


def distance(search: Search, trial: int) -> int:
    """How many parameters of a trial are away from the default's; 0 where there is no default."""
    return 0 if search.default_trial is None else len(_away(search, trial))


def resets(search: Search, one: int, other: int) -> bool:
    """Whether all that one trial changes in another is to put parameters back to their default."""
    if search.default_trial is None:
        return False
    row, base, default = search.point(one), search.point(other), search.point(0)
    return all(
        (row[part] == base[part]).all() or (row[part] == default[part]).all()
        for part in search.plan.space.slices.values()
    )


def _away(search: Search, trial: int) -> list[str]:
    row, default = search.point(trial), search.point(0)
    return [name for name, part in search.plan.space.slices.items() if (row[part] != default[part]).any()]


def _walk(search: Search) -> Step | None:
    base = _found(search)
    if base is None or search.default_trial is None or not search.plan.settings.simplify_rounds:
        return None
    first_ms = _first_times(search)
    names = _hopeful(search, base)
    singles = [_reset(search, base, (name,)) for name in names]
    if len(todo := _unasked(search, singles, TOGETHER)) and search.trials[-1].origin != SIMPLIFY:
        return Step(base, todo)
    harmless = _harmless(search, base, names, singles, first_ms)
    alone = {name: _place(search, point) for name, point in zip(names, singles, strict=True)}
    compared, beaten = iter(search.simplifying), set[int]()
    for number in range(search.plan.settings.simplify_rounds):
        sizes = _sizes(len(harmless), each_alone=not number and len(harmless) + 2 <= _room(search))
        sets = {size: _reset(search, base, harmless[:size]) for size in sizes}
        if len(todo := _unasked(search, sets.values())):
            return Step(base, todo)
        places = {size: _place(search, point) for size, point in sets.items()}
        rivals = {size: i for size, i in places.items() if i in first_ms and i not in beaten}
        if not rivals:
            break
        beside = [alone[name] for name in harmless if name in alone]
        shown = _shown(search, base, tuple(dict.fromkeys([*rivals.values(), *beside])), compared, first_ms)
        if not isinstance(shown, dict):
            return shown or Step(base)
        beaten |= {i for i, ratio in shown.items() if _matters(ratio)}
        taken = max((size for size, i in rivals.items() if i in shown and i not in beaten), default=0)
        base = rivals.get(taken, base)
        blamed = places.get(taken + 1) in beaten  # for the one reset that it has beside what was taken
        left = [name for name in harmless[taken + blamed :] if alone.get(name) not in beaten]
        ratios = {name: shown[alone[name]].value for name in left if alone.get(name) in shown}
        harmless = sorted(left, key=lambda name: ratios.get(name, LARGEST))
        if taken:
            alone = {}  # beside another config they say nothing
    return Step(base)


def _sizes(count: int, each_alone: bool) -> list[int]:
    """How many of the resets the sets put back, the largest first. each_alone: whether all are compared by themselves
    too, which tells more than half of them would, and spares measuring these."""
    sizes = {count, min(count, 1)} if each_alone else {count, (count + 1) // 2, min(count, 1)}
    return sorted(sizes - {0}, reverse=True)


def _room(search: Search) -> int:
    """How many configs there may be in one comparison."""
    settings = search.plan.settings
    return min(settings.contenders, settings.confirm_at_most) if settings.rebuild else settings.contenders


def _found(search: Search) -> int | None:
    """The best trial that simplification did not ask for itself: of the contenders, if they were compared."""
    ranked = [*qualified(search), *search.archive.trials[search.archive.ranking()].tolist()]
    return next((i for i in ranked if search.trials[i].origin != SIMPLIFY), None)


def _first_times(search: Search) -> FirstTimes:
    """Later ones do not change the way that was gone."""
    records = search.records.array
    records = records[records["ok"]][::-1]
    columns = (records[name].tolist() for name in ("trial", "time_ms", "low_ms", "high_ms"))
    return {trial: (time, low, high) for trial, time, low, high in zip(*columns, strict=True)}


def _hopeful(search: Search, base: int) -> list[str]:
    """The parameters that are away from their default, the likeliest not to matter first: the fastest config that has
    the default there is hardly slower than the best."""
    archive, default = search.archive, search.point(0)
    timed = archive.points[archive.ok]
    least: dict[str, float] = {}
    for name in _away(search, base):
        part = search.plan.space.slices[name]
        at_default = archive.time_ms[archive.ok][(timed[:, part] == default[part]).all(axis=1)]
        least[name] = float(at_default.min(initial=np.inf))
    return sorted(least, key=lambda name: least[name])


def _reset(search: Search, base: int, names: Iterable[str]) -> Codes:
    """The point [1, columns] of a trial with these parameters at their default; [0, columns] where it must not be."""
    space, point, default = search.plan.space, np.array(search.point(base)), search.point(0)
    for name in names:
        point[space.slices[name]] = default[space.slices[name]]
    points: Codes = point[None]
    points = points[space.valid(points)]
    return points[allowed(search.plan.strategy, space, search.state, points)]


def _unasked(search: Search, points: Iterable[Codes], kept: int = 0) -> Codes:
    """Those of the points that were never asked for, as many as the budget allows less so many that are kept."""
    together = np.concatenate([*points, search.points.rows[:0]])
    unseen = together[search.points.unseen(together)]
    left = remaining_evaluations(search, reserved=False)
    return unseen if left is None else unseen[: max(left - kept, min(left, 1))]


def _place(search: Search, point: Codes) -> int:
    """The trial of a point, -1 where there is none."""
    return int(search.points.places(point)[0]) if len(point) else -1


def _harmless(
    search: Search,
    base: int,
    names: Sequence[str],
    singles: Sequence[Codes],
    first_ms: FirstTimes,
) -> list[str]:
    """The parameters whose reset may not matter by its first time, the fastest first.

    The best config looks faster than it is, as the luckiest of many, and its time is of an earlier hour; so a reset may
    be as slow as the fastest of the resets, which were timed together, within reason.
    """
    places = {name: _place(search, point) for name, point in zip(names, singles, strict=True)}
    timed = {name: first_ms[place] for name, place in places.items() if place in first_ms}
    if search.plan.settings.exact:
        return sorted((n for n, (time, *_) in timed.items() if time <= first_ms[base][0]), key=lambda n: timed[n][0])
    high = first_ms[base][2]
    together = min((own_high for _, _, own_high in timed.values()), default=high)
    reach = max(high, min(together, high * (1 + FARTHEST))) * (1 + DRIFT)
    return sorted((name for name, (_, low, _) in timed.items() if low <= reach), key=lambda name: timed[name][0])


def _shown(
    search: Search, base: int, rivals: tuple[int, ...], compared: Iterator[Compared], first_ms: FirstTimes
) -> dict[int, Ratio] | Step | None:
    """How the time of each rival that was compared with the base relates to its time; the step that asks for the
    comparison, where it was not held; None where it was and shows nothing."""
    if search.plan.settings.exact:
        ratios = {i: divided(first_ms[i][0], first_ms[base][0]) for i in rivals}
        return {i: Ratio(value, value, value, 1.0) for i, value in ratios.items()}
    event = next(compared, None)
    if event is None:
        return Step(base, rivals=rivals)
    outcomes = dict(event.outcomes)
    own = outcomes.get(base)
    if not isinstance(own, Timed) or len(own.times_ms) < ENOUGH:
        return None
    level = 1 - (1 - STRICT) / max(len(outcomes) - 1, 1)
    return {i: _ratio(outcomes[i], own, level) for i in rivals if i in outcomes}


def _ratio(outcome: Outcome, base: Timed, level: float) -> Ratio:
    if isinstance(outcome, Failed):
        return Ratio(LARGEST, LARGEST, LARGEST)
    return paired_ratio(outcome.times_ms, base.times_ms, level)


def _matters(ratio: Ratio) -> bool:
    """Whether a reset matters: it is certainly slower, or by more than a little as far as can be seen."""
    return ratio.low > 1 or ratio.value > 1 + HARMLESS


def _comparison(search: Search, step: Step) -> Compare | None:
    """The rivals beside the config that they simplify, as many as there is time and room for."""
    allowed = allowed_s(search)
    rounds = rounds_for(search, 1 + len(step.rivals), ENOUGH, HARMLESS / 2)
    most = min(int(allowed / (ready_s(search) + rounds * sampling_s(search))), _room(search)) - 1
    if most < 1:
        return None
    return comparison(search, (step.trial, *step.rivals[:most]), rounds, "simplify", search.clock + allowed)
