"""From measured rows, however a file spells them, to the columns of a `Recording`.

JSON of unknown origin to typed values: Python's NaN and Infinity, and files that stop in the middle.

Bytes in and out: plain or gzip by content, torn gzip as far as it goes; files that appear whole or not at all.
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import fsum, isfinite
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
import numpy as np

from autotune.core.config import Value, freeze, token
from autotune.core.errors import RecordingError
from autotune.core.outcomes import FAILURE_KINDS, FailureKind
from autotune.shell.files import read_regular, suffix_conflict, write_output
from autotune.studies.recordings.objective import TIME, Objective
from autotune.studies.recordings.recording import TIMED, Recording

T = TypeVar("T")

# A string that never ends is taken to the end of the text, so that no text makes the search quadratic.
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)'
_NON_FINITE = re.compile(_STRING + rb"|NaN|-?Infinity", re.DOTALL)
_STRUCTURE = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)

MARK = "\x00"
NON_FINITE = tuple(MARK + word for word in ("NaN", "Infinity", "-Infinity"))
"""Stand in for the numbers that Python writes but JSON does not have."""


def decode(
    kind: type[T] | msgspec.json.Decoder[T], text: bytes | msgspec.Raw, path: Path, place: str, remedy: str
) -> T:
    """The typed value of JSON text; raises RecordingError naming the file, the place and the remedy."""
    decoder = kind if isinstance(kind, msgspec.json.Decoder) else msgspec.json.Decoder(kind)
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecordingError(f"{path}: {place}: {error}; {remedy}") from None


def is_json(text: bytes) -> bool:
    """Whether text is one whole JSON value."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def _broken_at(text: bytes) -> int:
    """The offset where text that is not JSON stops being a beginning of JSON; its length when only more was to come."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        place = re.search(r"\(byte (\d+)\)", str(error))
        return int(place.group(1)) if place else len(text) if "truncated" in str(error) else 0
    except (ValueError, RecursionError):
        return 0
    return len(text)


def without_non_finite(text: bytes) -> bytes:
    """The text with NaN and ±Infinity, outside strings, replaced by marked strings that JSON can hold."""
    if b"NaN" not in text and b"Infinity" not in text:
        return text

    def mark(match: re.Match[bytes]) -> bytes:
        token = match.group()
        return token if token.startswith(b'"') else b'"\\u0000' + token + b'"'

    return _NON_FINITE.sub(mark, text)


class Tear(NamedTuple):
    """Where a file that was cut off can be closed again."""

    end: int
    """The offset just after the last whole entry."""
    torn: bytes
    """What follows it."""


def find_tear(text: bytes, name: str) -> Tear | None:
    """Where the object `name` of a cut-off JSON object can be closed; None when the text was not merely cut.

    A cut leaves whole entries and at most one beginning. Text that stops being JSON earlier, a second object that
    closes after the last whole entry, or an entry inside an entry (a lost brace) is damage in the middle: closing the
    text there would lose entries in silence.
    """
    if _broken_at(text) < len(text) - len(b"-Infinity"):  # a word may be torn, such as Infini
        return None
    end = _last_entry(text, f'"{name}"'.encode())
    if end is None:
        return None
    torn = text[end:].strip(b" \t\r\n,")
    outside = re.sub(_STRING, b"", torn, flags=re.DOTALL)
    if b"}" in outside and torn != b"}":
        return None
    return Tear(end, b"" if torn == b"}" else torn)


def _last_entry(text: bytes, name: bytes) -> int | None:
    """The offset after the last whole entry of the object `name`; None without it or where an entry holds an object."""
    depth, key, nested = 0, b"", False
    end: int | None = None
    for match in _STRUCTURE.finditer(text):
        token = match.group()
        if token in (b"{", b"["):
            depth += 1
            nested = nested or (depth == 4 and token == b"{" and end is not None)
            if depth == 2 and key == name:
                end = match.end()
        elif token in (b"}", b"]"):
            depth -= 1
            if depth == 2 and end is not None:
                if nested:
                    return None
                end = match.end()
            elif depth == 1 and end is not None:
                break  # the object is whole, and what follows cannot be missing an entry
        elif depth == 1:
            key = token
    return end


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
    objective: Objective = TIME


class Row(msgspec.Struct, frozen=True):
    """One measured point. key: as the file spells it; None: made of the values, by `keys_of`.

    time_ms: the time, or the objective's cost; None for a failure. Durations in seconds.
    """

    key: str | None
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


_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)
_DECIMAL = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


def typed(value: Any) -> Any:
    """The value that a string of KTT's stands for, as KTT's own reader takes it (JsonT4Converters.cpp)."""
    if not isinstance(value, str):
        return value
    if value in ("true", "false"):
        return value == "true"
    if _WHOLE.fullmatch(value):
        return int(value)
    return float(value) if _DECIMAL.fullmatch(value) and len(value) < 40 else value


def ascending(values: tuple[Value, ...]) -> tuple[Value, ...]:
    """The values of a parameter that a file does not list: in order where all are numbers, else as they appear."""
    return tuple(sorted(values)) if all(type(value) in (int, float) for value in values) else values


def parameters_in(
    path: object, configurations: Sequence[Mapping[str, Any]], remedy: str
) -> tuple[tuple[str, ...], tuple[tuple[Value, ...], ...]]:
    """The names and the values of the parameters of a file that does not list them, from its results' configurations.

    Raises RecordingError where two results have other parameters, or one has a value that no parameter can have.
    """
    names = tuple(configurations[0])
    for number, configuration in enumerate(configurations):
        if configuration.keys() != set(names):
            raise RecordingError(f"{path}: result {number} has other parameters than result 0; {remedy}")
    values = []
    for name in names:
        try:
            values.append(ascending(tunable(configuration[name] for configuration in configurations)))
        except (ValueError, TypeError) as error:
            raise RecordingError(f"{path}: parameter {name!r}: {error}") from None
    return names, tuple(values)


def nested(fields: Mapping[str, Any], name: str) -> Any:
    """The value that a name leads to, itself or part by part between its dots; UNSET where it leads nowhere."""
    if name in fields:
        return fields[name]
    for place, letter in enumerate(name):
        inner = fields.get(name[:place]) if letter == "." else None
        if isinstance(inner, Mapping) and (found := nested(inner, name[place + 1 :])) is not msgspec.UNSET:
            return found
    return msgspec.UNSET


def key_of(values: Iterable[Value]) -> str:
    """The key that Kernel Tuner gives a point: its values joined by commas. Two points can have the same."""
    return ",".join(map(str, values))


def keys_of(points: Sequence[Sequence[Value]]) -> tuple[str, ...]:
    """A key for each of the distinct points, no two alike: Kernel Tuner's, or, where it gives one to two points
    ("x,y" and "z", "x" and "y,z"; 1 and "1"), the values of every point as a JSON array."""
    joined = tuple(map(key_of, points))
    if len(set(joined)) == len(joined):
        return joined
    return tuple([token(tuple(point)).decode() for point in points])


def seconds(duration: Number, per_second: float) -> float:
    """A recorded duration in seconds; nothing recorded, or NaN, counts as none. ValueError for a negative one."""
    duration = as_number(duration)
    if duration is None or (isinstance(duration, str) and duration in NON_FINITE):
        return 0.0
    if isinstance(duration, str) or duration < 0:
        raise ValueError(f"the duration {duration!r} is not a number above zero; correct the entry")
    return duration / per_second


_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


def as_number(value: Any) -> Any:
    """The number that a string writes; anything else as it is."""
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def milliseconds(
    time: Number, scale: float = 1.0, objective: Objective = TIME
) -> tuple[float | None, FailureKind, str]:
    """A recorded time as (milliseconds, -, ""), or (None, kind of failure, message) for what is no time.

    `scale` turns the file's unit to milliseconds. Names of failures are left to the reader of the format. A number may
    be written as a string. Of another objective its cost; ValueError for a value at or below zero that would rank best.
    """
    time = as_number(time)
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


def usable(samples: Iterable[Number], scale: float = 1.0, objective: Objective = TIME) -> list[float]:
    """The repeats in milliseconds, or as costs; ValueError when one is not a time."""
    floats = cast(list[float], list(samples))
    plain = [sample.__class__ is float and 0.0 < sample * scale < FAILED_TIME for sample in floats]
    if objective.direction == "lower" and all(plain):
        return [sample * scale for sample in floats]  # nearly all rows of all files: what follows takes longer
    times = []
    for sample in floats:
        time, _, message = milliseconds(sample, scale, objective)
        if time is None:
            raise ValueError(f"the repeats hold {message}, which is no time; remove the entry or mark it as failed")
        times.append(time)
    return times


def mean(numbers: Iterable[Any]) -> Any:
    """The mean of numbers; the first item that is no number, if there is one; None of none."""
    found = []
    for number in map(as_number, numbers):
        if isinstance(number, bool) or not isinstance(number, float | int):
            return number
        found.append(number)
    return fsum(found) / len(found) if found else None


def recording_of(header: Header, rows: Sequence[Row], source: object = None) -> Recording:
    """The recording of rows; raises RecordingError, which names `source` (or the recording), when two rows are the same
    point or a row contradicts itself."""
    keys = tuple([row.key for row in rows if row.key is not None])
    if len(keys) < len(rows):
        keys = keys_of([[column[code] for column, code in zip(header.values, row.codes, strict=True)] for row in rows])
    timed = [row.time_ms is not None for row in rows]
    kinds = [TIMED if ok else 1 + FAILURE_KINDS.index(row.kind) for row, ok in zip(rows, timed, strict=True)]
    kept: list[Sequence[float]] = [row.samples_ms if ok else () for row, ok in zip(rows, timed, strict=True)]
    try:
        return Recording(
            **{name: getattr(header, name) for name in header.__struct_fields__},
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


MAX_BYTES = 2**31
"""A recording of more text is refused: no recording that was ever published has a tenth of it."""

MAX_RATIO = 100
"""A gzip that unpacks to more than this many times its size is refused past `FREE_BYTES`: recordings shrink to between
a third and a tenth, indented JSON to a fortieth, and a thousand times is what gzip can do to zeros."""

FREE_BYTES = 2**24
"""So many bytes a gzip may unpack to whatever its size: decoded, they take some 0.5 GiB at the very worst."""

_PIECE, _CHUNK = 2**12, 2**20
"""A member is unpacked in pieces of so many bytes, from the first size doubling to the second: zlib copies the rest of
a piece at the end of a member, and a file can hold a million members."""

_GZIP = b"\x1f\x8b"


def read_text(path: Path) -> tuple[bytes, bool]:
    """The text of a file, unpacked if it is gzip (by its first bytes), and whether the gzip ends too early.

    Raises RecordingError when the file cannot be read or is no regular file, its gzip is damaged, or it unpacks to more
    than MAX_BYTES, or to more than MAX_RATIO times its size.
    """
    try:
        content = read_regular(path, MAX_BYTES + 1)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    if len(content) > MAX_BYTES:
        raise RecordingError(f"{path}: is larger than {MAX_BYTES >> 20} MiB; split the recording")
    if not content.startswith(_GZIP):
        return content.removeprefix(b"\xef\xbb\xbf"), False
    text, whole = bytearray(), False
    limit = min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * len(content)))
    try:
        for part, ended in _unpacked(content):
            text += part
            whole = ended
            if len(text) > limit:
                raise RecordingError(
                    f"{path}: unpacks to more than {limit >> 20} MiB, which no recording of its size does; unpack it"
                    " yourself if you trust it, or split the recording"
                )
    except zlib.error as error:
        raise RecordingError(f"{path}: damaged gzip data ({error}); fetch the file again") from None
    return bytes(text).removeprefix(b"\xef\xbb\xbf"), not whole


def _unpacked(content: bytes) -> Iterator[tuple[bytes, bool]]:
    """The text part by part, each with whether the gzip is whole with it; a file may be several members in a row."""
    rest = memoryview(content)
    while rest[:2] == _GZIP:
        member, left, size = zlib.decompressobj(wbits=31), rest, _PIECE
        while not member.eof and len(left):
            piece, left, size = left[:size], left[size:], min(2 * size, _CHUNK)
            part = member.decompress(piece, _CHUNK)
            yield part, member.eof
            while member.unconsumed_tail and not member.eof:
                part = member.decompress(member.unconsumed_tail, _CHUNK)
                yield part, member.eof
        if not member.eof:
            return
        rest = rest[len(rest) - len(left) - len(member.unused_data) :]


def publish(path: Path, text: bytes) -> None:
    """Write `text`, which is JSON, to `path`, packed if it ends in .gz: the same text gives the same bytes, and the
    file appears whole.

    Raises RecordingError when the directory cannot be written, or the file's name says that it is something else.
    """
    check_name(path)
    content = gzip.compress(text, 9, mtime=0) if path.suffix == ".gz" else text
    try:
        write_output(path, content)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be written ({error.strerror or error}); check the directory") from None


def check_name(path: Path) -> None:
    """Raises RecordingError for a name that says another format than JSON, packed or not."""
    packed = ".gz" if path.name.endswith(".gz") else ""
    if (fault := suffix_conflict(path.name.removesuffix(".gz"), ".json")) is not None:
        raise RecordingError(f"{path}: {fault}{packed}")


def stem(path: Path) -> str:
    """The name of a recording: the file's, without .autotune.json, .json and .gz."""
    return path.name.removesuffix(".gz").removesuffix(".json").removesuffix(".autotune")
