"""The end of a search: comparison of the contenders, simplification, verification.

Three steps follow once the strategy has concluded, each skipped where the plan or the budget says so:

1. Qualification compares all configs that may be the fastest, in one comparison decided by pairs of samples. Times
   taken one after another differ for reasons that are not the configs' own (clock and temperature drift), and of many
   equal configs the luckiest leads, so the first few by rank are not the fastest few. All near the best are timed side
   by side, and those certainly slower than the fastest of them are out. These times are kept apart from the times of
   the search. It is the first round of a sequential halving: Karnin, Koren and Somekh, "Almost optimal exploration in
   multi-armed bandits" (2013).
2. Simplification puts parameters of the best config back to their default where they do not matter. Each
   single-parameter reset is measured once, which tells the resets that look harmless. Those are timed side by side
   with the config, together with sets of them: all, the better half, the most harmless one. The largest set that
   nothing shows to matter is taken, and the rest is tried on top of it, until nothing is left or the number of
   comparisons is used up. Testing in groups saves evaluations where few parameters matter: Dorfman, "The detection of
   defective members of large populations" (1943). Exact times need no comparison.
3. Verification times the finalists and the default side by side; `pick` reads the result from it.

No step keeps state of its own: the requests, measurements and comparisons so far determine the next request.
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
from autotune.core.statistics import HARMLESS, LARGEST, STRICT, Ratio, finite_ratio, paired_ratio
from autotune.core.strategies.protocol import allowed_points

DRIFT = 0.02
"""Relative difference that two times may show by drift alone when not taken side by side: twice the drift measured on
an H100."""

SEED_REACH = 0.05
"""How much slower a seed may look (relative) and still be compared: seeds are timed first, on a device that was idle
until then."""

MOST_ROUNDS = 31
"""Most rounds of the qualification, reached where contenders are few and noisy: as many as the verification takes."""

LEAST_S = 3.0
"""Seconds that a comparison before the verification may always take, however short the search was."""

ENOUGH = 8
"""Fewest rounds from which simplification concludes anything: no order of fewer samples reaches the level STRICT."""

FARTHEST = 0.1
"""Most relative change of a device's clock, between the search and simplification, that is allowed for."""


def request_finish(search: Search) -> Measure | Compare | Wait | Finished:
    """The next request of a search that was concluded or interrupted."""
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
    """The next request of simplification; Wait while its resets are under way, None when it or its time is over."""
    ends = search_deadline(search)
    if ends is not None and search.clock >= ends:
        return None
    if any(trial.origin == SIMPLIFY for trial in search.pending):  # the strategy's own outstanding trials were given up
        return Wait(ends)
    return request_simplification(search)


def request_qualification(search: Search) -> Compare | None:
    """The comparison of the contenders, if none was held, there are several, and a verification will follow.

    Where a comparison has to build its configs again, each is kept in a process with its own copy of the arguments, so
    fewer are compared.
    """
    settings = search.plan.settings
    if settings.exact or not settings.verify_rounds or search.qualified is not None or search.best_ms is None:
        return None
    if search.verified is not None or search.trials[-1].origin == SIMPLIFY:  # the next step was chosen without one
        return None
    allowed, each = (
        comparison_seconds(search),
        preparation_seconds(search) + settings.confirm_rounds * sample_seconds(search),
    )
    chosen = select_contenders(search, int(min(allowed / each, _room(search))))
    simplifies = bool(settings.simplify_rounds) and search.default_trial is not None
    if len(chosen) < 2 or (len(chosen) <= settings.finalists and not simplifies):
        return None  # all of them are finalists
    wanted = count_rounds(search, len(chosen), settings.confirm_rounds, HARMLESS / 2)
    rounds = max(settings.confirm_rounds, min(wanted, MOST_ROUNDS))
    return request_comparison(search, chosen, rounds, "qualify", search.clock + allowed)


def select_contenders(search: Search, most: int) -> list[int]:
    """At most `most` trials that noise or drift may hide the fastest among, by the times of the search.

    Seeds near the best take up to half of the places whatever their rank: among equal configs, the user had a reason
    to name these.
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
    """Trials of seeds within SEED_REACH of the best trial, fastest first."""
    near = search.archive.latest[search.archive.ranking()]
    reach = min(float(near["time_ms"][0]) * (1 + SEED_REACH), LARGEST) if len(near) else 0.0
    given = frozenset(search.plan.seeds)
    return [i for i in near["trial"][near["time_ms"] <= reach].tolist() if search.trials[i].config in given]


def find_beaten(search: Search) -> set[int]:
    """The contenders that the qualification shows to be slower than the fastest of them."""
    return (
        {i for i, _ in search.qualified.outcomes} - set(rank_qualified(search))
        if search.qualified is not None
        else set()
    )


def rank_qualified(search: Search) -> list[int]:
    """The contenders not shown to be slower than the fastest of them, fastest first; empty where none were compared."""
    outcomes = dict(search.qualified.outcomes) if search.qualified is not None else {}
    timed = {i: outcome for i, outcome in outcomes.items() if isinstance(outcome, Timed)}
    if not timed:
        return []
    base = timed[min(timed, key=lambda i: (timed[i].time_ms, i))].times_ms
    pairs = {i: paired_ratio(one.times_ms, base) for i, one in timed.items()}
    left = [i for i, ratio in pairs.items() if ratio.low <= 1]
    return sorted(left, key=lambda i: (pairs[i].value, i))


def comparison_seconds(search: Search) -> float:
    """Seconds that one comparison before the verification may take.

    As many as the verification needs where the search took longer than that, at least the share `reserve` of the
    search, and no more than the budget leaves beside the verification.
    """
    needed = verification_seconds(search)
    earned = max(LEAST_S, min(needed, search.clock), search.plan.settings.reserve * search.clock)
    ends = deadline(search)
    return earned if ends is None else min(earned, max(ends - search.clock - needed, 0.0))


def preparation_seconds(search: Search) -> float:
    """Seconds until one more config can be sampled: to build it again, or only to check it again."""
    if search.plan.settings.rebuild:
        return STARTING_S + search.archive.typical_compile_s
    runs = [o.run_s for _, o in islice(reversed(search.outcomes), 64) if isinstance(o, Timed)]
    return max(median(runs), 1e-3) if runs else STARTING_S


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


def _room(search: Search) -> int:
    """Most configs in one comparison."""
    settings = search.plan.settings
    return min(settings.contenders, settings.confirm_at_most) if settings.rebuild else settings.contenders


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
    most = min(int(allowed / (preparation_seconds(search) + rounds * sample_seconds(search))), _room(search)) - 1
    if most < 1:
        return None
    return request_comparison(search, (step.trial, *step.rivals[:most]), rounds, "simplify", search.clock + allowed)


def request_verification(search: Search) -> Compare | None:
    """The comparison of the finalists and the default; None when one config remains or times are exact."""
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
    """Trials that may turn out to be the best, the likeliest first.

    In this order: the simplified best, the qualified contenders (together at most `finalists`), the simplest qualified
    contender, the default, and the seeds near the best that were not beaten.
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
