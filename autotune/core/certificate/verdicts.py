"""Which configs may be the fastest by the evidence, and which of them to pick.

A config is beaten if another one is certainly faster. Of the others, one may be picked if none of them can be more than
eps faster. Both can be wrong only where the bound of the fastest config over another one is wrong (`evidence`): a
beaten config that is not the fastest does no harm to either claim.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log1p
from typing import Literal

import numpy as np

from autotune.core.certificate.evidence import Evidence

EPS = 0.005
"""A config that is faster by no more than this share is no loss: half of what two timings of one kernel differ by."""

ERROR = 0.05
"""The probability that a claim is wrong, over the whole procedure."""

COMPARED_ERROR = 0.04
"""The part of ERROR for comparisons; the rest is for configs that the search's own times rule out."""

NEVER_WORSE_ERROR = 0.0125
"""The probability that a bound of the gain over the default is wrong: STRICT's, for either end of LEVEL, and small
because the bound is drawn up again for each pick that the verification considers."""

Status = Literal["beaten", "tied", "open"]
"""The status of a rival of the pick. beaten: certainly slower than a compared config. tied: certainly no more than eps
faster than the pick. open: neither."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict of the evidence.

    pick: the trial to pick. settled: whether no compared config can be more than eps faster. statuses: of all others.
    """

    pick: int
    settled: bool
    statuses: dict[int, Status]

    @property
    def open(self) -> tuple[int, ...]:
        return tuple(trial for trial, status in self.statuses.items() if status == "open")


def judge(evidence: Evidence, by_simplicity: Sequence[int], favourite: int, eps: float) -> Verdict:
    """The verdict on the compared trials.

    by_simplicity: trials that may be picked, the simplest first. favourite: the likeliest pick by what was known before
    the comparisons. While none is settled, it is the pick, unless it is beaten, or another one seems faster by more
    than eps and two standard errors.
    """
    standing = find_standing(evidence)
    fit = [trial for trial in by_simplicity if trial in standing and largest_gap(evidence, trial, standing) <= eps]
    if fit:
        pick = fit[0]
    else:
        left = [trial for trial in by_simplicity if trial in standing] or list(by_simplicity)
        pick = min(left, key=lambda trial: (_log_ratio(evidence, trial, favourite)[0], left.index(trial)))
        ratio, error = _log_ratio(evidence, pick, favourite)
        if favourite in left and ratio + 2 * error >= log1p(-eps):
            pick = favourite
    return Verdict(pick=pick, settled=bool(fit), statuses=statuses(evidence, pick, eps))


def find_standing(evidence: Evidence) -> tuple[int, ...]:
    """The trials that none is certainly faster than; all of them where each is beaten by another."""
    beaten = {evidence.trials[i] for i in np.flatnonzero((evidence.lower > 0).any(axis=1))}
    return tuple(trial for trial in evidence.trials if trial not in beaten or len(beaten) == len(evidence.trials))


def largest_gap(evidence: Evidence, trial: int, standing: Sequence[int]) -> float:
    """By how large a share another standing trial may be faster than this one; 1 where that is not known."""
    column = evidence.lower[[evidence.place(other) for other in standing], evidence.place(trial)]
    return float(-np.expm1(min(float(column.min(initial=0.0)), 0.0)))


def statuses(evidence: Evidence, pick: int, eps: float) -> dict[int, Status]:
    """The status of each compared trial but the pick."""
    standing, place = find_standing(evidence), evidence.place(pick)
    found: dict[int, Status] = {}
    for i, trial in enumerate(evidence.trials):
        if trial == pick:
            continue
        close = evidence.lower[i, place] >= log1p(-eps)
        found[trial] = "beaten" if trial not in standing else "tied" if close else "open"
    return found


def _log_ratio(evidence: Evidence, trial: int, other: int) -> tuple[float, float]:
    """The median log ratio of two trials' times and about its standard error; both inf where they shared no round."""
    i, j = evidence.place(trial), evidence.place(other)
    rounds = int(evidence.rounds[i, j])
    if not rounds:
        return inf, inf
    return float(evidence.middle[i, j]), 0.0 if i == j else 1.2533 * evidence.noise.scale / rounds**0.5
