"""The result of a search, computed from its state; `report` has its fields and its texts."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from hashlib import blake2b

import msgspec
from msgspec import Struct

from autotune.core.arguments import check_kind
from autotune.core.errors import AutotuneError, PlanError, StrategyError
from autotune.core.formatting import format_count
from autotune.core.outcomes import Detail, Failed, Outcome, Timed
from autotune.core.search.certify import certify
from autotune.core.search.limits import remaining_evaluations
from autotune.core.search.messages import Reason
from autotune.core.search.pick import Pick, choose_pick, drift_of
from autotune.core.search.qualification import DRIFT
from autotune.core.search.report import Finalist as Finalist
from autotune.core.search.report import MeasuredConfig as MeasuredConfig
from autotune.core.search.report import Result as Result
from autotune.core.search.report import SearchRecord, TrialRecord, with_record
from autotune.core.search.request import request
from autotune.core.search.state import OTHER, Search
from autotune.core.statistics import Ratio, finite_ratio, interval_level, median_interval
from autotune.core.strategies.registry import name_of

TOLD = 0.01
"""Relative change of the device's speed during the verification from which on a note tells of it."""


class TuningFailed(AutotuneError):
    """No config was timed, so there is no result. counts: the number of trials by kind of failure."""

    def __init__(self, message: str, counts: dict[str, int]) -> None:
        super().__init__(message)
        self.counts = counts


def result(search: Search) -> Result:
    """The result of a search so far, finished or not. Raises TuningFailed when no config was timed."""
    check_kind(search, Search, "search", "a search, as start gives it", PlanError)
    counts, found = outcome_counts(search), choose_pick(search)
    if found is None:
        alike = search.concluded is not None and search.concluded.reason == "alike"
        raise TuningFailed(_ending(search)[1] if alike else _failure(dict(search.outcomes), counts), counts)
    reason, detail, complete = _ending(search)
    default = search.default_trial
    reference = None if default is None or default not in found.times else _measurement(search, found, default)
    moved = (
        drift_of([o.times_ms for _, o in search.verified.outcomes if isinstance(o, Timed)]) if search.verified else None
    )
    made = Result(
        best=_measurement(search, found, found.best),
        default=reference,
        finalists=tuple(Finalist(_measurement(search, found, i), ratio) for i, ratio in found.ties.items()),
        speedup=found.speedup,
        counts=counts,
        evaluations=search.observed,
        elapsed_s=search.clock,
        stopped=reason,
        detail=detail,
        complete=complete,
        notes=tuple(_notes(search, found, moved)),
        drift=moved,
        certificate=certify(search),
    )
    record = SearchRecord(
        space=search.plan.space,
        strategy=_name_of(search),
        find_trials=partial(find_trials, search),
        unused=max(remaining_evaluations(search, reserved=False) or 0, 0),
    )
    return with_record(made, record)


def find_trials(search: Search) -> tuple[TrialRecord, ...]:
    """A record of each config that has an outcome, in the order of asking."""
    latest = dict(search.outcomes)
    found = []
    for number in sorted(latest):
        trial = search.trials[number]
        batch = None if trial.generation == OTHER else trial.generation
        found.append(TrialRecord.of(number, trial.config, latest[number], trial.origin, batch))
    return tuple(found)


def _name_of(search: Search) -> str:
    """The strategy's name, or that of its class where it is not registered."""
    try:
        return name_of(search.plan.strategy)
    except StrategyError:
        return type(search.plan.strategy).__name__


def result_digest(search: Search) -> str:
    """32 hexadecimal digits of a search's result, or of the reason why there is none: equal in every process, and
    different for different results. The certificate, which follows from the same events, is no part of it."""
    try:
        fields = msgspec.structs.asdict(result(search))
        del fields["certificate"]
        texts = {name: msgspec.json.encode(each, enc_hook=dict, order="deterministic") for name, each in fields.items()}
        said = b"{" + b",".join(b'"%s":%s' % (name.encode(), text) for name, text in texts.items()) + b"}"
    except TuningFailed as error:
        said = str(error).encode()
    return blake2b(said, digest_size=16).hexdigest()


def outcome_counts(search: Search) -> dict[str, int]:
    """The number of trials by kind of outcome (by their latest measurement), the most frequent first."""
    kinds = Counter("timed" if isinstance(o, Timed) else o.kind for o in dict(search.outcomes).values())
    return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))


def _measurement(search: Search, found: Pick, trial: int) -> MeasuredConfig:
    outcome, exact = found.times[trial], search.plan.settings.exact
    low, high = (outcome.time_ms,) * 2 if exact else median_interval(outcome.times_ms)
    details: dict[str, Detail] = {}
    first_ms: float | None = None
    for i, told in search.outcomes:
        if i == trial:
            details |= told.details
            first_ms = told.time_ms if first_ms is None and isinstance(told, Timed) else first_ms
    details |= outcome.details
    level = 1.0 if exact else interval_level(len(outcome.times_ms))
    config = search.trials[trial].config
    return MeasuredConfig(trial, config, outcome.time_ms, low, high, outcome.times_ms, details, level, first_ms)


def _ending(search: Search) -> tuple[Reason, str, bool]:
    if search.interrupted:
        return "interrupted", "interrupted; the best so far", False
    if search.concluded is None:
        return "interrupted", "the search is not over; the best so far", False
    done = type(request(search, 1)).__name__ == "Finished"
    return search.concluded.reason, search.concluded.detail, done


def _histogram(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in counts.items() if kind != "timed")


def _example(latest: dict[int, Outcome], kind: str) -> str:
    return next((o.message for o in latest.values() if isinstance(o, Failed) and o.kind == kind and o.message), "")


def _failure(latest: dict[int, Outcome], counts: dict[str, int]) -> str:
    if not latest:
        return "no config was measured before the search ended; give it more time"
    example = _example(latest, next(iter(counts)))
    return f"all {len(latest)} configs failed: {_histogram(counts)}" + (f"; for example: {example}" if example else "")


def _notes(search: Search, found: Pick, moved: Ratio | None) -> Iterator[str]:
    settings = search.plan.settings
    if not found.verified and settings.verify_rounds and not settings.exact and search.comparing is not None:
        yield "the final comparison was not over in time: the times are those of the search, taken apart"
    latest = dict(search.outcomes)
    baseline = latest.get(search.default_trial) if search.default_trial is not None else None
    if isinstance(baseline, Failed):
        why = f": {baseline.message}" if baseline.message else ""
        yield f"the default config failed ({baseline.kind.replace('_', ' ')}{why}), so there is no baseline"
    if found.by_all:
        yield f"the final comparison was {_how_short(search)}, so all samples of the search made the choice"
    if found.undecided:
        yield (
            f"the final comparison was {_how_short(search)}, and all samples of the search leave it open whether "
            f"{search.trials[found.fastest].config} is faster than the default: search with more seconds, or while "
            "less else runs"
        )
    elif found.best == search.default_trial and found.fastest != found.best:
        yield _tie(found, search.default_trial or 0)
    if found.verified:
        yield from _differences(search, found)
    if moved is not None and abs(moved.value - 1) >= TOLD and not moved.low <= 1 <= moved.high:
        how = "longer" if moved.value > 1 else "shorter"
        yield (
            f"the device changed while it was verified: times in the last third of the rounds were "
            f"{abs(moved.value - 1):.1%} {how} than in the first; all configs of a round were timed side by side"
        )
    if search.rejected:
        yield f"{search.rejected} proposals were outside of the space or not new, and were left out"


def _how_short(search: Search) -> str:
    """How long the final comparison was, for a note on one that was too short to decide."""
    timed = [o for _, o in search.verified.outcomes if isinstance(o, Timed)] if search.verified else []
    if not timed:
        return "not held"
    return f"of only {format_count(min(len(o.times_ms) for o in timed), 'round')}"


def is_undecided(search: Search) -> bool:
    """Whether the default is the pick only because there are too few samples; another search may find more."""
    found = choose_pick(search)
    return found is not None and found.undecided


def _tie(found: Pick, default: int) -> str:
    """The note on a default that is the pick although another config looked faster."""
    other, own = found.times[found.fastest], found.times[default]
    return (
        "no config is certainly faster than the default, which is the pick: the one that looked fastest takes "
        f"{finite_ratio(other.time_ms, own.time_ms):.4g} times as long"
    )


def _differences(search: Search, found: Pick) -> Iterator[str]:
    """The note on first timings, which progress showed, where the verification contradicts them."""
    lead = _first_timings(search)
    if lead is None:
        return
    best = found.times[found.best].time_ms
    speedup = None if found.speedup is None else found.speedup.value
    far = abs(finite_ratio(lead.time_ms, best) - 1) > DRIFT
    if lead.speedup is not None and speedup is not None:
        far = far or abs(finite_ratio(lead.speedup, speedup) - 1) > DRIFT
    if far:
        before = "" if lead.speedup is None else f", {lead.speedup:.3g}x over the default"
        after = "" if speedup is None else f", {speedup:.3g}x"
        yield (
            f"by first timings, each taken alone, the best was {lead.time_ms:.4g} ms{before}; in the verification, "
            f"side by side, the pick is {best:.4g} ms{after}"
        )


class BestSoFar(Struct, frozen=True):
    """The fastest time at some point of a search, in milliseconds, and default time over it (None without a default).

    verified: whether both come from the verification; otherwise they are first timings, each taken alone.
    """

    time_ms: float
    speedup: float | None
    verified: bool


def best_so_far(search: Search) -> BestSoFar | None:
    """The best by first timings, or by the verification once it is over; None where nothing is timed."""
    if search.verified is not None and (found := choose_pick(search)) is not None and found.verified:
        return BestSoFar(found.times[found.best].time_ms, None if found.speedup is None else found.speedup.value, True)
    if search.best_ms is None:
        return None
    latest, default = search.archive.latest, search.default_trial
    timed = default is not None and len(latest) and latest[0]["trial"] == default and latest[0]["ok"]
    return BestSoFar(
        search.best_ms, finite_ratio(float(latest[0]["time_ms"]), search.best_ms) if timed else None, False
    )


def _first_timings(search: Search) -> BestSoFar | None:
    """The best by all measurements before the verification, confirmations included."""
    verified = {id(outcome) for event in search.verifying for _, outcome in event.outcomes}
    latest = {i: outcome for i, outcome in search.outcomes if id(outcome) not in verified}
    times = {i: outcome.time_ms for i, outcome in latest.items() if isinstance(outcome, Timed)}
    if not times:
        return None
    best = min(times.values())
    default = times.get(search.default_trial) if search.default_trial is not None else None
    return BestSoFar(best, None if default is None else finite_ratio(default, best), False)
