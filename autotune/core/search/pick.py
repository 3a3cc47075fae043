"""The pick of a search, and the rounds from which its time and its speed-up are read.

Of many equal configs the one that looks fastest looks faster than it is, and a time read from the samples by which it
was chosen contains its luck. So the reported numbers come from rounds taken after the choice:

1. The favourite was chosen before the verification: by the comparison of the contenders, then by simplification.
2. The first half of the verification's rounds may overrule it: a finalist that they show to be faster at the level
   1 - (1 - STRICT) / m, being one of m others, leads instead. So does a finalist that only all rounds together show to
   be faster: such a difference is small, and hardly ever luck. Otherwise the favourite leads.
3. Numbers are read from all rounds if the favourite leads, and from the second half otherwise. The same rounds decide
   which others are as good as the leader; all rounds decide it where it took all of them to overrule.
4. A finalist is as good as the leader if its ratio to it, time over time, has an interval that reaches 1 and an
   estimate of at most 1 + EQUAL / 2 (1 + HARMLESS if it only puts parameters of the leader back to their default). The
   pick is the simplest of these and the leader: the config with the fewest parameters away from the default; among
   equally simple ones the leader, then the first by rank.
5. The default is the pick unless it is certainly slower: its ratio to the pick has an interval at the level STRICT
   above 1 (at LEVEL, where fewer than ENOUGH rounds are read), and its median is not below the pick's.
6. The speed-up is the median of the ratios default over pick, round by round, with its interval at the level LEVEL.

A comparison of fewer rounds than reach LEVEL by their order shows no tie. Where such rounds, or times of the search of
so few samples, would leave the default as the pick, all samples of the default and of the config that leads by these
decide (`all_samples`): that config is the pick where they show that it is faster, and the numbers are those of all
samples. Journals of earlier versions, without the setting `all_samples`, keep the default.

With the setting `eps` the verification (`verification`) has a verdict, and steps 1 to 5 are its: a pick of which no
finalist is certainly more than eps faster, the simplest of these, and rounds after the choice that prove it faster than
the default, which is the pick otherwise.

Without a verification the times are those of the search, taken one after another; the favourite is the pick, or the
default where the intervals of both meet. Exact times are compared as they are.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from msgspec.structs import replace

from autotune.core.certificate.verdicts import statuses
from autotune.core.outcomes import Outcome, Timed
from autotune.core.search.all_samples import APPRECIABLE, collect_samples, ratio_by_all, too_few
from autotune.core.search.qualification import rank_qualified
from autotune.core.search.simplification import ENOUGH, distance_from_default, find_simplified, only_resets
from autotune.core.search.state import Search
from autotune.core.search.verification import (
    VerificationState,
    find_state,
    ratio_of,
    select_finalists,
    times_since_choice,
)
from autotune.core.statistics import (
    EQUAL,
    HARMLESS,
    LEVEL,
    STRICT,
    Ratio,
    finite_median,
    finite_ratio,
    paired_ratio,
    unpaired_ratio,
)

Compares = Callable[[int, int, float], Ratio]
"""The ratio of the times of two trials, the first over the second, with its interval at a level."""


@dataclass(frozen=True)
class Pick:
    """The trial that a search picks, and the numbers to report of it.

    best: the picked trial. times: the times to report, by trial. ties: the trials as good as the pick, and the ratio of
    each time to the pick's. speedup: default time over the pick's time. fastest: the trial that leads before ties are
    settled. verified: whether all numbers come from the verification. by_all: whether all samples of the search made
    the choice, as the rounds were too few. undecided: the default is the pick, although the leader seems appreciably
    faster, only because there are too few samples.
    """

    best: int
    times: Mapping[int, Timed]
    ties: dict[int, Ratio]
    speedup: Ratio | None
    fastest: int
    verified: bool
    by_all: bool = False
    undecided: bool = False


def choose_pick(search: Search) -> Pick | None:
    """The pick of a search, finished or not; None where no config was timed."""
    found = _choose(search)
    return found if found is None or not search.plan.settings.all_samples else _settle_few(search, found)


def _settle_few(search: Search, found: Pick) -> Pick:
    """The pick where the default was chosen from so few rounds that they could not show another to be faster."""
    default = search.default_trial
    if default is None or found.best != default or search.plan.settings.exact:
        return found
    if not too_few(min(len(found.times[i].times_ms) for i in (default, found.fastest))):
        return found
    samples = collect_samples(search)  # by which the leader is chosen anew: one round may have put the default there
    other = min(found.times, key=lambda i: (finite_median(samples[i]), i))
    if other == default:
        return found
    ratio = ratio_by_all(samples, default, other)
    if ratio is None or ratio.low <= 1:
        seems = finite_ratio(finite_median(samples[default]), finite_median(samples[other]))
        return dataclasses.replace(found, fastest=other, undecided=seems > 1 + APPRECIABLE)
    rivals = {i: ratio_by_all(samples, i, other) for i in {**found.ties, found.fastest: None} if i != other}
    ties = {i: shown for i, shown in rivals.items() if shown is not None and shown.low <= 1}
    times = {i: replace(outcome, times_ms=samples[i]) for i, outcome in found.times.items()}
    ordered = sorted(ties, key=lambda i: (times[i].time_ms, i))
    return Pick(other, times, {i: ties[i] for i in ordered}, ratio, other, verified=False, by_all=True)


def _choose(search: Search) -> Pick | None:
    if search.verified is not None and (timed := _keep_timed(dict(search.verified.outcomes))):
        state = find_state(search) if search.plan.settings.certifies else None
        default = search.default_trial
        if state is not None and (default is None or default in timed or not _is_timed(search, default)):
            return _pick_certified(search, state)
        return _pick_verified(search, timed)
    timed = _keep_timed(dict(search.outcomes))
    if not timed:
        return None
    return _pick_exact(search, timed) if search.plan.settings.exact else _pick_unverified(search, timed)


def _is_timed(search: Search, trial: int) -> bool:
    return isinstance(dict(search.outcomes).get(trial), Timed)


def _keep_timed(outcomes: Mapping[int, Outcome]) -> dict[int, Timed]:
    return {trial: outcome for trial, outcome in outcomes.items() if isinstance(outcome, Timed)}


def _pick_verified(search: Search, timed: dict[int, Timed]) -> Pick:
    ranked, rounds = list(timed), min(len(outcome.times_ms) for outcome in timed.values())
    leader, judged, begins = _find_leader(timed, rounds)
    good = [
        i
        for i in ranked
        if _as_good(_rounds_ratio(timed[i], timed[leader], judged, rounds), only_resets(search, i, leader))
        or i == leader
    ]
    read = {i: replace(outcome, times_ms=outcome.times_ms[begins:rounds]) for i, outcome in timed.items()}
    late = dict(search.outcomes).get(default) if (default := search.default_trial) is not None else None
    if default is not None and default not in dict(search.verified.outcomes if search.verified else ()):
        read |= {default: late} if isinstance(late, Timed) else {}  # its outcome came in after the verification

    def ratio_of(one: int, other: int, level: float) -> Ratio:
        if one == other:
            return _ratio_to_itself()
        ratio = paired_ratio if one in timed and other in timed else unpaired_ratio
        return ratio(read[one].times_ms, read[other].times_ms, level)

    ordered = sorted(good, key=lambda i: (distance_from_default(search, i), i != leader))
    best = _prefer_default(search, ordered, read, ratio_of, STRICT if rounds - begins >= ENOUGH else LEVEL)
    return _make_pick(search, best, leader, read, ratio_of, ranked, verified=True)


def _pick_certified(search: Search, state: VerificationState) -> Pick:
    """The pick of a verification that went on until its claims were certain, by the rounds since it was chosen."""
    default, leader, best = search.default_trial, state.verdict.pick, state.verdict.pick
    read = times_since_choice(search, state)
    if default is not None and default in read:
        ahead = state.never_worse and read[leader].time_ms <= read[default].time_ms
        best = leader if ahead else default
    judged = statuses(state.evidence, best, search.plan.settings.eps or 0.0)
    good = [trial for trial in read if judged.get(trial) in ("tied", "open")]

    def ratio(one: int, other: int, level: float) -> Ratio:
        return _ratio_to_itself() if one == other else ratio_of(search, state, one, other)

    return _make_pick(search, best, leader, read, ratio, good, verified=True)


def _find_leader(timed: Mapping[int, Timed], rounds: int) -> tuple[int, int, int]:
    """The leading trial; the first round that decides which others are as good; the first round that is reported."""
    favourite, half = next(iter(timed)), (rounds + 1) // 2
    if rounds == 1:
        return min(timed, key=lambda i: timed[i].time_ms), 0, 0
    faster = _find_overruling(timed, favourite, half)
    if faster is not None:
        return faster, half, half
    faster = _find_overruling(timed, favourite, rounds)
    return (favourite, 0, 0) if faster is None else (faster, 0, half)


def _rounds_ratio(one: Timed, other: Timed, first: int, last: int) -> Ratio:
    return paired_ratio(one.times_ms[first:last], other.times_ms[first:last])


def _as_good(ratio: Ratio, simpler: bool) -> bool:
    """Whether a finalist with this ratio to the leader is as good. simpler: whether it only resets the leader's
    parameters to their default."""
    return ratio.low <= 1 and ratio.value <= 1 + (HARMLESS if simpler else EQUAL / 2)


def _find_overruling(timed: Mapping[int, Timed], favourite: int, rounds: int) -> int | None:
    """The finalist that the first `rounds` rounds show to be faster than the favourite; None where there is none."""
    others = [i for i in timed if i != favourite]
    level = 1 - (1 - STRICT) / max(len(others), 1)
    base = timed[favourite].times_ms[:rounds]
    ratios = {i: paired_ratio(base, timed[i].times_ms[:rounds], level) for i in others}
    faster = [i for i in others if ratios[i].low > 1]
    return max(faster, key=lambda i: ratios[i].value, default=None)


def _pick_unverified(search: Search, timed: dict[int, Timed]) -> Pick:
    def ratio_of(one: int, other: int, level: float) -> Ratio:
        return _ratio_to_itself() if one == other else unpaired_ratio(timed[one].times_ms, timed[other].times_ms, level)

    ranked = sorted(timed, key=lambda i: (timed[i].time_ms, i))
    known = [i for i in (find_simplified(search), *rank_qualified(search), *ranked) if i in timed and i is not None]
    best = _prefer_default(search, known[:1], timed, ratio_of, LEVEL)
    return _make_pick(search, best, known[0], timed, ratio_of, select_finalists(search), verified=False)


def _pick_exact(search: Search, timed: dict[int, Timed]) -> Pick:
    def ratio_of(one: int, other: int, level: float) -> Ratio:
        value = finite_ratio(timed[one].time_ms, timed[other].time_ms)
        return Ratio(value=value, low=value, high=value, level=1.0)

    least = min(outcome.time_ms for outcome in timed.values())
    equal = sorted(i for i, outcome in timed.items() if outcome.time_ms == least)
    best = min(equal, key=lambda i: (distance_from_default(search, i), i))
    return _make_pick(search, best, equal[0], timed, ratio_of, select_finalists(search), verified=False)


def _prefer_default(
    search: Search, ordered: Sequence[int], times: Mapping[int, Timed], ratio_of: Compares, level: float
) -> int:
    """The first of the ordered trials that is certainly faster than the default; the default where none is."""
    default = search.default_trial
    if default is None or default not in times:
        return ordered[0]
    if default in ordered:
        return default
    for trial in ordered:
        ratio = ratio_of(default, trial, level)
        if ratio.low > 1 and times[trial].time_ms <= times[default].time_ms:
            return trial
    return default


def _make_pick(
    search: Search,
    best: int,
    fastest: int,
    times: Mapping[int, Timed],
    ratio_of: Compares,
    finalists: Sequence[int],
    verified: bool,
) -> Pick:
    ratios = {i: ratio_of(i, best, LEVEL) for i in finalists if i in times and i != best}
    ties = sorted((i for i, ratio in ratios.items() if ratio.low <= 1), key=lambda i: (times[i].time_ms, i))
    default = search.default_trial
    speedup = ratio_of(default, best, LEVEL) if default is not None and default in times else None
    return Pick(best, times, {i: ratios[i] for i in ties}, speedup, fastest, verified)


def _ratio_to_itself() -> Ratio:
    """The ratio of a time to itself."""
    return Ratio(value=1.0, low=1.0, high=1.0, level=1.0)


def drift_of(samples: Sequence[Sequence[float]]) -> Ratio | None:
    """The ratio of the device's times in the last third of the rounds to its times in the first third.

    samples [configs][rounds]: times of each config in milliseconds. None where there are fewer than six rounds. Each
    time is divided by its config's median, and each round is represented by the median over configs, so the ratio
    shows the device, not the configs.
    """
    rounds = min(map(len, samples), default=0)
    if rounds < 6:
        return None
    shares = [[finite_ratio(time, finite_median(own[:rounds])) for time in own[:rounds]] for own in samples]
    seen = [median(each) for each in zip(*shares, strict=True)]
    return unpaired_ratio(seen[-(rounds // 3) :], seen[: rounds // 3])
