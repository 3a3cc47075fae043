"""From measured rows, however a file spells them, to the columns of a `Recording`."""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import fsum, isfinite
from typing import Any, cast

import msgspec
import numpy as np

from autotune.core.config import Value, freeze, token
from autotune.core.errors import RecordingError
from autotune.core.outcomes import FAILURE_KINDS, FailureKind
from autotune.studies.recordings.files import MARK, NON_FINITE
from autotune.studies.recordings.objective import TIME, Objective
from autotune.studies.recordings.recording import TIMED, Recording

Number = float | str | None
"""A number in a file of unknown origin: a word where measuring failed, None where nothing was measured."""

FAILED_TIME = 1e20
"""The time that old versions of Kernel Tuner wrote for every failure."""

_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)

_DECIMAL = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


class RecordingHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a recording beside its rows; see `Recording`."""

    name: str
    parameters: tuple[str, ...]
    values: tuple[tuple[Value, ...], ...]
    kernel: str = ""
    device: str = ""
    problem: str = ""
    partial: bool = False
    objective: Objective = TIME


class RecordingRow(msgspec.Struct, frozen=True, kw_only=True):
    """One measured point. codes: the index of each parameter's value. key: as the file spells it; None: of
    `unique_keys`.

    time_ms: milliseconds, or the objective's cost; None for a failure. samples_ms: its repeats. Durations in seconds.
    kind, message: of a failure.
    """

    codes: tuple[int, ...]
    time_ms: float | None
    key: str | None = None
    samples_ms: Sequence[float] = ()
    compile_s: float = 0.0
    run_s: float = 0.0
    framework_s: float = 0.0
    kind: FailureKind = "unknown"
    message: str = ""


def build_recording(header: RecordingHeader, rows: Sequence[RecordingRow], source: object = None) -> Recording:
    """The recording of rows; raises RecordingError, which names `source` (or the recording), where two rows are the
    same point or a row contradicts itself."""
    keys = tuple([row.key for row in rows if row.key is not None])
    if len(keys) < len(rows):
        keys = unique_keys(
            [[column[code] for column, code in zip(header.values, row.codes, strict=True)] for row in rows]
        )
    timed = [row.time_ms is not None for row in rows]
    kinds = [TIMED if ok else 1 + FAILURE_KINDS.index(row.kind) for row, ok in zip(rows, timed, strict=True)]
    kept: list[Sequence[float]] = [row.samples_ms if ok else () for row, ok in zip(rows, timed, strict=True)]
    try:
        return Recording(
            **msgspec.structs.asdict(header),
            keys=keys,
            codes=np.array([row.codes for row in rows], np.int64).reshape(len(rows), len(header.parameters)),
            kinds=np.array(kinds, np.int8),
            messages=tuple(["" if ok else row.message for row, ok in zip(rows, timed, strict=True)]),
            time_ms=np.array([np.nan if row.time_ms is None else row.time_ms for row in rows], np.float64),
            samples_ms=np.array([sample for samples in kept for sample in samples], np.float64),
            offsets=np.cumsum([0, *map(len, kept)], dtype=np.int64),
            compile_s=np.array([row.compile_s for row in rows], np.float64),
            run_s=np.array([row.run_s for row in rows], np.float64),
            framework_s=np.array([row.framework_s for row in rows], np.float64),
        )
    except RecordingError as error:
        raise RecordingError(f"{header.name if source is None else source}: {error}") from None


def join_key(values: Iterable[Value]) -> str:
    """The key of Kernel Tuner: the values of a point joined by commas. Two points can have the same."""
    return ",".join(map(str, values))


def unique_keys(points: Sequence[Sequence[Value]]) -> tuple[str, ...]:
    """A different key for each of the distinct points: Kernel Tuner's, or, where two points have the same ("x,y" and
    "z", "x" and "y,z"; 1 and "1"), the values of every point as a JSON array."""
    joined = tuple(map(join_key, points))
    if len(set(joined)) == len(joined):
        return joined
    return tuple([token(tuple(point)).decode() for point in points])


class Coder:
    """From values to codes, for the parameters with these lists of values."""

    def __init__(self, values: Sequence[Sequence[Value]]) -> None:
        self._tables = [
            {(type(value), value): code for code, value in enumerate(column) if _is_plain(value)} for column in values
        ]
        self._exact = [{token(value): code for code, value in enumerate(column)} for column in values]

    def codes(self, values: Sequence[Any]) -> tuple[int, ...]:
        """The codes of one point's values (1, 1.0 and True differ); ValueError for a value that its parameter lacks."""
        try:
            return tuple([table[type(value), value] for table, value in zip(self._tables, values, strict=True)])
        except (KeyError, TypeError):  # not plain, or no value of the parameter
            pass
        codes = []
        for column, value in enumerate(values):
            code = self._exact[column].get(token(freeze(value)))
            if code is None:
                raise ValueError(f"{value!r} is no value of parameter {column + 1}")
            codes.append(code)
        return tuple(codes)


def _is_plain(value: Value) -> bool:
    """Whether a value equals no other value of its type, as 0.0 equals -0.0 and (1,) equals (True,)."""
    return not isinstance(value, tuple) and not (isinstance(value, float) and value == 0)


def collect_parameters(
    path: object, configurations: Sequence[Mapping[str, Any]], remedy: str
) -> tuple[tuple[str, ...], tuple[tuple[Value, ...], ...]]:
    """The names and values of the parameters, from the configurations of a file's results.

    Raises RecordingError where two results have different parameters, or one has a value that no parameter can have.
    """
    names = tuple(configurations[0])
    for number, configuration in enumerate(configurations):
        if configuration.keys() != set(names):
            raise RecordingError(f"{path}: result {number} has other parameters than result 0; {remedy}")
    values = []
    for name in names:
        try:
            values.append(sort_numbers(parameter_values(configuration[name] for configuration in configurations)))
        except (ValueError, TypeError) as error:
            raise RecordingError(f"{path}: parameter {name!r}: {error}") from None
    return names, tuple(values)


def parameter_values(values: Iterable[Any]) -> tuple[Value, ...]:
    """The `distinct_values`; ValueError for NaN and Infinity, which a parameter cannot have."""
    column = distinct_values(values)
    for value in column:
        if any(token(mark) in token(value) for mark in NON_FINITE):
            raise ValueError(f"the value {str(value).replace(MARK, '')} is not finite; remove it")
    return column


def distinct_values(values: Iterable[Any]) -> tuple[Value, ...]:
    """The values, each once, in order, with tuples for lists; TypeError for a value that JSON cannot hold."""
    seen: dict[bytes, Value] = {}
    for value in map(freeze, values):
        seen.setdefault(token(value), value)
    return tuple(seen.values())


def sort_numbers(values: tuple[Value, ...]) -> tuple[Value, ...]:
    """The values in ascending order where all are numbers, else as they are; for files that do not list them."""
    return tuple(sorted(values)) if all(type(value) in (int, float) for value in values) else values


def parse_value(value: Any) -> Any:
    """The value that a string in a file of KTT stands for, as KTT reads it (JsonT4Converters.cpp)."""
    if not isinstance(value, str):
        return value
    if value in ("true", "false"):
        return value == "true"
    if _WHOLE.fullmatch(value):
        return int(value)
    return float(value) if _DECIMAL.fullmatch(value) and len(value) < 40 else value


def find_nested(fields: Mapping[str, Any], name: str) -> Any:
    """The value of a name, or the value at the path of its parts between dots; UNSET where there is none."""
    if name in fields:
        return fields[name]
    for place, letter in enumerate(name):
        inner = fields.get(name[:place]) if letter == "." else None
        if isinstance(inner, Mapping) and (found := find_nested(inner, name[place + 1 :])) is not msgspec.UNSET:
            return found
    return msgspec.UNSET


def parse_time(time: Number, scale: float = 1.0, objective: Objective = TIME) -> tuple[float | None, FailureKind, str]:
    """A recorded time as (milliseconds, -, ""), or a failure as (None, its kind, message).

    scale: milliseconds in the file's unit. objective: another objective than a time gives its cost instead of
    milliseconds, and ValueError for a value at or below zero that would rank best. A number may be written as a string.
    A word is the message, of kind "unknown": the reader of a format knows its words.
    """
    time = parse_number(time)
    if isinstance(time, str):
        return None, "invalid_time" if time in NON_FINITE else "unknown", time.removeprefix(MARK)
    if time is None:
        return None, "invalid_time", f"no {objective.name}"
    if abs(time) >= FAILED_TIME:
        return None, "invalid_time" if time < 0 else "unknown", f"{objective.name} {time!r}"
    if objective.name != TIME.name and (time < 0 or (time == 0 and objective.direction == "lower")):
        raise ValueError(f"{objective.name!r} is {time!r}, and only values above zero can be ranked; correct the entry")
    if not time * scale > 0 or not isfinite(objective.cost(time * scale)):
        return None, "invalid_time", f"{objective.name} {time!r}"
    return float(objective.cost(time * scale)), "unknown", ""


def parse_samples(samples: Iterable[Number], scale: float = 1.0, objective: Objective = TIME) -> list[float]:
    """The repeats in milliseconds, or as costs; ValueError where one is no time."""
    floats = cast(list[float], list(samples))
    plain = [sample.__class__ is float and 0.0 < sample * scale < FAILED_TIME for sample in floats]
    if objective.direction == "lower" and all(plain):
        return [sample * scale for sample in floats]  # nearly all rows of all files; the loop below takes longer
    times = []
    for sample in floats:
        time, _, message = parse_time(sample, scale, objective)
        if time is None:
            raise ValueError(f"the repeats hold {message}, which is no time; remove the entry or mark it as failed")
        times.append(time)
    return times


def parse_duration(duration: Number, per_second: float) -> float:
    """A recorded duration in seconds; 0 where none was recorded, or NaN. ValueError for a negative one."""
    duration = parse_number(duration)
    if duration is None or (isinstance(duration, str) and duration in NON_FINITE):
        return 0.0
    if isinstance(duration, str) or duration < 0:
        raise ValueError(f"the duration {duration!r} is not a number above zero; correct the entry")
    return duration / per_second


def mean_number(numbers: Iterable[Any]) -> Any:
    """The mean of numbers; the first item that is no number where there is one; None of an empty list."""
    found = []
    for number in map(parse_number, numbers):
        if isinstance(number, bool) or not isinstance(number, float | int):
            return number
        found.append(number)
    return fsum(found) / len(found) if found else None


def parse_number(value: Any) -> Any:
    """The number in a string; any other value unchanged."""
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
