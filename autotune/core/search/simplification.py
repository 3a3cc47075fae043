"""Simplification: parameters of the best config are put back to their default where they do not matter.

Each single-parameter reset is measured once, which tells the resets that look harmless. Those are timed side by side
with the config, together with sets of them: all, the better half, the most harmless one. The largest set that nothing
shows to matter is taken, and the rest is tried on top of it, until nothing is left or the number of comparisons is used
up. Testing in groups saves evaluations where few parameters matter: Dorfman, "The detection of defective members of
large populations" (1943). Exact times need no comparison.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from autotune.core.outcomes import Failed, Outcome, Timed, Trial
from autotune.core.parameters import Codes
from autotune.core.search.limits import TOGETHER, limits_for, remaining_evaluations, sample_seconds
from autotune.core.search.messages import Compare, Compared, Measure
from autotune.core.search.qualification import (
    DRIFT,
    comparison_seconds,
    preparation_seconds,
    rank_qualified,
    room_of_comparison,
)
from autotune.core.search.rounds import count_rounds, request_comparison
from autotune.core.search.state import SIMPLIFY, Search
from autotune.core.statistics import HARMLESS, LARGEST, STRICT, Ratio, finite_ratio, paired_ratio
from autotune.core.strategies.protocol import allowed_points

ENOUGH = 8
"""Fewest rounds from which simplification concludes anything: no order of fewer samples reaches the level STRICT."""

FARTHEST = 0.1
"""Most relative change of a device's clock, between the search and simplification, that is allowed for."""


FirstTimes = dict[int, tuple[float, float, float]]
"""For each timed trial its first time and the low and high end of that time's notch, in milliseconds."""


@dataclass(frozen=True)
class Step:
    """Where simplification stands.

    trial: the simplest trial so far. points: the points to measure next. rivals: the trials to compare with `trial`
    next. Neither points nor rivals: simplification is over.
    """

    trial: int
    points: Codes | None = None
    rivals: tuple[int, ...] = ()


def request_simplification(search: Search) -> Measure | Compare | None:
    """The request for the next resets to measure or to compare; None when nothing is left to try or to spend."""
    step = _current_step(search)
    if step is None:
        return None
    if step.points is not None:
        first = len(search.trials)
        configs = search.plan.space.decode(step.points)
        trials = tuple(Trial(first + i, config, SIMPLIFY, generation=-1) for i, config in enumerate(configs))
        return Measure(trials, limits_for(search, 1), why="does it matter, or will the default do?")
    return _request_reset_comparison(search, step) if step.rivals else None


def find_simplified(search: Search) -> int | None:
    """The simplest trial that simplification has found: the best trial itself where nothing could be reset."""
    step = _current_step(search)
    return None if step is None else step.trial


def distance_from_default(search: Search, trial: int) -> int:
    """How many parameters of a trial differ from the default config's; 0 where there is no default."""
    return 0 if search.default_trial is None else len(_parameters_changed(search, trial))


def only_resets(search: Search, one: int, other: int) -> bool:
    """Whether the trial `one` differs from `other` only by parameters put back to their default."""
    if search.default_trial is None:
        return False
    row, base, default = search.point(one), search.point(other), search.point(0)
    return all(
        (row[part] == base[part]).all() or (row[part] == default[part]).all()
        for part in search.plan.space.slices.values()
    )


def _parameters_changed(search: Search, trial: int) -> list[str]:
    row, default = search.point(trial), search.point(0)
    return [name for name, part in search.plan.space.slices.items() if (row[part] != default[part]).any()]


def _current_step(search: Search) -> Step | None:
    base = _best_found(search)
    if base is None or search.default_trial is None or not search.plan.settings.simplify_rounds:
        return None
    first_ms = _first_times(search)
    names = _rank_parameters(search, base)
    singles = [_reset_point(search, base, (name,)) for name in names]
    if len(todo := _new_points(search, singles, TOGETHER)) and search.trials[-1].origin != SIMPLIFY:
        return Step(base, todo)
    harmless = _select_harmless(search, base, names, singles, first_ms)
    alone = {name: _trial_at(search, point) for name, point in zip(names, singles, strict=True)}
    compared, beaten = iter(search.simplifying), set[int]()
    for number in range(search.plan.settings.simplify_rounds):
        sizes = _sizes(len(harmless), each_alone=not number and len(harmless) + 2 <= room_of_comparison(search))
        sets = {size: _reset_point(search, base, harmless[:size]) for size in sizes}
        if len(todo := _new_points(search, sets.values())):
            return Step(base, todo)
        places = {size: _trial_at(search, point) for size, point in sets.items()}
        rivals = {size: i for size, i in places.items() if i in first_ms and i not in beaten}
        if not rivals:
            break
        beside = [alone[name] for name in harmless if name in alone]
        shown = _read_comparison(search, base, tuple(dict.fromkeys([*rivals.values(), *beside])), compared, first_ms)
        if not isinstance(shown, dict):
            return shown or Step(base)
        beaten |= {i for i, ratio in shown.items() if _matters(ratio)}
        taken = max((size for size, i in rivals.items() if i in shown and i not in beaten), default=0)
        base = rivals.get(taken, base)
        blamed = places.get(taken + 1) in beaten  # its one reset beyond the taken set is to blame
        left = [name for name in harmless[taken + blamed :] if alone.get(name) not in beaten]
        ratios = {name: shown[alone[name]].value for name in left if alone.get(name) in shown}
        harmless = sorted(left, key=lambda name: ratios.get(name, LARGEST))
        if taken:
            alone = {}  # they were compared with another config
    return Step(base)


def _sizes(count: int, each_alone: bool) -> list[int]:
    """The sizes of the sets of resets to try, the largest first.

    each_alone: whether each reset is also compared by itself, which tells more than a set of half of them and saves
    measuring that set.
    """
    sizes = {count, min(count, 1)} if each_alone else {count, (count + 1) // 2, min(count, 1)}
    return sorted(sizes - {0}, reverse=True)


def _best_found(search: Search) -> int | None:
    """The best trial that is not one of simplification's own: the best of the contenders where they were compared."""
    ranked = [*rank_qualified(search), *search.archive.trials[search.archive.ranking()].tolist()]
    return next((i for i in ranked if search.trials[i].origin != SIMPLIFY), None)


def _first_times(search: Search) -> FirstTimes:
    """The first times of all trials: later measurements must not change steps that were taken before them."""
    records = search.records.array
    records = records[records["ok"]][::-1]
    columns = (records[name].tolist() for name in ("trial", "time_ms", "low_ms", "high_ms"))
    return {trial: (time, low, high) for trial, time, low, high in zip(*columns, strict=True)}


def _rank_parameters(search: Search, base: int) -> list[str]:
    """The parameters that differ from their default, the likeliest not to matter first.

    A parameter is the likelier not to matter, the faster the fastest config is that has it at its default.
    """
    archive, default = search.archive, search.point(0)
    timed = archive.points[archive.ok]
    least: dict[str, float] = {}
    for name in _parameters_changed(search, base):
        part = search.plan.space.slices[name]
        at_default = archive.time_ms[archive.ok][(timed[:, part] == default[part]).all(axis=1)]
        least[name] = float(at_default.min(initial=np.inf))
    return sorted(least, key=lambda name: least[name])


def _reset_point(search: Search, base: int, names: Iterable[str]) -> Codes:
    """The point [1, columns] of a trial with these parameters at their default; [0, columns] where the space or the
    strategy excludes that point."""
    space, point, default = search.plan.space, np.array(search.point(base)), search.point(0)
    for name in names:
        point[space.slices[name]] = default[space.slices[name]]
    points: Codes = point[None]
    points = points[space.valid(points)]
    return points[allowed_points(search.plan.strategy, space, search.state, points)]


def _new_points(search: Search, points: Iterable[Codes], kept: int = 0) -> Codes:
    """The points that were never asked for, as many as the budget allows; `kept` evaluations are left unspent."""
    together = np.concatenate([*points, search.points.rows[:0]])
    unseen = together[search.points.unseen(together)]
    left = remaining_evaluations(search, reserved=False)
    return unseen if left is None else unseen[: max(left - kept, min(left, 1))]


def _trial_at(search: Search, point: Codes) -> int:
    """The trial of a point, -1 where there is none."""
    return int(search.points.places(point)[0]) if len(point) else -1


def _select_harmless(
    search: Search,
    base: int,
    names: Sequence[str],
    singles: Sequence[Codes],
    first_ms: FirstTimes,
) -> list[str]:
    """The parameters whose reset may be harmless by its first time, the fastest first.

    The best config looks faster than it is, as the luckiest of many, and was timed earlier; so a reset may be as slow
    as the fastest of the resets, which were timed together, up to FARTHEST beyond the best.
    """
    places = {name: _trial_at(search, point) for name, point in zip(names, singles, strict=True)}
    timed = {name: first_ms[place] for name, place in places.items() if place in first_ms}
    if search.plan.settings.exact:
        return sorted((n for n, (time, *_) in timed.items() if time <= first_ms[base][0]), key=lambda n: timed[n][0])
    high = first_ms[base][2]
    together = min((own_high for _, _, own_high in timed.values()), default=high)
    reach = max(high, min(together, high * (1 + FARTHEST))) * (1 + DRIFT)
    return sorted((name for name, (_, low, _) in timed.items() if low <= reach), key=lambda name: timed[name][0])


def _read_comparison(
    search: Search, base: int, rivals: tuple[int, ...], compared: Iterator[Compared], first_ms: FirstTimes
) -> dict[int, Ratio] | Step | None:
    """The ratio of each compared rival's time to the base's time; a Step that asks for the comparison where it was not
    held yet; None where it was held and shows nothing (too few rounds)."""
    if search.plan.settings.exact:
        ratios = {i: finite_ratio(first_ms[i][0], first_ms[base][0]) for i in rivals}
        return {i: Ratio(value=value, low=value, high=value, level=1.0) for i, value in ratios.items()}
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
        return Ratio(value=LARGEST, low=LARGEST, high=LARGEST)
    return paired_ratio(outcome.times_ms, base.times_ms, level)


def _matters(ratio: Ratio) -> bool:
    """Whether a reset matters: it is certainly slower, or its estimate is slower by more than HARMLESS."""
    return ratio.low > 1 or ratio.value > 1 + HARMLESS


def _request_reset_comparison(search: Search, step: Step) -> Compare | None:
    """The comparison of the config with its rivals, as many of them as there is time and room for."""
    allowed = comparison_seconds(search)
    rounds = count_rounds(search, 1 + len(step.rivals), ENOUGH, HARMLESS / 2)
    most = (
        min(int(allowed / (preparation_seconds(search) + rounds * sample_seconds(search))), room_of_comparison(search))
        - 1
    )
    if most < 1:
        return None
    return request_comparison(search, (step.trial, *step.rivals[:most]), rounds, "simplify", search.clock + allowed)
