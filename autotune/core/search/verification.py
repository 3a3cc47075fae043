"""The verification: the finalists and the default are timed side by side until the claims about the pick are certain.

1. The finalists and the default are timed side by side for a few rounds. Qualification and simplification have been
   comparisons of the same kind, so their rounds count as well.
2. The verdict (`certificate/verdicts`) names the pick and its rivals: those that may still be more than eps faster.
   The next rounds go to the pick, to these, and to the default while it is not certainly slower than the pick; beaten
   and tied finalists take no more part. So rounds go to leader and challenger: Kalyanakrishnan, Tewari, Auer and Stone,
   "PAC subset selection in stochastic multi-armed bandits" (2012), LUCB; Garivier and Kaufmann, "Optimal best arm
   identification with fixed confidence" (2016).
3. It ends when no rival is left and the default is beaten, or when the rounds or the time are used up.

Without the setting `eps`, as in journals of earlier versions, it is one comparison of a number of rounds that the noise
of the search decides.

The bound that decides about the default, and all reported times, come only from rounds after the comparison by which
the pick was chosen: the favourite was chosen before the first one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, log1p

import numpy as np
from msgspec.structs import replace

from autotune.core.certificate.bounds import Logs, as_ratio, lower_bounds, rounds_needed
from autotune.core.certificate.evidence import Block, Evidence, weigh
from autotune.core.certificate.verdicts import (
    COMPARED_ERROR,
    NEVER_WORSE_ERROR,
    Verdict,
    find_standing,
    judge,
    statuses,
)
from autotune.core.outcomes import Timed
from autotune.core.search.alone import find_unsettled, first_times
from autotune.core.search.limits import deadline, sample_seconds
from autotune.core.search.messages import Compare, Compared
from autotune.core.search.qualification import (
    DRIFT,
    comparison_seconds,
    find_beaten,
    near_seeds,
    preparation_seconds,
    rank_qualified,
    room_of_comparison,
    select_contenders,
)
from autotune.core.search.rounds import count_rounds, request_comparison
from autotune.core.search.simplification import distance_from_default, find_simplified
from autotune.core.search.state import Search
from autotune.core.statistics import LARGEST, Ratio

FIRST_ROUNDS, LEAST_ROUNDS = 8, 4
"""Rounds of the first comparison, and fewest of a later one: less than these cost less than preparing the configs."""


@dataclass(frozen=True, kw_only=True)
class VerificationState:
    """Where the verification stands.

    verdict: on all compared trials; its pick is a finalist. since: how many of the comparisons were over when the pick
    was chosen. gain: the lower bound of log(default time / pick time) by the rounds since then; inf where the default
    is the pick or was not timed, -inf where there are too few rounds.
    """

    evidence: Evidence
    verdict: Verdict
    since: int
    gain: float

    @property
    def never_worse(self) -> bool:
        """Whether the pick is the default, or certainly faster than it."""
        return as_ratio(self.gain) > 1


def comparisons_of(search: Search) -> tuple[Block, ...]:
    """The rounds of all comparisons that count, in the order in which they were held."""
    return _blocks((search.qualified, *search.simplifying, *search.verifying), _failed(search))


def evidence_of(search: Search) -> Evidence | None:
    """What all comparisons say; None where no two trials were compared."""
    return _weigh_blocks(comparisons_of(search))


def find_state(search: Search) -> VerificationState | None:
    """Where the verification stands; None before its first comparison, and where that timed fewer than two trials."""
    early = _blocks((search.qualified, *search.simplifying), _failed(search))
    own = _blocks(search.verifying, _failed(search))
    if not own:
        return None
    finalists = tuple(dict.fromkeys(trial for block in own for trial in block.trials))
    simple = tuple(sorted(finalists, key=lambda i: (distance_from_default(search, i), finalists.index(i))))
    eps, found = search.plan.settings.eps or 0.0, list[Verdict]()
    for count in range(1, len(own) + 1):
        evidence = _weigh((*early, *own[:count]))
        found.append(judge(evidence, _order(search, simple, found), finalists[0], eps))
    since = len(own)
    while since > 1 and found[since - 2].pick == found[-1].pick:
        since -= 1
    if since == 1 and found[-1].pick == finalists[0]:
        since = 0
    gain = _find_gain(search, evidence, own[since:], found[-1].pick)
    return VerificationState(evidence=evidence, verdict=found[-1], since=since, gain=gain)


def _order(search: Search, simple: tuple[int, ...], earlier: Sequence[Verdict]) -> tuple[int, ...]:
    """The finalists in the order in which they may be picked: a pick that was settled before stays, unless the default
    will do, so that the rounds after the choice go on to count."""
    if not earlier or not earlier[-1].settled:
        return simple
    return tuple(sorted(simple, key=lambda i: (i != search.default_trial, i != earlier[-1].pick, simple.index(i))))


def _find_gain(search: Search, evidence: Evidence, blocks: Sequence[Block], pick: int) -> float:
    default = search.default_trial
    if default is None or default not in evidence.trials or pick == default:
        return inf
    found = [-inf]
    for count in range(1, len(blocks) + 1):
        ratios = paired_logs(blocks[:count], default, pick)
        found += lower_bounds(ratios[None], evidence.noise, NEVER_WORSE_ERROR).tolist()
    return max(found)  # a bound that once held goes on to hold


def paired_logs(blocks: Sequence[Block], one: int, other: int) -> Logs:
    """log(time of one / time of other) [rounds] in all rounds of both."""
    found = [np.zeros(0)]
    for block in blocks:
        if one in block.trials and other in block.trials:
            a, b = (np.log(block.times_ms[block.trials.index(trial)]) for trial in (one, other))
            found.append(a - b)
    return np.concatenate(found)


def times_since_choice(search: Search, state: VerificationState) -> dict[int, Timed]:
    """The times of each finalist in the rounds after the choice of the pick, and of one that took no part in these in
    all its rounds. The pick's and the default's are of the same rounds."""
    assert search.verified is not None, "there is a verdict"
    own, pick, default = _blocks(search.verifying, _failed(search)), state.verdict.pick, search.default_trial
    late = [block for block in own[state.since :] if pick in block.trials]
    late = [block for block in late if default in block.trials] or late or list(own)
    found: dict[int, Timed] = {}
    for trial, outcome in search.verified.outcomes:
        if isinstance(outcome, Timed):
            parts = [block for block in late if trial in block.trials] or [b for b in own if trial in b.trials]
            samples = [time for block in parts for time in block.times_ms[block.trials.index(trial)]]
            found[trial] = replace(outcome, times_ms=tuple(samples or outcome.times_ms))
    return found


def ratio_of(search: Search, state: VerificationState, one: int, other: int) -> Ratio:
    """The ratio of two finalists' times, round by round, in rounds after the choice where both were in some.

    The bounds hold at any time (`certificate/bounds`); for the default over the pick, the lower one decides the pick.
    """
    own = _blocks(search.verifying, _failed(search))
    logs = paired_logs(own[state.since :], one, other)
    logs = logs if len(logs) else paired_logs(comparisons_of(search), one, other)
    if not len(logs):
        return Ratio(value=1.0, low=0.0, high=LARGEST)
    noise, value = state.evidence.noise, as_ratio(float(np.median(logs)))
    low, below = (as_ratio(float(b)) for b in lower_bounds(np.stack([logs, -logs]), noise, NEVER_WORSE_ERROR))
    if (one, other) == (search.default_trial, state.verdict.pick):
        low = as_ratio(state.gain)
    high = 1 / below if below > 0 else LARGEST
    return Ratio(value=value, low=min(low, value), high=max(high, value), level=1 - 2 * NEVER_WORSE_ERROR)


def request_verification(search: Search) -> Compare | None:
    """The next comparison of the finalists and the default; None when it is over, one config remains, or times are
    exact."""
    settings = search.plan.settings
    least = settings.hurried_rounds if search.interrupted else settings.verify_rounds
    if settings.exact or not least:
        return None
    if search.verified is not None:
        return _request_more(search) if settings.certifies and not search.interrupted else None
    chosen = select_rivals(search) if settings.certifies else select_finalists(search)
    if len(chosen) < 2:
        return None
    if settings.certifies:
        return _request(search, chosen, least if search.interrupted else min(FIRST_ROUNDS, least))
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


def select_rivals(search: Search) -> list[int]:
    """The finalists that comparisons have not settled yet: the favourite, the default, and those that may be more than
    eps faster than the favourite by what qualification and simplification have shown; as many as there is room for."""
    chosen = select_finalists(search)
    evidence = _weigh_blocks(_blocks((search.qualified, *search.simplifying), frozenset()))
    if not chosen or evidence is None:
        return chosen
    favourite, default, known = chosen[0], search.default_trial, set(search.archive.trials[search.archive.ok].tolist())
    more = [i for i in rank_qualified(search) if i in known]
    if favourite in evidence.trials:
        status = statuses(evidence, favourite, search.plan.settings.eps or 0.0)
        settled = {i for i, word in status.items() if word != "open" and i != default}
    else:
        settled = {i for i in evidence.trials if i not in find_standing(evidence) and i != default}
    left = [i for i in dict.fromkeys((*chosen, *more)) if i not in settled]
    left = left if len(left) > 1 else chosen[:2]  # the pick's time is that of rounds after the choice
    each_s = preparation_seconds(search) + FIRST_ROUNDS * sample_seconds(search)
    room = max(min(int(comparison_seconds(search) / each_s), room_of_comparison(search)), len(chosen))
    room = min(room, 2 * search.plan.settings.finalists + 1)
    return [*left[:room], *(i for i in left[room:] if i == default)]


def _request_more(search: Search) -> Compare | None:
    """The next comparison after the first one; None where all is shown, or rounds or time are used up.

    All together take no more samples than one comparison of the finalists with a fixed number of rounds would, except
    that the pick and the default may have that number of rounds after the choice, and have FIRST_ROUNDS.
    """
    state = find_state(search)
    if state is None:
        return None
    settings, own = search.plan.settings, _blocks(search.verifying, frozenset())
    done, used = sum(len(one.times_ms[0]) for one in own), sum(len(one.trials) * len(one.times_ms[0]) for one in own)
    count = min(max(len(own[0].trials), settings.finalists + 1), settings.finalists + 2, len(search.archive.ranking()))
    left = count * count_rounds(search, count, settings.verify_rounds) - used
    pick, trials = state.verdict.pick, _next_trials(search, state)
    if (suspects := _find_suspects(search, state, trials[1:])) and LEAST_ROUNDS * len(suspects) <= left:
        return _request(search, [pick, *suspects], LEAST_ROUNDS)
    if len(trials) > 1:
        rounds = min(_rounds_wanted(search, state, trials, done), left // len(trials))
        rounds = max(rounds, LEAST_ROUNDS if len(search.verifying) < settings.processes else 0)
        if rounds >= LEAST_ROUNDS:
            return _request(search, trials, rounds)
    default = search.default_trial
    if default is None or default == pick or default not in state.evidence.trials:
        return None
    since = len(paired_logs(own[state.since :], default, pick))
    left = (FIRST_ROUNDS if state.never_worse else settings.verify_rounds) - since
    if left < 1:
        return None
    return _request(search, [pick, default], min(_rounds_wanted(search, state, [pick, default], left), left))


def _find_suspects(search: Search, state: VerificationState, rivals: Sequence[int]) -> list[int]:
    """The trials that were never compared and that their times in the search do not rule out, with the default if it
    is among the rivals; empty where they cannot all be compared at once, or noise would hide what such times hide."""
    evidence, first, latest = state.evidence, first_times(search), dict(search.outcomes)
    first = {i: outcome for i, outcome in first.items() if isinstance(latest[i], Timed)}
    found = list(find_unsettled(evidence, state.verdict.pick, first, evidence.trials))
    each_s = preparation_seconds(search) + LEAST_ROUNDS * sample_seconds(search)
    room = min(int(comparison_seconds(search) / each_s), room_of_comparison(search) - 2)
    clear = rounds_needed(DRIFT, evidence.noise, evidence.error, 2 * FIRST_ROUNDS) < 2 * FIRST_ROUNDS
    if not found or len(found) > room or not clear:
        return []
    return found + [trial for trial in rivals if trial == search.default_trial]


def _request(search: Search, trials: Sequence[int], rounds: int) -> Compare:
    return request_comparison(search, trials, rounds, "verify", deadline(search), fixed=True)


def _next_trials(search: Search, state: VerificationState) -> list[int]:
    """The pick and those it has to be compared with once more; empty where nothing is left to show."""
    verdict, default = state.verdict, search.default_trial
    own = _blocks(search.verifying, _failed(search))
    finalists = tuple(dict.fromkeys(trial for block in own for trial in block.trials))
    middle = np.nan_to_num(state.evidence.middle[:, state.evidence.place(verdict.pick)])
    rivals = [trial for trial in verdict.open if trial != default]
    rivals.sort(key=lambda trial: (middle[state.evidence.place(trial)], trial))
    del rivals[search.plan.settings.finalists :]
    fewer = len(search.verifying) < search.plan.settings.processes
    if default is not None and default in finalists and default != verdict.pick:
        undecided = not state.never_worse or verdict.statuses[default] == "open"
        rivals += [default] if undecided or fewer else []
    elif fewer and not rivals:
        rivals += [trial for trial in finalists if verdict.statuses.get(trial) == "tied"][:1]
    return [verdict.pick, *rivals] if rivals else []


def _rounds_wanted(search: Search, state: VerificationState, trials: Sequence[int], done: int) -> int:
    """About how many rounds settle the nearest of the rivals, by their distances so far; at most as many as before."""
    evidence, wanted, eps = state.evidence, LEAST_ROUNDS, search.plan.settings.eps or 0.0
    j = evidence.place(trials[0])
    for trial in trials[1:]:
        i = evidence.place(trial)
        away, rounds, error = float(np.nan_to_num(evidence.middle[i, j])), int(evidence.rounds[i, j]), evidence.error
        if trial == search.default_trial:
            away, rounds, error = max(away, eps - abs(away)), 0 if state.since else rounds, NEVER_WORSE_ERROR
        else:
            away -= log1p(-eps)
        if not (trial == search.default_trial and state.never_worse):
            wanted = max(wanted, rounds_needed(away, evidence.noise, error, rounds + done) - rounds)
    return max(min(wanted, done), LEAST_ROUNDS)


def _failed(search: Search) -> frozenset[int]:
    """The trials that failed in the verification: they are no picks, whatever their earlier times."""
    return frozenset(i for event in search.verifying for i, outcome in event.outcomes if not isinstance(outcome, Timed))


def _weigh_blocks(blocks: tuple[Block, ...]) -> Evidence | None:
    return _weigh(blocks) if blocks else None


@lru_cache(maxsize=64)
def _weigh(blocks: tuple[Block, ...]) -> Evidence:
    evidence = weigh(blocks, COMPARED_ERROR)
    assert evidence is not None, "a block has two trials at least"
    return evidence


def _blocks(events: Sequence[Compared | None], failed: frozenset[int]) -> tuple[Block, ...]:
    """The comparisons in which two trials were timed at least."""
    found = []
    for event in events:
        timed = [
            (i, o.times_ms) for i, o in (event.outcomes if event else ()) if isinstance(o, Timed) and i not in failed
        ]
        if len(timed) > 1:
            rounds = min(len(times) for _, times in timed)
            found.append(Block(tuple(i for i, _ in timed), tuple(times[:rounds] for _, times in timed)))
    return tuple(found)
