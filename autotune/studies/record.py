"""Record a space: measure every valid config with any evaluator, and write the outcomes as a recording.

It is a search like any other, by a strategy that stops when every config was tried; so it has a journal, can be killed
and goes on where it was. The recording is made from the journal.
"""

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from autotune.core.errors import RecordingError
from autotune.core.outcomes import Outcome, Timed
from autotune.core.search.plan import Budget
from autotune.core.search.result import TuningFailed
from autotune.core.search.state import Search
from autotune.core.space import Space
from autotune.core.strategies.random_search import RandomSearch
from autotune.shell.codec import encode
from autotune.shell.evaluators.protocol import Evaluator
from autotune.shell.files import why_unwritable
from autotune.shell.tuning import Progress, read_search, resume, tune
from autotune.studies.recordings import Recording, RecordingHeader, RecordingRow, build_recording, write_recording
from autotune.studies.recordings.files import check_name
from autotune.studies.recordings.rows import Coder, distinct_values
from autotune.version import __version__

_MAX_POINTS = 10_000_000
"""At a tenth of a second a point, more than this would take over eleven days."""

_MEASURE_ONLY = {
    "cutoff_factor": None,
    "near_factor": None,
    "rebenchmark_threshold": 0.9,
    "verify_rounds": 0,
    "simplify_rounds": 0,
}
"""Settings of a search that measures each config once, in full, and decides nothing."""


def record_space(
    space: Space,
    evaluator: Evaluator,
    path: str | os.PathLike[str],
    *,
    kernel: str = "",
    device: str = "",
    problem: str = "",
    seed: int = 0,
    digits: int | None = 6,
    versions: Mapping[str, str] | None = None,
    progress: Progress = None,
) -> Recording:
    """Measure every valid config of `space`, in a random order that drift cannot favour, and write them to `path`.

    While it goes on, `path` + ".journal.jsonl" holds the measurements; call it again with the same arguments to go on
    after a kill. Ctrl-C (or SIGTERM, as a time limit sends it) gives a partial recording, which the next call
    completes.
    kernel, device, problem: names for the header. digits: significant digits of the repeats; None: all. versions: of
    further software and hardware, for the header.
    Raises RecordingError for a space too large to measure, a path that cannot be written, and a name that says another
    format than JSON.
    """
    check_name(Path(path))
    with suppress(OSError):  # the check below names the fault
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    if (why := why_unwritable(path)) is not None:
        raise RecordingError(f"{os.fspath(path)}: cannot be written: {why}")
    count = space.count()
    if count is None or count > _MAX_POINTS:
        many = "too many to count" if count is None else f"{count:,}"
        raise RecordingError(
            f"the space has {many} valid configs and at most {_MAX_POINTS:,} are recorded; constrain it"
        )
    journal = Path(f"{os.fspath(path)}.journal.jsonl")
    try:
        if os.path.exists(journal):
            resume(journal, evaluator, space=space, progress=progress)
        else:
            strategy = RandomSearch(count=count)
            tune(
                space, evaluator, strategy, effort="full", budget=Budget(), seed=seed, journal=journal,
                settings=_MEASURE_ONLY, progress=progress,
            )  # fmt: skip
    except TuningFailed:
        pass  # a space in which nothing works is worth recording too
    _, search = read_search(journal, space)
    recording = _recording_from(search, Path(path).name.split(".")[0], kernel, device, problem, versions)
    write_recording(recording, Path(path), digits)
    return recording


def _recording_from(
    search: Search, name: str, kernel: str, device: str, problem: str, versions: Mapping[str, str] | None
) -> Recording:
    """The measurements of a search as a recording; partial unless it tried every valid config."""
    space = search.plan.space
    measured = [(search.trials[trial].config, outcome) for trial, outcome in sorted(dict(search.outcomes).items())]
    values = tuple(
        tuple(sorted(distinct_values(config[name] for config, _ in measured), key=parameter.encode))
        for name, parameter in space.parameters.items()
    )
    coder = Coder(values)
    rows = [_row(coder.codes([config[name] for name in space.names]), outcome) for config, outcome in measured]
    header = RecordingHeader(
        name=name, kernel=kernel, device=device, problem=problem, parameters=space.names, values=values,
        partial=len(rows) != space.count(),
    )  # fmt: skip
    versions = {
        **(versions or {}),
        "autotune": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    return replace(build_recording(header, rows), space=encode(space.spec).decode(), versions=versions)


def _row(codes: tuple[int, ...], outcome: Outcome) -> RecordingRow:
    if isinstance(outcome, Timed):
        return RecordingRow(
            codes=codes,
            time_ms=outcome.time_ms,
            samples_ms=outcome.times_ms,
            compile_s=outcome.compile_s,
            run_s=outcome.run_s,
        )
    return RecordingRow(
        codes=codes,
        time_ms=None,
        compile_s=outcome.compile_s,
        run_s=outcome.run_s,
        kind=outcome.kind,
        message=outcome.message,
    )
