"""The view of a recording: its points in the order of the file."""

from collections.abc import Iterable

import numpy as np

from autotune.core.formatting import format_count
from autotune.core.outcomes import FAILURE_KINDS
from autotune.studies.recordings import Recording
from autotune.viewer.columns import (
    KINDS,
    Places,
    failures_by_kind,
    importances_of,
    improvements,
    parameter_columns,
)
from autotune.viewer.view import NONE, SearchView, Trials


def view_recording(recording: Recording, path: str = "") -> SearchView:
    """The view of a recording. Of an objective of which more is better, the times are costs."""
    messages, origins = Places(), Places()
    n, p = len(recording), len(recording.parameters)
    values = [[recording.values[j][code] for code in recording.codes[:, j].tolist()] for j in range(p)]
    parameters, codes = parameter_columns(recording.parameters, recording.codes, values, None)
    times = [float(time) if ok else None for time, ok in zip(recording.time_ms, recording.timed, strict=True)]
    recorded = origins("recorded")
    counts = np.diff(recording.offsets).tolist()
    trials = Trials(
        number=list(range(n)),
        codes=codes,
        kind=[int(kind) for kind in recording.kinds],
        time_ms=times,
        first_ms=times,
        compile_s=recording.compile_s.tolist(),
        run_s=recording.run_s.tolist(),
        at_s=[None] * n,
        samples=[max(count, int(time is not None)) for count, time in zip(counts, times, strict=True)],
        message=[messages(text) for text in recording.messages],
        batch=[NONE] * n,
        origin=[recorded] * n,
    )
    assert len(KINDS) == len(FAILURE_KINDS) + 1
    timed = np.flatnonzero(recording.timed)
    best = int(timed[np.argmin(recording.time_ms[timed])]) if len(timed) else None
    return SearchView(
        title=recording.name,
        path=path,
        state="recording",
        facts=tuple(_facts(recording, best)),
        why=_sentences(recording),
        unit="ms" if recording.objective.is_time else f"cost of {recording.objective.name}",
        parameters=parameters,
        kinds=KINDS,
        messages=messages.texts(),
        origins=origins.texts(),
        trials=trials,
        batches=(),
        best=best,
        default=None,
        history=improvements(trials),
        finalists=(),
        failures=failures_by_kind(trials, messages.texts()),
        spans=(),
        spans_from="",
        importances=importances_of(trials),
    )


def _facts(recording: Recording, best: int | None) -> Iterable[tuple[str, str]]:
    if best is not None:
        yield "best", recording.objective.text(float(recording.time_ms[best]))
        times = recording.time_ms[recording.timed]
        yield "median", recording.objective.text(float(np.quantile(times, 0.5)))
    yield "points", f"{len(recording):,} of {recording.product:,} combinations"
    yield "failed", f"{int(np.count_nonzero(~recording.timed)):,}"
    for name, text in (("kernel", recording.kernel), ("device", recording.device), ("problem", recording.problem)):
        if text:
            yield name, text
    yield "space", format_count(len(recording.parameters), "parameter")
    for constraint in recording.constraints:
        yield "where", constraint


def _sentences(recording: Recording) -> tuple[str, ...]:
    if recording.partial:
        return ("The file was cut off, so points may be missing that were measured.",)
    return ()
