"""Kernel Tuner's cache files: read them, whole or cut off, and write them.

The format: https://github.com/KernelTuner/kernel_tuner (kernel_tuner/util.py: process_cache, store_cache, read_cache,
ErrorConfig). While Kernel Tuner runs, the file has no closing braces. Keys are the values joined by commas; times in
milliseconds. Older versions wrote the name of an error in place of any measurement, or 1e20 for the time, and did not
list the values of the parameters.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from autotune.core.config import Value
from autotune.core.errors import RecordingError
from autotune.core.outcomes import FailureKind
from autotune.shell.warn import warn_user
from autotune.studies.recordings.files import decode, find_tear, is_json, recording_name, write_text
from autotune.studies.recordings.objective import (
    AS_WRITTEN,
    TIME,
    Objective,
    ObjectiveChoice,
    choose_objective,
    make_objective,
)
from autotune.studies.recordings.recording import Recording
from autotune.studies.recordings.rows import (
    Coder,
    Number,
    RecordingHeader,
    RecordingRow,
    build_recording,
    find_nested,
    mean_number,
    parameter_values,
    parse_duration,
    parse_samples,
    parse_time,
    sort_numbers,
)

_ERRORS: dict[str, FailureKind] = {
    "CompilationFailedConfig": "compile_error",
    "RuntimeFailedConfig": "run_error",
    "InvalidConfig": "skipped",  # refused before it was compiled: a restriction, or too many threads
}
"""Kernel Tuner's error classes (util.ErrorConfig), which it writes in place of the time."""

_MARKERS = frozenset({*_ERRORS, "ErrorConfig"})
"""The words that read_cache of Kernel Tuner takes for a failure, in any field of an entry."""

_REMEDY = "correct the file or record the space again"


class _File(msgspec.Struct, kw_only=True):
    cache: dict[str, msgspec.Raw]
    tune_params: dict[str, list[Any]] | None = None
    tune_params_keys: list[str] | None = None
    objective: str | list[Any] | None = None
    objective_higher_is_better: bool | list[bool] | None = None
    device_name: str | None = None
    kernel_name: str | None = None
    problem_size: Any = ""


class _Entry(msgspec.Struct, kw_only=True):
    time: Number | msgspec.UnsetType = msgspec.UNSET
    times: list[Number] | None = None
    compile_time: Number = None
    benchmark_time: Number = None
    verification_time: Number = None
    framework_time: Number = None
    error: str | None = msgspec.field(name="__error__", default=None)
    failure_kind: FailureKind | None = None
    failure_message: str | None = None


_FIELDS = msgspec.json.Decoder(dict[str, Any])


def read_kernel_tuner(path: Path, text: bytes, cut: bool = False, chosen: ObjectiveChoice = AS_WRITTEN) -> Recording:
    """The recording in a Kernel Tuner cache; of a key written twice the last entry counts.

    text: `without_non_finite`. cut: its gzip ended too early. chosen: an objective other than the file's. A text that
    was cut off gives its whole entries and `partial`; a torn last entry is dropped with a warning. Raises
    RecordingError, naming the entry or the byte, for any other defect, and where the file does not say which of several
    objectives counts, or in which direction.
    """
    if not is_json(text):
        text, cut = _close(path, text), True
    file = decode(_File, text, path, "not a Kernel Tuner cache file", _REMEDY)
    if file.tune_params is None and file.tune_params_keys is None:
        raise RecordingError(
            f"{path}: it has neither tune_params nor tune_params_keys, and so no parameters; {_REMEDY}"
        )
    names = tuple((file.tune_params if file.tune_params_keys is None else file.tune_params_keys) or ())
    if file.tune_params is not None and sorted(names) != sorted(file.tune_params):
        raise RecordingError(f"{path}: tune_params_keys and the keys of tune_params differ; {_REMEDY}")
    columns = _columns(path, file.cache, names) if file.tune_params is None else file.tune_params
    values = tuple(_values(path, name, columns[name]) for name in names)
    if file.tune_params is None:
        values = tuple(map(sort_numbers, values))
    objective = _objective(path, file, chosen)
    header = RecordingHeader(
        name=recording_name(path),
        kernel=file.kernel_name or "",
        device=file.device_name or "",
        problem=_problem(file.problem_size),
        parameters=names,
        values=values,
        partial=cut,
        objective=objective,
    )
    return build_recording(header, _rows(path, file.cache, names, values, objective), source=path)


def _columns(path: Path, cache: dict[str, msgspec.Raw], names: tuple[str, ...]) -> dict[str, list[Any]]:
    """The values of each parameter in the entries, for a file that does not list them."""
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for key, raw in cache.items():
        fields = decode(_FIELDS, raw, path, f"entry {key!r}", _REMEDY)
        for name, column in columns.items():
            if name not in fields:
                raise RecordingError(f"{path}: entry {key!r}: it has no {name!r}; {_REMEDY}")
            column.append(fields[name])
    return columns


def _objective(path: Path, file: _File, chosen: ObjectiveChoice) -> Objective:
    """The objective in the header; a time where it names none."""
    written = [file.objective] if isinstance(file.objective, str) else file.objective or []
    higher = file.objective_higher_is_better
    flags = [higher] if isinstance(higher, bool) else higher or []
    flagged = dict(zip([item for item in written if isinstance(item, str)], flags, strict=False))
    try:
        name, direction = choose_objective(written, chosen, "objective")
        if direction is None and name in flagged:
            direction = "higher" if flagged[name] else "lower"
        return make_objective(name, direction, "")
    except ValueError as error:
        raise RecordingError(f"{path}: {error}") from None


def _close(path: Path, text: bytes) -> bytes:
    """The whole entries of a text that was merely cut off, with closing braces; else RecordingError."""
    tear = find_tear(text)
    if tear is None:
        decode(msgspec.Raw, text, path, "not a Kernel Tuner cache file", "fetch the file again")
        raise RecordingError(f"{path}: not JSON; fetch the file again")
    if tear.torn:
        shown = tear.torn[:40].decode(errors="replace")
        warn_user(
            f"{path}: cut off at byte {len(text)}; the torn last entry ({shown}…) was dropped, the whole ones kept",
        )
    return text[: tear.end] + b"}}"


def _values(path: Path, name: str, column: list[Any]) -> tuple[Value, ...]:
    try:
        return parameter_values(column)
    except (ValueError, TypeError) as error:
        raise RecordingError(f"{path}: tune_params {name!r}: {error}") from None


def _problem(size: Any) -> str:
    if isinstance(size, list):
        return "x".join(map(str, size))
    return "" if size is None else str(size)


def _rows(
    path: Path,
    cache: dict[str, msgspec.Raw],
    names: tuple[str, ...],
    values: tuple[tuple[Value, ...], ...],
    objective: Objective,
) -> list[RecordingRow]:
    coder = Coder(values)
    known = frozenset(names)
    rows = []
    for key, raw in cache.items():
        try:
            fields = _FIELDS.decode(raw)
            codes = coder.codes([fields[name] for name in names])
            rows.append(_row(key, codes, fields, known, objective))
        except KeyError as missing:
            raise RecordingError(f"{path}: entry {key!r}: it has no {missing}; {_REMEDY}") from None
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            raise RecordingError(f"{path}: entry {key!r}: {error}; {_REMEDY}") from None
    return rows


def _row(
    key: str, codes: tuple[int, ...], fields: dict[str, Any], parameters: frozenset[str], objective: Objective
) -> RecordingRow:
    entry = msgspec.convert(fields, _Entry)
    written, samples = _read_objective(entry, fields, parameters, objective)
    time, kind, message = parse_time(written, objective=objective)
    if time is None:
        kind = entry.failure_kind or _ERRORS.get(message, kind)
        message = message if entry.failure_message is None else entry.failure_message
    return RecordingRow(
        key=key,
        codes=codes,
        time_ms=time,
        samples_ms=() if time is None else parse_samples(samples, objective=objective),
        compile_s=parse_duration(entry.compile_time, 1e3),
        run_s=parse_duration(entry.benchmark_time, 1e3) + parse_duration(entry.verification_time, 1e3),
        framework_s=parse_duration(entry.framework_time, 1e3),
        kind=kind,
        message=message,
    )


def _read_objective(
    entry: _Entry, fields: dict[str, Any], parameters: frozenset[str], objective: Objective
) -> tuple[Number, Sequence[Number]]:
    """The objective's value in an entry, or the name of its error; and the repeats."""
    if entry.error is not None:
        return entry.error, ()
    for name, value in fields.items():
        if value.__class__ is str and value in _MARKERS and name not in parameters:
            return str(value), ()
    if objective.name == TIME.name:
        if not isinstance(entry.time, msgspec.UnsetType):
            return entry.time, entry.times or ()
        if not entry.times:
            others = sorted(name for name in fields.keys() - parameters if not name.endswith(("_time", "times")))
            raise ValueError(
                "it has no time"
                + (f"; it has {', '.join(map(repr, others))}, which `objective` can name" if others else "")
            )
        return mean_number(entry.times), entry.times
    value = find_nested(fields, objective.name)
    if isinstance(value, list):
        return mean_number(value), value
    if value is msgspec.UNSET:
        raise ValueError(f"it has no {objective.name!r}, the objective")
    if not isinstance(value, float | int | str | None) or isinstance(value, bool):
        raise ValueError(f"the {objective.name} {value!r} is no number")
    return value, ()


def write_kernel_tuner(recording: Recording, path: Path | str) -> None:
    """Write a recording as a closed Kernel Tuner cache file, gzip if the name ends in .gz, with an entry on each line.

    Kernel Tuner knows three failures; ours stand beside them as failure_kind and failure_message. Benchmark and
    verification are one duration here. Constraints, space and versions have no place in the format. Raises
    RecordingError where the file cannot be written.
    """
    header: dict[str, Any] = {
        "device_name": recording.device,
        "kernel_name": recording.kernel,
        "problem_size": recording.problem,
        "tune_params_keys": recording.parameters,
        "tune_params": dict(zip(recording.parameters, recording.values, strict=True)),
        "objective": TIME.name if recording.objective.is_time else recording.objective.name,
    }
    if not recording.objective.is_time:
        header["objective_higher_is_better"] = recording.objective.direction == "higher"
    lines = []
    for row in range(len(recording)):
        key = msgspec.json.encode(recording.key(row))
        lines.append(key + b": " + msgspec.json.encode(_entry(recording, row)))
    text = msgspec.json.encode(header)[:-1] + b',\n"cache": {\n' + b",\n".join(lines) + b"}\n}"
    write_text(Path(path), text)


def _entry(recording: Recording, row: int) -> dict[str, Any]:
    kind = recording.failure(row)
    entry: dict[str, Any] = dict(recording.config(row))
    objective = recording.objective
    if kind is None and objective.is_time:
        entry |= {"time": float(recording.time_ms[row]), "times": recording.samples(row).tolist()}
    elif kind is None:
        entry[objective.name] = objective.value(float(recording.time_ms[row]))
    else:
        name = {kind: name for name, kind in _ERRORS.items()}.get(kind, "RuntimeFailedConfig")
        entry |= {
            TIME.name if objective.is_time else objective.name: name,
            "failure_kind": kind,
            "failure_message": recording.messages[row],
        }
    return entry | {
        "compile_time": float(recording.compile_s[row]) * 1e3,
        "verification_time": 0,
        "benchmark_time": float(recording.run_s[row]) * 1e3,
        "strategy_time": 0,
        "framework_time": float(recording.framework_s[row]) * 1e3,
    }
