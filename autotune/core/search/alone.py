"""Times of the search, each taken alone: what they may be off by, and which configs they rule out.

Most measured configs are never compared side by side. The claim about the pick covers them by one argument: it can only
be wrong for them if the fastest of all was ruled out, so only the error of one time counts, however many there are.
"""

from collections.abc import Collection, Mapping
from math import log

import numpy as np

from autotune.core.certificate.evidence import Evidence
from autotune.core.outcomes import Timed
from autotune.core.search.qualification import DRIFT
from autotune.core.search.state import Search

SPREADS = 3.0
"""A time of the search is off by no more than so many times the spread of such times; of normal errors, one in 700 is
off by more on this side."""


def first_times(search: Search) -> dict[int, Timed]:
    """The first timing of each trial, taken alone in the search."""
    found: dict[int, Timed] = {}
    for trial, outcome in search.outcomes:
        if isinstance(outcome, Timed):
            found.setdefault(trial, outcome)
    return found


def find_reach(evidence: Evidence, pick: int, first: Mapping[int, Timed]) -> tuple[float, float]:
    """By how much the logarithm of a time of the search may be too high, and what the pick's would be expected to be.

    Each compared config says the latter: its own time in the search, less its log ratio to the pick side by side. They
    scatter as times of the search do, and their median is not too low by luck as the pick's own time may be.
    """
    said = []
    for i, trial in enumerate(evidence.trials):
        away = float(evidence.middle[i, evidence.place(pick)])
        if trial in first and not np.isnan(away):
            said.append(log(first[trial].time_ms) - away)
    within = [
        1.2533 * float(np.log(outcome.times_ms).std(ddof=1)) / len(outcome.times_ms) ** 0.5
        for outcome in first.values()
        if len(outcome.times_ms) > 1
    ]
    level = float(np.median(said))
    spread = 1.4826 * float(np.median(np.abs(np.array(said) - level)))
    return max(DRIFT, SPREADS * max(spread, float(np.median(within)) if within else 0.0)), level


def find_unsettled(
    evidence: Evidence, pick: int, first: Mapping[int, Timed], compared: Collection[int]
) -> tuple[int, ...]:
    """The trials that were not compared and that their times do not rule out, the fastest first."""
    reach, level = find_reach(evidence, pick, first)
    left = [i for i in sorted(first) if i not in compared and log(first[i].time_ms) - level <= reach]
    return tuple(sorted(left, key=lambda i: (first[i].time_ms, i)))
