"""The view of a result in memory: what was tried, without the times at which it happened, which only a journal has."""

import numpy as np

from autotune.core.formatting import escape_controls
from autotune.core.outcomes import FAILURE_KINDS
from autotune.core.search.report import (
    MeasuredConfig,
    Result,
    TrialRecord,
    describe_ending,
    rank_values,
    result_rows,
)
from autotune.viewer.columns import (
    KINDS,
    Places,
    failures_by_kind,
    importances_of,
    improvements,
    parameter_columns,
)
from autotune.viewer.view import NONE, TIMED, FinalistView, SearchView, Trials


def view_result(result: Result, title: str = "search") -> SearchView:
    """The view of a result; raises PlanError for one that was decoded from a file and does not know its search."""
    records, messages, origins = result.trials(), Places(), Places()
    names = list(result.best.config)
    values = [[one.config[name] for one in records] for name in names]
    ranks = np.stack([rank_values(column) for column in values], axis=1)
    default = None if result.default is None else dict(result.default.config)
    parameters, codes = parameter_columns(names, ranks, values, default)
    times = [one.time_ms for one in records]
    trials = Trials(
        number=[one.trial for one in records],
        codes=codes,
        kind=[_kind(one) for one in records],
        time_ms=times,
        first_ms=times,
        compile_s=[one.compile_s for one in records],
        run_s=[one.run_s for one in records],
        at_s=[None] * len(records),
        samples=[len(one.times_ms) for one in records],
        message=[messages(one.message) for one in records],
        batch=[NONE] * len(records),
        origin=[origins(one.origin) for one in records],
    )
    place_of = {one.trial: place for place, one in enumerate(records)}
    return SearchView(
        title=title,
        path="",
        state="finished" if result.complete else "interrupted",
        facts=tuple(result_rows(result)),
        why=(f"It stopped because: {describe_ending(result)}.",),
        unit="ms",
        parameters=parameters,
        kinds=KINDS,
        messages=messages.texts(),
        origins=origins.texts(),
        trials=trials,
        batches=(),
        best=place_of.get(result.best.trial),
        default=None if result.default is None else place_of.get(result.default.trial),
        history=improvements(trials),
        finalists=_finalists(result),
        failures=failures_by_kind(trials, messages.texts()),
        spans=(),
        spans_from="",
        importances=importances_of(trials),
    )


def _kind(record: TrialRecord) -> int:
    return TIMED if record.time_ms is not None else 1 + FAILURE_KINDS.index(record.status)


def _finalists(result: Result) -> tuple[FinalistView, ...]:
    """The pick, the configs that noise leaves equal to it, and the default."""
    shown: dict[int, MeasuredConfig] = {result.best.trial: result.best}
    for one in (*(finalist.measured for finalist in result.finalists), result.default):
        if one is not None:
            shown.setdefault(one.trial, one)
    default = None if result.default is None else result.default.trial
    return tuple(
        FinalistView(
            trial=trial,
            label=escape_controls(str(one.config)),
            time_ms=one.time_ms,
            low_ms=one.low_ms,
            high_ms=one.high_ms,
            samples_ms=one.times_ms,
            pick=trial == result.best.trial,
            default=trial == default,
        )
        for trial, one in shown.items()
    )
