"""The view of a search from its journal: the header and the events, and nothing else."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from autotune.core.config import token
from autotune.core.formatting import format_count, format_duration, format_milliseconds
from autotune.core.outcomes import FAILURE_KINDS, Outcome, Timed
from autotune.core.search.messages import Asked, Compare, Compared, Conclude, Event, Finished, Measure, Observed, Told
from autotune.core.search.messages import without_interrupted_tail as counting_events
from autotune.core.search.plan import Plan
from autotune.core.search.report import describe_ending
from autotune.core.search.request import request
from autotune.core.search.result import Result, TuningFailed, result
from autotune.core.search.state import Search
from autotune.core.space import Space
from autotune.core.space_spec import FunctionSpec
from autotune.core.statistics import median_interval
from autotune.shell.codec import plan_of_spec
from autotune.shell.journal import Journal
from autotune.shell.timeline import Span
from autotune.shell.tuning import fold
from autotune.shell.warn import warn_user
from autotune.viewer.columns import (
    KINDS,
    Places,
    failures_by_kind,
    importances_of,
    improvements,
    parameter_columns,
)
from autotune.viewer.view import NONE, Batch, FinalistView, SearchView, State, Trials, WorkSpan

PURPOSES = {
    "confirm": "confirm a close lead: time it again, side by side",
    "qualify": "compare all configs that may be the fastest, side by side, to find the finalists",
    "simplify": "compare the best config with simpler ones: does a parameter matter, or will the default do?",
    "verify": "time the finalists and the default in rounds, for the pick",
}

_FOREIGN = -1
"""The batch of a trial that the search had not asked for."""


def view_journal(journal: Journal, space: Space | None = None, spans: Sequence[Span] | None = None) -> SearchView:
    """The view of a journal.

    space: stands in for the journal's, where a constraint is a Python function. spans: of a timeline that the evaluator
    wrote; without them, the spans are derived from the seconds that each outcome reports.
    """
    search = fold(plan_to_view(journal, space), journal.events)
    try:
        found = result(search)
    except TuningFailed:
        found = None
    messages, origins = Places(), Places()
    events = counting_events(journal.events)
    batches, batch_of = _batches(events)
    arrived = _arrivals(events)
    trials, parameters = _trials(search, arrived, batch_of, messages, origins)
    place_of = {number: place for place, number in enumerate(trials.number)}
    if spans is None:
        work, source = _spans(arrived, events)
    else:
        work = tuple(WorkSpan(lane=s.lane, what=s.what, trial=s.trial, start_s=s.start_s, end_s=s.end_s) for s in spans)
        source = "as the evaluator wrote them down" if work else ""
    default = search.default_trial
    importances = importances_of(trials)
    return SearchView(
        title=_title(journal),
        path=str(journal.path),
        state=_state(search),
        facts=tuple(_facts(journal, search, found)),
        why=tuple(_sentences(found)),
        unit="ms",
        parameters=parameters,
        kinds=KINDS,
        messages=messages.texts(),
        origins=origins.texts(),
        trials=trials,
        batches=tuple(_with_outcomes(batches, trials)),
        best=None if found is None else place_of.get(found.best.trial),
        default=None if default is None else place_of.get(default),
        history=improvements(trials),
        finalists=_finalists(search, found),
        failures=failures_by_kind(trials, messages.texts()),
        spans=work,
        spans_from=source,
        importances=importances,
    )


def plan_to_view(journal: Journal, space: Space | None) -> Plan:
    """The journal's plan; constraints that are Python functions are left out where no `space` has them."""
    spec = journal.header.plan
    expressible = tuple(c for c in spec.space.constraints if not isinstance(c, FunctionSpec))
    if space is not None or len(expressible) == len(spec.space.constraints):
        return journal.plan(space)
    warn_user(
        f"{journal.path}: its space has constraints that are Python functions, which a journal does not hold, so the "
        "pick among equally fast configs may differ; name the problem's file with --problem",
    )
    return plan_of_spec(spec, Space.from_spec(msgspec.structs.replace(spec.space, constraints=expressible)))


def _title(journal: Journal) -> str:
    return f"{journal.path.name.removesuffix('.jsonl').removesuffix('.journal')}"


def _state(search: Search) -> State:
    if search.interrupted:
        return "interrupted"
    done = search.concluded is not None and isinstance(request(search), Finished)
    return "finished" if done else "unfinished"


def _facts(journal: Journal, search: Search, found: Result | None) -> Iterable[tuple[str, str]]:
    spec, header = journal.header.plan, journal.header
    if found is not None:
        best = found.best
        yield "best", format_milliseconds(best.time_ms) + _interval(best.low_ms, best.high_ms)
        if found.default is not None:
            yield "default", format_milliseconds(found.default.time_ms)
        if found.speedup is not None:
            ratio = found.speedup
            spread = "" if ratio.low == ratio.high else f" ({ratio.low:.3g} to {ratio.high:.3g})"
            yield "speed-up", f"{ratio.value:.3g}x{spread}"
    yield "configs", f"{search.observed:,} in {format_duration(search.clock)}"
    ok = search.archive.ok
    yield "failed", f"{len(ok) - int(np.count_nonzero(ok)):,}"
    yield "strategy", spec.strategy.name
    budget = ", ".join(f"{value:g} {name}" for name, value in msgspec.to_builtins(spec.budget).items())
    yield "budget", budget or "none"
    yield "seed", str(spec.seed)
    size = search.plan.space.size
    yield "space", f"{size:,} points of {format_count(len(spec.space.parameters), 'parameter')}"
    for name in ("kind", "gpu", "device"):
        if name in header.evaluator:
            yield {"kind": "evaluator"}.get(name, name), str(header.evaluator[name])
    yield "host", " ".join(header.host.values())
    yield "versions", ", ".join(f"{name} {text}" for name, text in header.versions.items())


def _interval(low: float, high: float) -> str:
    return "" if low == high else f" ({format_milliseconds(low)} to {format_milliseconds(high)})"


def _sentences(found: Result | None) -> Iterable[str]:
    if found is None:
        yield "No config was timed so far."
        return
    yield f"It stopped because: {describe_ending(found)}."
    for note in found.notes:
        yield note[:1].upper() + note[1:] + ("" if note.endswith(".") else ".")


Arrivals = dict[int, list[tuple[float, Outcome]]]
"""The outcomes of each trial with their times on the search's clock; trials in the order of their first outcome."""


def _arrivals(events: Iterable[Event]) -> Arrivals:
    """The outcomes of the search and of comparisons that revise them; those that are kept apart are left out."""
    found: Arrivals = {}
    purpose = "confirm"
    for event in events:
        match event:
            case Asked(task=Compare(purpose=asked)):
                purpose = asked
            case Observed(at=at, trial=trial, outcome=outcome):
                found.setdefault(trial, []).append((at, outcome))
            case Told(at=at, trial=told, outcome=outcome):
                found.setdefault(told.id, []).append((at, outcome))
            case Compared(at=at, outcomes=outcomes):
                for trial, outcome in outcomes if purpose in ("confirm", "verify") else ():
                    found.setdefault(trial, []).append((at, outcome))
            case _:
                pass
    return found


def _batches(events: Iterable[Event]) -> tuple[list[Batch], dict[int, int]]:
    """The requests in order, and the batch of each trial."""
    batches: list[Batch] = []
    batch_of: dict[int, int] = {}
    for event in events:
        if not isinstance(event, Asked):
            continue
        number = len(batches)
        match event.task:
            case Measure(trials=trials, why=why, restart=restart):
                why = why or _origin_words([trial.origin for trial in trials])
                why = f"restart {restart}: {why}" if restart else why
                batches.append(Batch(number=number, kind="measure", at_s=event.at, why=why, trials=len(trials)))
                for trial in trials:
                    batch_of.setdefault(trial.id, number)
            case Compare(trials=trials, purpose=purpose):
                why = PURPOSES[purpose]
                batches.append(Batch(number=number, kind="compare", at_s=event.at, why=why, trials=len(trials)))
            case Conclude(reason=reason, detail=detail):
                why = f"the search for better configs ends: {detail or reason}"
                batches.append(Batch(number=number, kind="conclude", at_s=event.at, why=why, trials=0))
    return batches, batch_of


def _origin_words(origins: Sequence[str]) -> str:
    names = list(dict.fromkeys(origins))
    words = {"default": "the default config", "seed": "configs that were given", "strategy": "proposed by the strategy"}
    return " and ".join(words.get(name, name) for name in names)


def _with_outcomes(batches: Sequence[Batch], trials: Trials) -> Iterable[Batch]:
    times: dict[int, list[float]] = {}
    failed: dict[int, int] = {}
    for batch, time_ms in zip(trials.batch, trials.first_ms, strict=True):
        if time_ms is None:
            failed[batch] = failed.get(batch, 0) + 1
        else:
            times.setdefault(batch, []).append(time_ms)
    for one in batches:
        best = min(times[one.number]) if one.number in times else None
        yield msgspec.structs.replace(one, failed=failed.get(one.number, 0), best_ms=best)


def _trials(
    search: Search, arrived: Arrivals, batch_of: dict[int, int], messages: Places, origins: Places
) -> tuple[Trials, Any]:
    space, numbers = search.plan.space, list(arrived)
    rows = search.points.rows[numbers] if numbers else np.empty((0, space.columns), np.int64)
    configs = [search.trials[number].config for number in numbers]
    names = space.names
    values = [[config[name] for config in configs] for name in names]
    ranks = np.stack([_ranks(rows[:, space.slices[name]]) for name in names], axis=1)
    default = None if space.default is None else dict(space.default)
    parameters, codes = parameter_columns(names, ranks, values, default)
    latest = [arrived[number][-1][1] for number in numbers]
    firsts = [next((o.time_ms for _, o in arrived[number] if isinstance(o, Timed)), None) for number in numbers]
    return (
        Trials(
            number=numbers,
            codes=codes,
            kind=[0 if isinstance(o, Timed) else 1 + FAILURE_KINDS.index(o.kind) for o in latest],
            time_ms=[o.time_ms if isinstance(o, Timed) else None for o in latest],
            first_ms=firsts,
            compile_s=[arrived[number][0][1].compile_s for number in numbers],
            run_s=[arrived[number][0][1].run_s for number in numbers],
            at_s=[arrived[number][0][0] for number in numbers],
            samples=[len(o.times_ms) if isinstance(o, Timed) else 0 for o in latest],
            message=[NONE if isinstance(o, Timed) else messages(o.message) for o in latest],
            batch=[batch_of.get(number, _FOREIGN) for number in numbers],
            origin=[origins(search.trials[number].origin) for number in numbers],
        ),
        parameters,
    )


def _ranks(codes: Any) -> Any:
    """Numbers [n] in the order of codes [n, width]."""
    if codes.shape[1] == 1:
        return codes[:, 0]
    _, places = np.unique(codes, axis=0, return_inverse=True)
    return places.reshape(-1)


def _finalists(search: Search, found: Result | None) -> tuple[FinalistView, ...]:
    """The configs of the verification, or of the qualification where there was none yet, fastest first."""
    compared = search.verified or search.qualified
    if compared is None or found is None:
        return ()
    listed = []
    for trial, outcome in compared.outcomes:
        if not isinstance(outcome, Timed):
            continue
        low, high = median_interval(outcome.times_ms)
        config = search.trials[trial].config
        default = search.plan.space.default
        changed = {n: v for n, v in config.items() if default is None or v != default[n]}
        label = ", ".join(f"{n}={token(v).decode()}" for n, v in changed.items()) or "the default"
        listed.append(
            FinalistView(
                trial=trial,
                label=label,
                time_ms=outcome.time_ms,
                low_ms=low,
                high_ms=high,
                samples_ms=outcome.times_ms,
                pick=trial == found.best.trial,
                default=trial == search.default_trial,
            )
        )
    return tuple(sorted(listed, key=lambda one: (one.time_ms, one.trial)))


def _spans(arrived: Arrivals, events: Sequence[Event]) -> tuple[tuple[WorkSpan, ...], str]:
    """The work on each trial, as the journal has it or derived from the outcomes, and the comparisons."""
    recorded = [(event.trial, work) for event in events if isinstance(event, Observed) for work in event.work]
    comparisons = _comparison_spans(events)
    if recorded:
        lanes = Places()
        for _, work in sorted(recorded, key=lambda one: one[1].start_s):
            lanes(work.lane)
        names = _short_names(lanes.texts())
        spans = [
            WorkSpan(lane=names[w.lane], what=w.what, trial=trial, start_s=w.start_s, end_s=w.end_s)
            for trial, w in recorded
        ]
        return (*spans, *comparisons), "as the processes reported them"
    spans = _derived_spans(arrived)
    if not spans:
        return tuple(comparisons), "the times between a request and its outcomes" if comparisons else ""
    return (*spans, *comparisons), (
        "derived from the seconds that each outcome reports: a run ends when its outcome comes, a compile just before "
        "the run at the latest"
    )


def _short_names(lanes: Sequence[str]) -> dict[str, str]:
    """Lanes named by the identifier of a process, such as "compile 4711", by their number: "compile 0"."""
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    for lane in lanes:
        kind, _, number = lane.rpartition(" ")
        if kind == "compile" and number.isdigit():
            place = counts.get(kind, 0)
            counts[kind] = place + 1
            found[lane] = f"{kind} {place}"
        else:
            found[lane] = lane
    return found


def _comparison_spans(events: Iterable[Event]) -> list[WorkSpan]:
    found = []
    asked = 0.0
    for event in events:
        if isinstance(event, Asked) and isinstance(event.task, Compare):
            asked = event.at
        elif isinstance(event, Compared) and event.at > asked:
            found.append(WorkSpan(lane="comparison", what="compare", trial=NONE, start_s=asked, end_s=event.at))
    return found


def _derived_spans(arrived: Arrivals) -> list[WorkSpan]:
    """The latest times at which each config can have been built and run.

    A run ends when its outcome comes and takes its run_s; a compile ends before it and takes its compile_s. Compiles
    that overlap are of different workers.
    """
    runs, compiles = [], []
    for trial, outcomes in arrived.items():
        at, outcome = outcomes[0]
        begun = max(at - outcome.run_s, 0.0)
        if outcome.run_s > 0:
            runs.append((begun, at, trial))
        if outcome.compile_s > 0:
            compiles.append((max(begun - outcome.compile_s, 0.0), begun, trial))
    return [*_lanes(compiles, "compile", "compile"), *_lanes(runs, "run", "run")]


def _lanes(jobs: list[tuple[float, float, int]], lane: str, what: str) -> Iterable[WorkSpan]:
    """Jobs on as few lanes as they need: each on the first that is free."""
    free: list[float] = []
    for start, end, trial in sorted(jobs):
        place = next((i for i, until in enumerate(free) if until <= start + 1e-9), len(free))
        free[place : place + 1] = [end]
        yield WorkSpan(lane=f"{lane} {place}", what=what, trial=trial, start_s=start, end_s=end)
