"""What a search found, as plain data."""

from collections import Counter

from msgspec import Struct

from autotune.core.config import Config
from autotune.core.errors import AutotuneError
from autotune.core.outcomes import Detail, Failed, Outcome, Timed
from autotune.core.search.finish import finalists
from autotune.core.search.messages import Reason
from autotune.core.search.request import request
from autotune.core.search.simplify import simplified
from autotune.core.search.state import Search
from autotune.core.statistics import EQUAL, Ratio, divided, median_interval, paired_ratio, unpaired_ratio


class Measured(Struct, frozen=True):
    """A config and its final measurements: of the verification where it took part, else the latest.

    time_ms: the median. low_ms, high_ms: its interval (about 95 %). times_ms: the samples. details: what else the
    evaluator has told of it (registers, the time on each workload, …), the latest last.
    """

    trial: int
    config: Config
    time_ms: float
    low_ms: float
    high_ms: float
    times_ms: tuple[float, ...]
    details: dict[str, Detail] = {}


class Finalist(Struct, frozen=True):
    """A config that cannot be told apart from the best one, and how its time relates to it (above 1: slower)."""

    measured: Measured
    ratio: Ratio


class Result(Struct, frozen=True):
    """What a search found.

    best: the fastest config, by its final measurements. default: the default config's, None if it failed or is none.
    finalists: configs that the noise leaves equal to the best. speedup: default time / best time with its interval.
    counts: evaluations by outcome. evaluations: distinct configs measured. elapsed_s: on the evaluator's clock.
    stopped: why the search ended, and in words. complete: False when it was interrupted. notes: what to know besides.
    """

    best: Measured
    default: Measured | None
    finalists: tuple[Finalist, ...]
    speedup: Ratio | None
    counts: dict[str, int]
    evaluations: int
    elapsed_s: float
    stopped: Reason
    detail: str
    complete: bool
    notes: tuple[str, ...] = ()


class TuningFailed(AutotuneError):
    """No config was timed, so there is no result; `counts` says what became of them."""

    def __init__(self, message: str, counts: dict[str, int]) -> None:
        super().__init__(message)
        self.counts = counts


def result(search: Search) -> Result:
    """What the search has found so far, finished or not. Raises TuningFailed when not one config was timed."""
    compared = search.verified or search.qualified
    final = dict(compared.outcomes) if compared else {}
    latest = {**dict(search.outcomes), **final}  # what came later still was not measured side by side
    counts = outcome_counts(search)
    timed = {trial: outcome for trial, outcome in latest.items() if isinstance(outcome, Timed)}
    if not timed:
        raise TuningFailed(_failure(search, latest, counts), counts)
    paired = any(i in timed for i in final)
    candidates = {i: o for i, o in timed.items() if not paired or i in final or i == search.default_trial}
    best = min(candidates, key=lambda i: (candidates[i].time_ms, i))
    best, ties = _settled(search, best, candidates, paired)
    reason, detail, complete = _ending(search)
    reference = timed.get(search.default_trial) if search.default_trial is not None else None
    assert search.default_trial is not None or reference is None
    return Result(
        best=_measured(search, best, timed[best]),
        default=None if reference is None else _measured(search, search.default_trial or 0, reference),
        finalists=ties,
        speedup=None if reference is None else _ratio(search, reference, timed[best], paired),
        counts=counts,
        evaluations=search.observed,
        elapsed_s=search.clock,
        stopped=reason,
        detail=detail,
        complete=complete,
        notes=_notes(search, latest, counts),
    )


def outcome_counts(search: Search) -> dict[str, int]:
    """How many trials came to each kind of outcome by their latest measurement, the most frequent first."""
    kinds = Counter("timed" if isinstance(o, Timed) else o.kind for o in dict(search.outcomes).values())
    return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))


def _measured(search: Search, trial: int, outcome: Timed) -> Measured:
    low, high = (outcome.time_ms,) * 2 if search.plan.settings.exact else median_interval(outcome.times_ms)
    details: dict[str, Detail] = {}
    for i, told in search.outcomes:
        details |= told.details if i == trial else {}
    details |= outcome.details
    return Measured(trial, search.trials[trial].config, outcome.time_ms, low, high, outcome.times_ms, details)


def _ratio(search: Search, numerator: Timed, denominator: Timed, paired: bool) -> Ratio:
    above, below = numerator.times_ms, denominator.times_ms
    if search.plan.settings.exact:
        value = divided(numerator.time_ms, denominator.time_ms)
        return Ratio(value, value, value)
    if paired and len(above) == len(below):
        return paired_ratio(above, below)
    return unpaired_ratio(above, below)


def _settled(search: Search, best: int, candidates: dict[int, Timed], paired: bool) -> tuple[int, tuple[Finalist, ...]]:
    """The pick and the configs that cannot be told from it; the simplified one where nothing is lost by it."""
    chosen = [i for i in (candidates if paired else finalists(search)) if i in candidates]
    ratios = {i: _ratio(search, candidates[i], candidates[best], paired) for i in chosen if i != best}
    ties = [i for i, ratio in ratios.items() if ratio.low <= 1]
    simplest, default = simplified(search), search.default_trial
    slowest = candidates[default].time_ms if default in candidates else None
    equal = simplest in ties and ratios[simplest].value <= 1 + EQUAL / 2
    if equal and simplest is not None and (slowest is None or candidates[simplest].time_ms <= slowest):
        ratios = {i: _ratio(search, candidates[i], candidates[simplest], paired) for i in {*ties, best} - {simplest}}
        best, ties = simplest, sorted(ratios)
    ordered = sorted(ties, key=lambda i: (candidates[i].time_ms, i))
    return best, tuple(Finalist(_measured(search, i, candidates[i]), ratios[i]) for i in ordered)


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


def _failure(search: Search, latest: dict[int, Outcome], counts: dict[str, int]) -> str:
    if not latest:
        return "no config was measured before the search ended; give it more time"
    example = _example(latest, next(iter(counts)))
    return f"all {len(latest)} configs failed: {_histogram(counts)}" + (f"; for example: {example}" if example else "")


def _notes(search: Search, latest: dict[int, Outcome], counts: dict[str, int]) -> tuple[str, ...]:
    notes = []
    settings, compared = search.plan.settings, search.verified or search.qualified
    if compared is None and settings.verify_rounds and not settings.exact and search.comparing is not None:
        notes.append("the final comparison was not over in time: the times are those of the search, taken apart")
    baseline = latest.get(search.default_trial) if search.default_trial is not None else None
    if isinstance(baseline, Failed):
        why = f": {baseline.message}" if baseline.message else ""
        notes.append(f"the default config failed ({baseline.kind.replace('_', ' ')}{why}), so there is no baseline")
    if search.rejected:
        notes.append(f"{search.rejected} proposals were outside of the space or not new, and were left out")
    return tuple(notes)
