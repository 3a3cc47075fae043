"""What follows the search proper: qualification, simplification, the final verification, and the end."""

from autotune.core.search.limits import deadline, search_deadline
from autotune.core.search.messages import Compare, Finished, Measure, Wait
from autotune.core.search.qualify import beaten, contenders, near_seeds, qualification, qualified
from autotune.core.search.rounds import comparison
from autotune.core.search.simplify import simplification, simplified
from autotune.core.search.state import Search


def finishing(search: Search) -> Measure | Compare | Wait | Finished:
    """The next step of a search that was concluded or interrupted."""
    over = (ends := deadline(search)) is not None and search.clock >= ends
    if search.comparing is not None and not over:
        return Wait(ends)
    if not search.interrupted and not over and (heat := qualification(search)) is not None:
        return heat
    if not search.interrupted and (step := _simplifying(search)) is not None:
        return step
    if search.verified is None and not over and (compare := verification(search)) is not None:
        return compare
    if search.interrupted or search.concluded is None:
        return Finished("interrupted", complete=False)
    return Finished(search.concluded.reason, complete=True)


def _simplifying(search: Search) -> Measure | Wait | None:
    ends = search_deadline(search)
    if ends is not None and search.clock >= ends:
        return None
    if search.outstanding:
        return Wait(ends)
    return simplification(search)


def verification(search: Search) -> Compare | None:
    """The finalists and the default, side by side; None when one config remains, or measuring tells nothing new."""
    settings = search.plan.settings
    rounds = settings.hurried_rounds if search.interrupted else settings.verify_rounds
    if settings.exact or not rounds:
        return None
    chosen = finalists(search)
    if len(chosen) < 2:
        return None
    return comparison(search, chosen, rounds, "verify", deadline(search))


def finalists(search: Search) -> list[int]:
    """Trials that may turn out to be the best: those that qualified, the simplification of the best, the default, and
    seeds that are as good as far as is known.
    """
    archive, most = search.archive, search.plan.settings.finalists
    timed = set(archive.trials[archive.ok].tolist())
    fast = [i for i in qualified(search) if i in timed][:most] or contenders(search, most)
    lost = beaten(search)
    seeds = [i for i in near_seeds(search) if i not in lost][:most]
    extra = (simplified(search), search.default_trial, *seeds)
    return fast + [i for i in dict.fromkeys(extra) if i is not None and i in timed and i not in fast]
