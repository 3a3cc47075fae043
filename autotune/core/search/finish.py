"""What follows the search proper: qualification, simplification, the final verification, and the end.

Who gets into the final verification: one comparison of all that may be the fastest, is_decided by pairs of samples.

Times that were taken one after another differ for no reason of the configs': clock and temperature drift, and of many
equal ones the luckiest leads. So the first few by rank are not the fastest few. All that are near are timed side by
side first, and what is then certainly slower than the fastest of them is out. Its times say nothing of the other
trials' and are kept apart from theirs.

The first round of a sequential halving: Karnin, Koren and Somekh, "Almost optimal exploration in multi-armed bandits"
(2013).

Simplification: put back to its default whatever does not matter to the best config.

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
from itertools import islice
from statistics import median

import numpy as np

from autotune.core.outcomes import Failed, Outcome, Timed, Trial
from autotune.core.parameters import Codes
from autotune.core.search.limits import (
    STARTING_S,
    TOGETHER,
    deadline,
    limits_for,
    remaining_evaluations,
    sample_seconds,
    search_deadline,
    verification_seconds,
)
from autotune.core.search.messages import Compare, Compared, Finished, Measure, Wait
from autotune.core.search.rounds import count_rounds, request_comparison
from autotune.core.search.state import SIMPLIFY, Search
from autotune.core.statistics import HARMLESS, LARGEST, STRICT, Ratio, divided, paired_ratio
from autotune.core.strategies.protocol import allowed_points

DRIFT = 0.02
"""Relative difference of times not taken side by side that need not mean anything: twice what was seen on an H100."""

SEED_REACH = 0.05
"""As much slower a seed may seem and still be compared: it is timed first, on a device that has just been idle."""

MOST_ROUNDS = 31
"""Rounds of the comparison of the contenders where few are left, but noisy."""

LEAST_S = 3.0
"""Seconds that the comparison may take even where the whole search took no longer."""


def request_qualification(search: Search) -> Compare | None:
    """The comparison of the contenders, if it was not held yet, there are several, and a verification will follow.

    Where configs have to be built again each is kept in a process of its own, with the arguments: there are few then.
    """
    settings = search.plan.settings
    if settings.exact or not settings.verify_rounds or search.qualified is not None or search.best_ms is None:
        return None
    if search.verified is not None or search.trials[-1].origin == SIMPLIFY:  # what is to follow was chosen without
        return None
    allowed, each = (
        comparison_seconds(search),
        preparation_seconds(search) + settings.confirm_rounds * sample_seconds(search),
    )
    most = min(settings.contenders, settings.confirm_at_most) if settings.rebuild else settings.contenders
    chosen = select_contenders(search, int(min(allowed / each, most)))
    simplifies = bool(settings.simplify_rounds) and search.default_trial is not None
    if len(chosen) < 2 or (len(chosen) <= settings.finalists and not simplifies):
        return None  # they are all finalists
    wanted = count_rounds(search, len(chosen), settings.confirm_rounds, HARMLESS / 2)
    rounds = max(settings.confirm_rounds, min(wanted, MOST_ROUNDS))
    return request_comparison(search, chosen, rounds, "qualify", search.clock + allowed)


def select_contenders(search: Search, most: int) -> list[int]:
    """Trials that may be the fastest, by the times of the search: noise or drift may account for the difference.

    Seeds that are near have up to half of the places whatever their rank: of many equal ones, somebody had a reason for
    these.
    """
    ranking = search.archive.ranking()
    if not len(ranking):
        return []
    near = search.archive.latest[ranking]
    reach = max(float(near["high_ms"][0]), min(float(near["time_ms"][0]) * (1 + DRIFT), LARGEST))
    found: list[int] = near["trial"][near["low_ms"] <= reach].tolist()
    seeds = [i for i in near_seeds(search)[: most // 2] if i not in found[:most]]
    return found[: most - len(seeds)] + seeds


def near_seeds(search: Search) -> list[int]:
    """Seeds that seem to be hardly slower than the best trial, fastest first."""
    near = search.archive.latest[search.archive.ranking()]
    reach = min(float(near["time_ms"][0]) * (1 + SEED_REACH), LARGEST) if len(near) else 0.0
    given = frozenset(search.plan.seeds)
    return [i for i in near["trial"][near["time_ms"] <= reach].tolist() if search.trials[i].config in given]


def find_beaten(search: Search) -> set[int]:
    """The contenders that were shown to be slower than the fastest of them."""
    return (
        {i for i, _ in search.qualified.outcomes} - set(rank_qualified(search))
        if search.qualified is not None
        else set()
    )


def rank_qualified(search: Search) -> list[int]:
    """The contenders that nothing shows to be slower than the fastest of them, fastest first; empty: none was held."""
    outcomes = dict(search.qualified.outcomes) if search.qualified is not None else {}
    timed = {i: outcome for i, outcome in outcomes.items() if isinstance(outcome, Timed)}
    if not timed:
        return []
    base = timed[min(timed, key=lambda i: (timed[i].time_ms, i))].times_ms
    pairs = {i: paired_ratio(one.times_ms, base) for i, one in timed.items()}
    left = [i for i, ratio in pairs.items() if ratio.low <= 1]
    return sorted(left, key=lambda i: (pairs[i].value, i))


def comparison_seconds(search: Search) -> float:
    """Seconds that one comparison before the verification may take: as many as that needs, if the search took longer,
    or in proportion to the search, as far as a budget leaves them beside the verification."""
    needed = verification_seconds(search)
    earned = max(LEAST_S, min(needed, search.clock), search.plan.settings.reserve * search.clock)
    ends = deadline(search)
    return earned if ends is None else min(earned, max(ends - search.clock - needed, 0.0))


def preparation_seconds(search: Search) -> float:
    """Seconds until one more config can be sampled: it is built again, or only checked again, as it has been once."""
    if search.plan.settings.rebuild:
        return STARTING_S + search.archive.typical_compile_s
    runs = [o.run_s for _, o in islice(reversed(search.outcomes), 64) if isinstance(o, Timed)]
    return max(median(runs), 1e-3) if runs else STARTING_S


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


def request_simplification(search: Search) -> Measure | Compare | None:
    """The next resets to measure or to compare, or None when there is nothing left to try or to spend."""
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
    """The trial that simplification has arrived at: the best one itself where nothing could be reset."""
    step = _current_step(search)
    return None if step is None else step.trial


def distance_from_default(search: Search, trial: int) -> int:
    """How many parameters of a trial are away from the default's; 0 where there is no default."""
    return 0 if search.default_trial is None else len(_parameters_changed(search, trial))


def only_resets(search: Search, one: int, other: int) -> bool:
    """Whether all that one trial changes in another is to put parameters back to their default."""
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
        sizes = _sizes(len(harmless), each_alone=not number and len(harmless) + 2 <= _room(search))
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


def _best_found(search: Search) -> int | None:
    """The best trial that simplification did not ask for itself: of the contenders, if they were compared."""
    ranked = [*rank_qualified(search), *search.archive.trials[search.archive.ranking()].tolist()]
    return next((i for i in ranked if search.trials[i].origin != SIMPLIFY), None)


def _first_times(search: Search) -> FirstTimes:
    """Later ones do not change the way that was gone."""
    records = search.records.array
    records = records[records["ok"]][::-1]
    columns = (records[name].tolist() for name in ("trial", "time_ms", "low_ms", "high_ms"))
    return {trial: (time, low, high) for trial, time, low, high in zip(*columns, strict=True)}


def _rank_parameters(search: Search, base: int) -> list[str]:
    """The parameters that are away from their default, the likeliest not to matter first: the fastest config that has
    the default there is hardly slower than the best."""
    archive, default = search.archive, search.point(0)
    timed = archive.points[archive.ok]
    least: dict[str, float] = {}
    for name in _parameters_changed(search, base):
        part = search.plan.space.slices[name]
        at_default = archive.time_ms[archive.ok][(timed[:, part] == default[part]).all(axis=1)]
        least[name] = float(at_default.min(initial=np.inf))
    return sorted(least, key=lambda name: least[name])


def _reset_point(search: Search, base: int, names: Iterable[str]) -> Codes:
    """The point [1, columns] of a trial with these parameters at their default; [0, columns] where it must not be."""
    space, point, default = search.plan.space, np.array(search.point(base)), search.point(0)
    for name in names:
        point[space.slices[name]] = default[space.slices[name]]
    points: Codes = point[None]
    points = points[space.valid(points)]
    return points[allowed_points(search.plan.strategy, space, search.state, points)]


def _new_points(search: Search, points: Iterable[Codes], kept: int = 0) -> Codes:
    """Those of the points that were never asked for, as many as the budget allows less so many that are kept."""
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
    """The parameters whose reset may not matter by its first time, the fastest first.

    The best config looks faster than it is, as the luckiest of many, and its time is of an earlier hour; so a reset may
    be as slow as the fastest of the resets, which were timed together, within reason.
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


def _request_reset_comparison(search: Search, step: Step) -> Compare | None:
    """The rivals beside the config that they simplify, as many as there is time and room for."""
    allowed = comparison_seconds(search)
    rounds = count_rounds(search, 1 + len(step.rivals), ENOUGH, HARMLESS / 2)
    most = min(int(allowed / (preparation_seconds(search) + rounds * sample_seconds(search))), _room(search)) - 1
    if most < 1:
        return None
    return request_comparison(search, (step.trial, *step.rivals[:most]), rounds, "simplify", search.clock + allowed)


def request_finish(search: Search) -> Measure | Compare | Wait | Finished:
    """The next step of a search that was concluded or interrupted."""
    over = (ends := deadline(search)) is not None and search.clock >= ends
    if search.comparing is not None and not over:
        return Wait(ends)
    if not search.interrupted and not over and (heat := request_qualification(search)) is not None:
        return heat
    if not search.interrupted and search.verified is None and (step := _simplification_step(search)) is not None:
        return step
    if search.verified is None and not over and (compare := request_verification(search)) is not None:
        return compare
    if search.interrupted or search.concluded is None:
        return Finished("interrupted", complete=False)
    return Finished(search.concluded.reason, complete=True)


def _simplification_step(search: Search) -> Measure | Compare | Wait | None:
    ends = search_deadline(search)
    if ends is not None and search.clock >= ends:
        return None
    if any(trial.origin == SIMPLIFY for trial in search.pending):  # what the strategy left outstanding was given up
        return Wait(ends)
    return request_simplification(search)


def request_verification(search: Search) -> Compare | None:
    """The finalists and the default, side by side; None when one config remains, or measuring tells nothing new."""
    settings = search.plan.settings
    least = settings.hurried_rounds if search.interrupted else settings.verify_rounds
    if settings.exact or not least:
        return None
    chosen = select_finalists(search)
    if len(chosen) < 2:
        return None
    rounds = least if search.interrupted else count_rounds(search, len(chosen), least)
    return request_comparison(search, chosen, rounds, "verify", deadline(search))


def select_finalists(search: Search) -> list[int]:
    """Trials that may turn out to be the best, by what is known of them, the likeliest first: the simplification of the
    best, those that qualified, the simplest of all that qualified, the default, and seeds that are as good as far as is
    known.
    """
    archive, most = search.archive, search.plan.settings.finalists
    timed = set(archive.trials[archive.ok].tolist())
    passed = [i for i in rank_qualified(search) if i in timed]
    simple, lost = find_simplified(search), find_beaten(search)
    ranked = [
        *([simple] if simple is not None and simple in timed else []),
        *(passed or select_contenders(search, most)),
    ]
    fast = list(dict.fromkeys(ranked))[:most]
    simplest = min(passed, key=lambda i: distance_from_default(search, i), default=None)
    seeds = [i for i in near_seeds(search) if i not in lost][:most]
    extra = (simplest, search.default_trial, *seeds)
    return fast + [i for i in dict.fromkeys(extra) if i is not None and i in timed and i not in fast]
