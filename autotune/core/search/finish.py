"""The end of a search: comparison of the contenders, simplification, verification.

Three steps follow once the strategy has concluded, each skipped where the plan or the budget says so: `qualification`
compares all configs that may be the fastest, `simplification` puts parameters of the best config back to their default
where they do not matter, and `verification` times the finalists and the default side by side; `pick` reads the result
from it.

No step keeps state of its own: the requests, measurements and comparisons so far determine the next request.
"""

from autotune.core.search.limits import deadline, search_deadline
from autotune.core.search.messages import Compare, Finished, Measure, Wait
from autotune.core.search.qualification import request_qualification
from autotune.core.search.simplification import request_simplification
from autotune.core.search.state import SIMPLIFY, Search
from autotune.core.search.verification import request_verification


def request_finish(search: Search) -> Measure | Compare | Wait | Finished:
    """The next request of a search that was concluded or interrupted."""
    over = (ends := deadline(search)) is not None and search.clock >= ends
    if search.comparing is not None and not over:
        return Wait(ends)
    if not search.interrupted and not over and (heat := request_qualification(search)) is not None:
        return heat
    if not search.interrupted and search.verified is None and (step := _simplification_step(search)) is not None:
        return step
    if (
        (search.plan.settings.certifies or search.verified is None)
        and not over
        and (compare := request_verification(search)) is not None
    ):
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
