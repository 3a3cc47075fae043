"""Qualification: all configs that may be the fastest, in one comparison decided by pairs of samples.

Times taken one after another differ for reasons that are not the configs' own (clock and temperature drift), and of
many equal configs the luckiest leads, so the first few by rank are not the fastest few. All near the best are timed
side by side, and those certainly slower than the fastest of them are out. These times are kept apart from the times of
the search. It is the first round of a sequential halving: Karnin, Koren and Somekh, "Almost optimal exploration in
multi-armed bandits" (2013).
"""

from itertools import islice
from statistics import median

from autotune.core.outcomes import Timed
from autotune.core.search.limits import STARTING_S, deadline, sample_seconds, verification_seconds
from autotune.core.search.messages import Compare
from autotune.core.search.rounds import count_rounds, request_comparison
from autotune.core.search.state import SIMPLIFY, Search
from autotune.core.statistics import HARMLESS, LARGEST, paired_ratio

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
    chosen = select_contenders(search, int(min(allowed / each, room_of_comparison(search))))
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


def room_of_comparison(search: Search) -> int:
    """Most configs in one comparison."""
    settings = search.plan.settings
    return min(settings.contenders, settings.confirm_at_most) if settings.rebuild else settings.contenders
