"""T4, the interchange format of auto-tuning results: a list, each with its configuration, times and validity.

The format: https://github.com/odgaard/TuningSchema (T4 results schema), kernel_tuner/file_utils.py and KTT's
JsonT4Converters.cpp; the last two write fields that the schema lacks, and spell one of its fields otherwise. It names
neither kernel nor the values of the parameters: these are collected from the configurations, in ascending order where
all are numbers and else in order of appearance.
"""

from collections.abc import Mapping
from math import fsum
from pathlib import Path
from typing import Any

import msgspec

from autotune.core.errors import RecordingError
from autotune.core.formatting import format_count
from autotune.core.outcomes import FailureKind
from autotune.shell.warn import warn_user
from autotune.studies.recordings.files import MARK, decode, recording_name
from autotune.studies.recordings.objective import (
    AS_WRITTEN,
    HOW_TO_CHOOSE,
    PER_SECOND,
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
    collect_parameters,
    find_nested,
    join_key,
    mean_number,
    parse_duration,
    parse_number,
    parse_samples,
    parse_time,
    parse_value,
)

_INVALIDITY: dict[str, FailureKind] = {
    "compile": "compile_error",
    "runtime": "run_error",
    "timeout": "run_timeout",
    "correctness": "wrong_answer",
    "constraints": "skipped",
}

_REMEDY = "correct the file or record the space again"


class _Metadata(msgspec.Struct, kw_only=True):
    timeunit: str | None = None
    device: str = ""
    autotuner: str = ""
    objectives: list[Any] | str | None = None


class _File(msgspec.Struct):
    results: list[msgspec.Raw]
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    objectives: list[Any] | str | None = None


class _Times(msgspec.Struct, kw_only=True):
    runtimes: list[Number] | None = None
    compilation: Number = None
    compilation_time: Number = None  # the schema's and KTT's name for it; Kernel Tuner's is the one above
    benchmark: Number = None
    validation: Number = None
    framework: Number = None


class _Measurement(msgspec.Struct):
    name: str
    value: Any = None
    unit: str | None = None


class _Result(msgspec.Struct, kw_only=True):
    configuration: dict[str, Any]
    times: _Times = msgspec.field(default_factory=_Times)
    invalidity: str = "correct"
    correctness: float | None = None
    measurements: list[_Measurement] = []
    objectives: list[Any] | str | None = None
    objective: list[Any] | str | None = None  # not the schema's, but easily written for it


_RESULT = msgspec.json.Decoder(_Result)


def read_t4(path: Path, text: bytes, cut: bool = False, chosen: ObjectiveChoice = AS_WRITTEN) -> Recording:
    """The recording in a T4 file; of a configuration measured twice the last result counts.

    text: `without_non_finite`. cut: its gzip ended too early. chosen: an objective other than the one in `objectives`.
    A time is the measurement of that name, or else the mean of the runtimes. In a file without benchmark times (most
    files) the seconds of a run are the sum of its runtimes. Raises RecordingError, naming the result or the byte, for a
    defect, and where the file does not say which of several objectives counts, or in which direction.
    """
    file = decode(_File, text, path, "not a whole T4 file", "fetch the file again")
    results = [decode(_RESULT, raw, path, f"result {number}", _REMEDY) for number, raw in enumerate(file.results)]
    if not results:
        raise RecordingError(f"{path}: it holds no results, and so no parameters; record a configuration first")
    if file.metadata.autotuner == "KTT":
        for result in results:
            result.configuration = {name: parse_value(value) for name, value in result.configuration.items()}
    whole = _as_list(file.objectives) or _as_list(file.metadata.objectives)
    objective, unit = _objective(path, results, whole, chosen)
    per_second = _per_second(path, file.metadata.timeunit, unit)
    names, values = collect_parameters(path, [result.configuration for result in results], _REMEDY)
    coder = Coder(values)
    rows: dict[tuple[int, ...], RecordingRow] = {}
    for number, result in enumerate(results):
        point = [result.configuration[name] for name in names]
        try:
            codes = coder.codes(point)
            rows[codes] = _row(codes, result, per_second, objective, unit)
        except (ValueError, TypeError) as error:
            raise RecordingError(f"{path}: result {number} ({join_key(point)}): {error}; {_REMEDY}") from None
    if len(rows) < len(results):
        again = format_count(len(results) - len(rows), "result")
        warn_user(f"{path}: {again} left out, as a later one is of the same configuration")
    header = RecordingHeader(
        name=recording_name(path), device=file.metadata.device, parameters=names, values=values, partial=cut,
        objective=objective,
    )  # fmt: skip
    return build_recording(header, list(rows.values()), source=path)


def _objective(path: Path, results: list[_Result], whole: list[Any], chosen: ObjectiveChoice) -> tuple[Objective, str]:
    """The objective, and the unit in which it was measured, "" where the file has none.

    whole: the objectives of the whole file; a result may name others.
    """
    each = (_as_list(result.objectives) or _as_list(result.objective) or whole for result in results)
    written = {msgspec.json.encode(listed): listed for listed in each if listed}
    if len(written) > 1 and chosen.name is None:
        texts = " and ".join(key.decode() for key in list(written)[:2])
        raise RecordingError(f"{path}: results name different objectives, {texts}; {HOW_TO_CHOOSE}")
    try:
        name, direction = choose_objective(next(iter(written.values()), []), chosen)
        unit, measured = "", name == TIME.name
        for result in results:
            if (found := _measurement(result, name)) is not None:
                unit, measured = found.unit or "", True
                break
        if not measured:
            known = dict.fromkeys(m.name for result in results for m in result.measurements)
            raise ValueError(
                f"the objective {name!r} is measured in no result; measured are {', '.join(known) or 'none'}, and the"
                f" runtimes are called 'time'; {HOW_TO_CHOOSE}"
            )
        return make_objective(name, direction, unit), unit
    except ValueError as error:
        raise RecordingError(f"{path}: {error}") from None


def _as_list(written: list[Any] | str | None) -> list[Any]:
    return [written] if isinstance(written, str) else written or []


def _per_second(path: Path, written: str | None, unit: str) -> float:
    """How many of the file's unit of time make a second: the unit it names, that of an objective in time, or ms."""
    if written is None:
        return PER_SECOND.get(unit.lower(), 1e3)
    per_second = PER_SECOND.get(written.lower())
    if per_second is None:
        raise RecordingError(f"{path}: the timeunit {written!r} is unknown; use one of {', '.join(PER_SECOND)}")
    return per_second


def _row(codes: tuple[int, ...], result: _Result, per_second: float, objective: Objective, unit: str) -> RecordingRow:
    times, scale = result.times, 1e3 / per_second
    failed = result.invalidity != "correct"
    time, kind, message, samples = _read_cost(result, scale, objective, unit, failed)
    if failed:
        kind = _INVALIDITY.get(result.invalidity, "unknown")
    elif time is not None and result.correctness == 0:
        time, kind, message = None, "wrong_answer", "correctness 0"
    runtimes = [] if time is None else parse_samples(times.runtimes or (), scale)
    benchmark = fsum(runtimes) / 1e3 if times.benchmark is None else parse_duration(times.benchmark, per_second)
    compilation = times.compilation_time if times.compilation is None else times.compilation
    return RecordingRow(
        codes=codes,
        time_ms=time,
        samples_ms=[] if time is None else samples or (runtimes if objective.is_time else []),
        compile_s=parse_duration(compilation, per_second),
        run_s=benchmark + parse_duration(times.validation, per_second),
        framework_s=parse_duration(times.framework, per_second),
        kind=kind,
        message=message,
    )


def _read_cost(
    result: _Result, scale: float, objective: Objective, unit: str, failed: bool
) -> tuple[float | None, FailureKind, str, list[float]]:
    """The cost of a result, or its failure; and its repeats, where the measurement is a list of them.

    A word in place of the measurement of a failed result is its message.
    """
    found = _measurement(result, objective.name)
    if failed:
        word = None if found is None else parse_number(found.value)
        return None, "unknown", word.removeprefix(MARK) if isinstance(word, str) and word else result.invalidity, []
    if found is None:
        if objective.name != TIME.name:
            raise ValueError(f"it has no measurement {objective.name!r}, the objective")
        value = mean_number(result.times.runtimes or ()) if objective == TIME else None
        return *parse_time(value, scale, objective), []
    value, own = found.value, found.unit or ""
    if not objective.is_time:
        scale = 1.0
        if own != unit:
            raise ValueError(f"its {objective.name} is in {own!r}, and that of another result in {unit!r}")
    elif own.lower() in PER_SECOND:
        scale = 1e3 / PER_SECOND[own.lower()]
    elif own:
        raise ValueError(f"its {objective.name} is in {own!r}, which is no unit of time")
    samples: list[float] = []
    if isinstance(value, list) and value:
        samples = parse_samples(value, scale, objective)
        value = mean_number(value)
    if not isinstance(value, float | int | str | None) or isinstance(value, bool):
        raise ValueError(f"the {objective.name} {value!r} is no number")
    return *parse_time(value, scale, objective), samples


def _measurement(result: _Result, name: str) -> _Measurement | None:
    """The measurement of a name, or the part of one that a name with dots leads to."""
    for measurement in result.measurements:
        if measurement.name == name:
            return measurement
    for measurement in result.measurements:
        if isinstance(measurement.value, Mapping) and name.startswith(f"{measurement.name}."):
            part = find_nested(measurement.value, name.removeprefix(f"{measurement.name}."))
            if part is not msgspec.UNSET:
                return _Measurement(name, part, measurement.unit)
    return None
