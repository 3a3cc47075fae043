"""From measured rows, however a file spells them, to the columns of a `Recording`."""

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any

import msgspec
import numpy as np

from autotune.core.config import Value, freeze, token
from autotune.core.errors import RecordingError
from autotune.core.outcomes import FAILURE_KINDS, FailureKind
from autotune.studies.recordings.decoding import MARK, NON_FINITE
from autotune.studies.recordings.recording import TIMED, Recording

Number = float | str | None
"""A number in a file of unknown origin: a word where it failed, nothing where it was not taken."""

FAILED_TIME = 1e20
"""The time that old Kernel Tuner versions wrote for whatever had failed."""


class Header(msgspec.Struct, frozen=True):
    """What a recording says beside its rows."""

    name: str
    kernel: str
    device: str
    problem: str
    parameters: tuple[str, ...]
    values: tuple[tuple[Value, ...], ...]
    partial: bool = False


class Row(msgspec.Struct, frozen=True):
    """One measured point. time_ms is None for a failure; durations in seconds."""

    key: str
    codes: tuple[int, ...]
    time_ms: float | None
    samples_ms: Sequence[float] = ()
    compile_s: float = 0.0
    run_s: float = 0.0
    framework_s: float = 0.0
    kind: FailureKind = "unknown"
    message: str = ""


def _plain(value: Value) -> bool:
    """Only itself equals it among the values of its type: not so for 0.0 and -0.0, nor for (1,) and (True,)."""
    return not isinstance(value, tuple) and not (isinstance(value, float) and value == 0)


class Coder:
    """Values to codes for one list of parameters."""

    def __init__(self, values: Sequence[Sequence[Value]]) -> None:
        self._tables = [
            {(type(value), value): code for code, value in enumerate(column) if _plain(value)} for column in values
        ]
        self._exact = [{token(value): code for code, value in enumerate(column)} for column in values]

    def codes(self, values: Sequence[Any]) -> tuple[int, ...]:
        """The codes of one point's values (1, 1.0 and True differ); ValueError naming the value that is none."""
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


def distinct(values: Iterable[Any]) -> tuple[Value, ...]:
    """The values, lists turned to tuples, each once, in order; TypeError for what JSON cannot hold."""
    seen: dict[bytes, Value] = {}
    for value in map(freeze, values):
        seen.setdefault(token(value), value)
    return tuple(seen.values())


def tunable(values: Iterable[Any]) -> tuple[Value, ...]:
    """`distinct`, and ValueError for NaN and Infinity, which a parameter cannot have as values."""
    column = distinct(values)
    for value in column:
        if any(token(mark) in token(value) for mark in NON_FINITE):
            raise ValueError(f"the value {str(value).replace(MARK, '')} is not finite; remove it")
    return column


def key_of(values: Iterable[Value]) -> str:
    """The key that Kernel Tuner gives a point: its values joined by commas."""
    return ",".join(map(str, values))


def seconds(duration: Number, per_second: float) -> float:
    """A recorded duration in seconds; nothing recorded, or NaN, counts as none. ValueError for a negative one."""
    if duration is None or (isinstance(duration, str) and duration in NON_FINITE):
        return 0.0
    if isinstance(duration, str) or duration < 0:
        raise ValueError(f"the duration {duration!r} is not a number above zero; correct the entry")
    return duration / per_second


def milliseconds(time: Number, scale: float = 1.0) -> tuple[float | None, FailureKind, str]:
    """A recorded time as (milliseconds, -, ""), or (None, kind of failure, message) for what is no time.

    `scale` turns the file's unit to milliseconds. Names of failures are left to the reader of the format.
    """
    if isinstance(time, str):
        return None, "invalid_time" if time in NON_FINITE else "unknown", time.removeprefix(MARK)
    if time is None:
        return None, "invalid_time", "no time"
    if time >= FAILED_TIME:
        return None, "unknown", f"time {time!r}"
    if not time * scale > 0 or not isfinite(time * scale):
        return None, "invalid_time", f"time {time!r}"
    return float(time * scale), "unknown", ""


def usable(samples: Iterable[Number], scale: float = 1.0) -> list[float]:
    """The repeats in milliseconds; ValueError when one is not a time."""
    times = []
    for sample in samples:
        time, _, message = milliseconds(sample, scale)
        if time is None:
            raise ValueError(f"the repeats hold {message}, which is no time; remove the entry or mark it as failed")
        times.append(time)
    return times


def recording_of(header: Header, rows: Sequence[Row], source: object = None) -> Recording:
    """The recording of rows; raises RecordingError, which names `source` (or the recording), when two rows are the same
    point or a row contradicts itself."""
    timed = [row.time_ms is not None for row in rows]
    kinds = [TIMED if ok else 1 + FAILURE_KINDS.index(row.kind) for row, ok in zip(rows, timed, strict=True)]
    kept: list[Sequence[float]] = [row.samples_ms if ok else () for row, ok in zip(rows, timed, strict=True)]
    try:
        return Recording(
            **{name: getattr(header, name) for name in header.__struct_fields__},
            keys=tuple([row.key for row in rows]),
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
