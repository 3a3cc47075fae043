"""Who gets into the final verification: one comparison of all that may be the fastest, decided by pairs of samples.

Times that were taken one after another differ for no reason of the configs': clock and temperature drift, and of many
equal ones the luckiest leads. So the first few by rank are not the fastest few. All that are near are timed side by
side first, and what is then certainly slower than the fastest of them is out. Its times say nothing of the other
trials' and are kept apart from theirs.

The first round of a sequential halving: Karnin, Koren and Somekh, "Almost optimal exploration in multi-armed bandits"
(2013).
"""

from itertools import islice
from statistics import median

from autotune.core.outcomes import Timed
from autotune.core.search.limits import STARTING_S, deadline, sampling_s, verification_seconds
from autotune.core.search.messages import Compare
from autotune.core.search.rounds import comparison, rounds_for
from autotune.core.search.state import SIMPLIFY, Search
from autotune.core.statistics import HARMLESS, LARGEST, paired_ratio

DRIFT = 0.02
"""Relative difference of times not taken side by side that need not mean anything: twice what was seen on an H100."""

SEED_REACH = 0.05
"""As much slower a seed may seem and still be compared: it is timed first, on a device that has just been idle."""

MOST_ROUNDS = 31
"""Rounds of the comparison of the contenders where few are left, but noisy."""

LEAST_S = 3.0
"""Seconds that the comparison may take even where the whole search took no longer."""


def qualification(search: Search) -> Compare | None:
    """The comparison of the contenders, if it was not held yet, there are several, and a verification will follow.

    Where configs have to be built again each is kept in a process of its own, with the arguments: there are few then.
    """
    settings = search.plan.settings
    if settings.exact or not settings.verify_rounds or search.qualified is not None or search.best_ms is None:
        return None
    if search.verified is not None or search.trials[-1].origin == SIMPLIFY:  # what is to follow was chosen without
        return None
    allowed, each = allowed_s(search), ready_s(search) + settings.confirm_rounds * sampling_s(search)
    most = min(settings.contenders, settings.confirm_at_most) if settings.rebuild else settings.contenders
    chosen = contenders(search, int(min(allowed / each, most)))
    simplifies = bool(settings.simplify_rounds) and search.default_trial is not None
    if len(chosen) < 2 or (len(chosen) <= settings.finalists and not simplifies):
        return None  # they are all finalists
    wanted = rounds_for(search, len(chosen), settings.confirm_rounds, HARMLESS / 2)
    rounds = max(settings.confirm_rounds, min(wanted, MOST_ROUNDS))
    return comparison(search, chosen, rounds, "qualify", search.clock + allowed)


def contenders(search: Search, most: int) -> list[int]:
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


def beaten(search: Search) -> set[int]:
    """The contenders that were shown to be slower than the fastest of them."""
    return {i for i, _ in search.qualified.outcomes} - set(qualified(search)) if search.qualified is not None else set()


def qualified(search: Search) -> list[int]:
    """The contenders that nothing shows to be slower than the fastest of them, fastest first; empty: none was held."""
    outcomes = dict(search.qualified.outcomes) if search.qualified is not None else {}
    timed = {i: outcome for i, outcome in outcomes.items() if isinstance(outcome, Timed)}
    if not timed:
        return []
    base = timed[min(timed, key=lambda i: (timed[i].time_ms, i))].times_ms
    pairs = {i: paired_ratio(one.times_ms, base) for i, one in timed.items()}
    left = [i for i, ratio in pairs.items() if ratio.low <= 1]
    return sorted(left, key=lambda i: (pairs[i].value, i))


def allowed_s(search: Search) -> float:
    """Seconds that one comparison before the verification may take: as many as that needs, if the search took longer,
    or in proportion to the search, as far as a budget leaves them beside the verification."""
    needed = verification_seconds(search)
    earned = max(LEAST_S, min(needed, search.clock), search.plan.settings.reserve * search.clock)
    ends = deadline(search)
    return earned if ends is None else min(earned, max(ends - search.clock - needed, 0.0))


def ready_s(search: Search) -> float:
    """Seconds until one more config can be sampled: it is built again, or only checked again, as it has been once."""
    if search.plan.settings.rebuild:
        return STARTING_S + search.archive.typical_compile_s
    runs = [o.run_s for _, o in islice(reversed(search.outcomes), 64) if isinstance(o, Timed)]
    return max(median(runs), 1e-3) if runs else STARTING_S
