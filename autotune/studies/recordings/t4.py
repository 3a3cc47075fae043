"""T4, the interchange format of auto-tuning results: a list, each with its configuration, times and validity.

The format: https://github.com/odgaard/TuningSchema (T4 results schema) and kernel_tuner/file_utils.py, whose words for
validity are used here. It names neither kernel nor device nor the values of the parameters: those are collected from
the configurations, in ascending order where all are numbers and else in order of appearance.
"""

from collections.abc import Iterable
from math import fsum
from pathlib import Path
from typing import Any

import msgspec

from autotune.core.config import Value
from autotune.core.errors import RecordingError
from autotune.core.outcomes import FailureKind
from autotune.studies.recordings import files
from autotune.studies.recordings.decoding import decode
from autotune.studies.recordings.recording import Recording
from autotune.studies.recordings.rows import (
    Coder,
    Header,
    Number,
    Row,
    key_of,
    milliseconds,
    recording_of,
    seconds,
    tunable,
    usable,
)

INVALIDITY: dict[str, FailureKind] = {
    "compile": "compile_error",
    "runtime": "run_error",
    "timeout": "run_timeout",
    "correctness": "wrong_answer",
    "constraints": "skipped",
}

_PER_SECOND = {
    **dict.fromkeys(("miliseconds", "milliseconds", "millisecond", "ms"), 1e3),  # the files say "miliseconds"
    **dict.fromkeys(("seconds", "second", "s"), 1.0),
    **dict.fromkeys(("microseconds", "microsecond", "us"), 1e6),
    **dict.fromkeys(("nanoseconds", "nanosecond", "ns"), 1e9),
}

_MENDED = "correct the file or record the space again"


class _Metadata(msgspec.Struct):
    timeunit: str = "ms"


class _File(msgspec.Struct):
    results: list[msgspec.Raw]
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _Times(msgspec.Struct):
    runtimes: list[Number] | None = None
    compilation: Number = None
    benchmark: Number = None
    validation: Number = None
    framework: Number = None


class _Measurement(msgspec.Struct):
    name: str
    value: Any = None
    unit: str | None = None


class _Result(msgspec.Struct):
    configuration: dict[str, Any]
    times: _Times = msgspec.field(default_factory=_Times)
    invalidity: str = "correct"
    correctness: float | None = None
    measurements: list[_Measurement] = []


_RESULT = msgspec.json.Decoder(_Result)


def read_t4(path: Path, text: bytes, cut: bool = False) -> Recording:
    """The recording in a T4 file, its text `without_non_finite`; of a configuration measured twice the last counts.

    The time is the measurement called "time", or else the mean of the runtimes. A file without benchmark times (most)
    gets the sum of its runtimes for the seconds a run took. Raises RecordingError, naming the result or the byte, for a
    defect.
    """
    file = decode(_File, text, path, "not a whole T4 file", "fetch the file again")
    per_second = _PER_SECOND.get(file.metadata.timeunit.lower())
    if per_second is None:
        known = ", ".join(_PER_SECOND)
        raise RecordingError(f"{path}: the timeunit {file.metadata.timeunit!r} is unknown; use one of {known}")
    results = [decode(_RESULT, raw, path, f"result {number}", _MENDED) for number, raw in enumerate(file.results)]
    if not results:
        raise RecordingError(f"{path}: it holds no results, and so no parameters; record a configuration first")
    names, values = _parameters(path, results)
    coder = Coder(values)
    rows: dict[str, Row] = {}
    for number, result in enumerate(results):
        point = [result.configuration[name] for name in names]
        try:
            rows[key_of(point)] = _row(key_of(point), coder.codes(point), result, per_second)
        except (ValueError, TypeError) as error:
            raise RecordingError(f"{path}: result {number} ({key_of(point)}): {error}; {_MENDED}") from None
    header = Header(files.stem(path), "", "", "", names, values, partial=cut)
    return recording_of(header, list(rows.values()), source=path)


def _parameters(path: Path, results: list[_Result]) -> tuple[tuple[str, ...], tuple[tuple[Value, ...], ...]]:
    names = tuple(results[0].configuration)
    for number, result in enumerate(results):
        if result.configuration.keys() != set(names):
            raise RecordingError(f"{path}: result {number} has other parameters than result 0; {_MENDED}")
    values = []
    for name in names:
        try:
            values.append(_ascending(tunable(result.configuration[name] for result in results)))
        except (ValueError, TypeError) as error:
            raise RecordingError(f"{path}: parameter {name!r}: {error}") from None
    return names, tuple(values)


def _ascending(values: tuple[Value, ...]) -> tuple[Value, ...]:
    return tuple(sorted(values)) if all(type(value) in (int, float) for value in values) else values


def _row(key: str, codes: tuple[int, ...], result: _Result, per_second: float) -> Row:
    times, scale = result.times, 1e3 / per_second
    time, kind, message = _time(result, scale)
    if result.invalidity != "correct":
        time, kind, message = None, INVALIDITY.get(result.invalidity, "unknown"), message or result.invalidity
    elif time is not None and result.correctness == 0:
        time, kind, message = None, "wrong_answer", "correctness 0"
    samples = [] if time is None else usable(times.runtimes or (), scale)
    benchmark = fsum(samples) / 1e3 if times.benchmark is None else seconds(times.benchmark, per_second)
    return Row(
        key=key,
        codes=codes,
        time_ms=time,
        samples_ms=samples,
        compile_s=seconds(times.compilation, per_second),
        run_s=benchmark + seconds(times.validation, per_second),
        framework_s=seconds(times.framework, per_second),
        kind=kind,
        message=message,
    )


def _time(result: _Result, scale: float) -> tuple[float | None, FailureKind, str]:
    for measurement in result.measurements:
        if measurement.name == "time":
            if not isinstance(measurement.value, float | int | str | None) or isinstance(measurement.value, bool):
                raise ValueError(f"the time {measurement.value!r} is no number")
            unit = _PER_SECOND.get((measurement.unit or "").lower())
            return milliseconds(measurement.value, scale if unit is None else 1e3 / unit)
    return milliseconds(_mean(result.times.runtimes or ()), scale)


def _mean(runtimes: Iterable[Number]) -> Number:
    """The mean of the runtimes; the first that is no number, if there is one; None of none."""
    numbers = []
    for runtime in runtimes:
        if not isinstance(runtime, float):
            return runtime
        numbers.append(runtime)
    return fsum(numbers) / len(numbers) if numbers else None
