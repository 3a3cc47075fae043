"""The certificate of a search, finished or not: a pure function of its plan and its events."""

from collections.abc import Mapping

import numpy as np

from autotune.core.certificate.bounds import as_ratio, lower_bounds
from autotune.core.certificate.claims import (
    NO_RATIO,
    Certificate,
    Exploration,
    Levels,
    NeverWorse,
    Renewal,
    Rival,
    Selection,
)
from autotune.core.certificate.evidence import Block, Evidence
from autotune.core.certificate.verdicts import EPS, ERROR, NEVER_WORSE_ERROR, statuses
from autotune.core.outcomes import Detail, Outcome, Timed
from autotune.core.search.alone import find_reach, find_unsettled, first_times
from autotune.core.search.limits import STARTING_S
from autotune.core.search.pick import Pick, choose_pick
from autotune.core.search.state import Search
from autotune.core.search.verification import comparisons_of, evidence_of, find_state, paired_logs
from autotune.core.statistics import LARGEST, Ratio, finite_ratio

ROUNDS = 31
"""Rounds of a renewal: those of a verification."""


def certify(search: Search) -> Certificate | None:
    """The certificate of the pick; None where no config was timed."""
    found = choose_pick(search)
    if found is None:
        return None
    first, latest = first_times(search), dict(search.outcomes)
    blocks, evidence = comparisons_of(search), evidence_of(search)
    if evidence is not None and found.best not in evidence.trials:
        evidence = None
    selection = _select(search, found, evidence, first)
    details: dict[str, Detail] = {}
    for trial, outcome in search.outcomes:
        details |= outcome.details if trial == found.best else {}
    kept = [rival.trial for rival in selection.rivals if rival.status != "beaten"]
    again = tuple(
        dict.fromkeys((found.best, *([search.default_trial] if search.default_trial in first else []), *kept))
    )
    return Certificate(
        trial=found.best,
        config=search.trials[found.best].config,
        exact=search.plan.settings.exact,
        selection=selection,
        never_worse=_compare_default(search, found),
        exploration=Exploration(measured=len(first), failed=len(latest) - len(first)),
        levels=_find_levels(search, found, blocks, evidence, selection),
        details=details,
        renewal=Renewal(trials=again, seconds=_renewal_seconds(again, latest)),
    )


def _select(search: Search, found: Pick, evidence: Evidence | None, first: Mapping[int, Timed]) -> Selection:
    eps = search.plan.settings.eps or EPS
    if search.plan.settings.exact:
        return Selection(
            shown=True, eps=0.0, error=0.0, measured=len(first), compared=1, rivals=(), ruled_out=len(first) - 1,
            reach=0.0, unsettled=(),
        )  # fmt: skip
    rivals, reach = list[Rival](), 0.0
    if evidence is not None:
        words = statuses(evidence, found.best, eps)
        rivals = [
            Rival(trial=i, config=search.trials[i].config, status=word, ratio=_ratio(evidence, i, found.best))
            for i, word in words.items()
        ]
        rivals.sort(key=lambda rival: (rival.ratio.value, rival.trial))
        reach, _ = find_reach(evidence, found.best, first)
    compared = {found.best, *(rival.trial for rival in rivals)}
    unsettled = tuple(i for i in sorted(first) if i not in compared)
    if evidence is not None:
        unsettled = tuple(sorted(find_unsettled(evidence, found.best, first, compared)))
    shown = not unsettled and all(rival.status != "open" for rival in rivals) and (bool(rivals) or len(first) == 1)
    return Selection(
        shown=shown,
        eps=eps,
        error=ERROR,
        measured=len(first),
        compared=len(compared),
        rivals=tuple(rivals),
        ruled_out=len(first) - len(unsettled) - sum(i in first for i in compared),
        reach=float(np.expm1(min(reach, 100.0))),
        unsettled=unsettled,
    )


def _ratio(evidence: Evidence, one: int, other: int) -> Ratio:
    i, j = evidence.place(one), evidence.place(other)
    if np.isnan(evidence.middle[i, j]):
        return NO_RATIO
    value, low = as_ratio(float(evidence.middle[i, j])), as_ratio(float(evidence.lower[i, j]))
    below = as_ratio(float(evidence.lower[j, i]))
    return Ratio(value=value, low=min(low, value), high=max(1 / below if below > 0 else LARGEST, value))


def _compare_default(search: Search, found: Pick) -> NeverWorse | None:
    default = search.default_trial
    if default is None or default not in found.times:
        return None
    own, other = found.times[found.best].times_ms, found.times[default].times_ms
    rounds = min(len(own), len(other))
    if search.plan.settings.exact or default == found.best:
        least = finite_ratio(found.times[default].time_ms, found.times[found.best].time_ms)
        return NeverWorse(is_default=default == found.best, least=least, error=0.0, rounds=0)
    state = find_state(search) if search.plan.settings.certifies else None
    least = 0.0
    if state is not None and state.verdict.pick == found.best:
        least = as_ratio(state.gain)
    elif found.verified and (evidence := evidence_of(search)) is not None:
        logs = np.log(np.array(other[:rounds]) / np.array(own[:rounds]))
        least = as_ratio(float(lower_bounds(logs[None], evidence.noise, NEVER_WORSE_ERROR)[0]))
    return NeverWorse(is_default=False, least=min(least, LARGEST), error=NEVER_WORSE_ERROR, rounds=rounds)


def _find_levels(
    search: Search, found: Pick, blocks: tuple[Block, ...], evidence: Evidence | None, selection: Selection
) -> Levels | None:
    if evidence is None:
        return None
    own = blocks[-len(search.verifying) :] if search.verifying else blocks
    other = search.default_trial
    if other is None or other == found.best or other not in evidence.trials:
        other = selection.rivals[0].trial if selection.rivals else None
    each = [paired_logs((block,), other, found.best) for block in blocks] if other is not None else []
    each = [logs for logs in each if len(logs)]
    between: float | None = None
    if len(each) > 1:
        middles = np.array([np.median(logs) for logs in each])
        explained = float(np.mean([1.2533**2 * evidence.noise.scale**2 / len(logs) for logs in each]))
        between = max(float(middles.var(ddof=1)) - explained, 0.0) ** 0.5
    return Levels(
        comparisons=len(own),
        rounds=sum(len(block.times_ms[0]) for block in own),
        within=evidence.noise.scale,
        between=between,
    )


def _renewal_seconds(trials: tuple[int, ...], latest: Mapping[int, Outcome]) -> float:
    """Seconds to build these trials again and to time them for ROUNDS, at two runs a sample."""
    timed = [outcome for i in trials if isinstance(outcome := latest.get(i), Timed)]
    return sum(outcome.compile_s + STARTING_S + ROUNDS * 2 * outcome.time_ms / 1000 for outcome in timed)
