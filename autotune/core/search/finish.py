"""What follows the search proper: qualification, simplification, the final verification, and the end."""

from autotune.core.search.limits import deadline, search_deadline
from autotune.core.search.messages import Compare, Finished, Measure, Wait
from autotune.core.search.qualify import beaten, contenders, near_seeds, qualification, qualified
from autotune.core.search.rounds import comparison, rounds_for
from autotune.core.search.simplify import distance, simplification, simplified
from autotune.core.search.state import SIMPLIFY, Search


def finishing(search: Search) -> Measure | Compare | Wait | Finished:
    """The next step of a search that was concluded or interrupted."""
    over = (ends := deadline(search)) is not None and search.clock >= ends
    if search.comparing is not None and not over:
        return Wait(ends)
    if not search.interrupted and not over and (heat := qualification(search)) is not None:
        return heat
    if not search.interrupted and search.verified is None and (step := _simplifying(search)) is not None:
        return step
    if search.verified is None and not over and (compare := verification(search)) is not None:
        return compare
    if search.interrupted or search.concluded is None:
        return Finished("interrupted", complete=False)
    return Finished(search.concluded.reason, complete=True)


def _simplifying(search: Search) -> Measure | Compare | Wait | None:
    ends = search_deadline(search)
    if ends is not None and search.clock >= ends:
        return None
    if any(trial.origin == SIMPLIFY for trial in search.pending):  # what the strategy left outstanding was given up
        return Wait(ends)
    return simplification(search)


def verification(search: Search) -> Compare | None:
    """The finalists and the default, side by side; None when one config remains, or measuring tells nothing new."""
    settings = search.plan.settings
    least = settings.hurried_rounds if search.interrupted else settings.verify_rounds
    if settings.exact or not least:
        return None
    chosen = finalists(search)
    if len(chosen) < 2:
        return None
    rounds = least if search.interrupted else rounds_for(search, len(chosen), least)
    return comparison(search, chosen, rounds, "verify", deadline(search))


def finalists(search: Search) -> list[int]:
    """Trials that may turn out to be the best, by what is known of them, the likeliest first: the simplification of the
    best, those that qualified, the simplest of all that qualified, the default, and seeds that are as good as far as is
    known.
    """
    archive, most = search.archive, search.plan.settings.finalists
    timed = set(archive.trials[archive.ok].tolist())
    passed = [i for i in qualified(search) if i in timed]
    simple, lost = simplified(search), beaten(search)
    ranked = [*([simple] if simple is not None and simple in timed else []), *(passed or contenders(search, most))]
    fast = list(dict.fromkeys(ranked))[:most]
    simplest = min(passed, key=lambda i: distance(search, i), default=None)
    seeds = [i for i in near_seeds(search) if i not in lost][:most]
    extra = (simplest, search.default_trial, *seeds)
    return fast + [i for i in dict.fromkeys(extra) if i is not None and i in timed and i not in fast]
