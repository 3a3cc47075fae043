"""Our own recording format, *.autotune.json(.gz): columns as JSON under a versioned header, always the same bytes.

Columns pack well and read fast. Keys that follow from the values are left out.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from autotune.core.config import Value
from autotune.core.errors import RecordingError
from autotune.core.outcomes import FAILURE_KINDS, FailureKind
from autotune.studies.recordings.files import decode, is_json, recording_name, write_text
from autotune.studies.recordings.objective import TIME, Objective
from autotune.studies.recordings.recording import TIMED, Floats, Integers, Recording
from autotune.studies.recordings.rows import distinct_values, unique_keys

_VERSIONS = (1, 2)
"""1: points are ranked by their times. 2: by another objective, which is a field; readers of version 1 refuse it."""

START = b'{"format":"autotune-recording"'
"""The beginning of each of our files."""


class _Failures(msgspec.Struct):
    rows: list[int]
    kinds: list[FailureKind]
    messages: list[str]


class RecordingFile(msgspec.Struct, omit_defaults=False, kw_only=True):
    """The file, its fields in this order. codes: a list for each parameter. samples_ms: all repeats, row by row."""

    format: Literal["autotune-recording"]
    version: int
    kernel: str
    device: str
    problem: str
    versions: dict[str, str]
    parameters: dict[str, list[Value]]
    constraints: list[str]
    space: msgspec.Raw
    partial: bool
    keys: list[str] | None
    codes: list[list[int]]
    failures: _Failures
    time_ms: list[float | None]
    repeats: list[int]
    samples_ms: list[float]
    compile_s: list[float]
    run_s: list[float]
    framework_s: list[float]
    objective: Objective | msgspec.UnsetType = msgspec.UNSET


class _Version(msgspec.Struct):
    version: int


def write_recording(recording: Recording, path: Path | str, digits: int | None = None) -> None:
    """Write a recording to `path`, gzip if it ends in .gz; the file appears whole, and the same recording gives the
    same bytes.

    digits: round the repeats, and nothing else, to so many significant digits (6 suit any GPU clock); None keeps them
    exactly. The recording's name is not written: it is the file's. Raises RecordingError for a space that is not JSON,
    or where the directory cannot be written.
    """
    space = (recording.space or "null").encode()
    if not is_json(space):
        raise RecordingError(f"{path}: the space is not JSON text; pass the text that a Space writes")
    failed = np.flatnonzero(~recording.timed)
    are_default = _default_keys(recording.values, recording.codes) == recording.keys
    file = RecordingFile(
        format="autotune-recording",
        version=_VERSIONS[0] if recording.objective == TIME else _VERSIONS[1],
        kernel=recording.kernel,
        device=recording.device,
        problem=recording.problem,
        versions=dict(sorted(recording.versions.items())),
        parameters=dict(zip(recording.parameters, map(list, recording.values), strict=True)),
        constraints=list(recording.constraints),
        space=msgspec.Raw(space),
        partial=recording.partial,
        keys=None if are_default else list(recording.keys),
        codes=recording.codes.T.tolist(),
        failures=_Failures(
            failed.tolist(),
            [FAILURE_KINDS[kind - 1] for kind in recording.kinds[failed].tolist()],
            [recording.messages[row] for row in failed.tolist()],
        ),
        time_ms=[time if time > 0 else None for time in recording.time_ms.tolist()],
        repeats=np.diff(recording.offsets).tolist(),
        samples_ms=_round(recording.samples_ms, digits).tolist(),
        compile_s=recording.compile_s.tolist(),
        run_s=recording.run_s.tolist(),
        framework_s=recording.framework_s.tolist(),
        objective=msgspec.UNSET if recording.objective == TIME else recording.objective,
    )
    write_text(Path(path), msgspec.json.encode(file))


def _default_keys(values: Sequence[Sequence[Value]], codes: Integers) -> tuple[str, ...]:
    columns = [[column[code] for code in row] for column, row in zip(values, codes.T.tolist(), strict=True)]
    return unique_keys(list(zip(*columns, strict=True))) if columns else ("",) * len(codes)


def _round(samples: Floats, digits: int | None) -> Floats:
    if digits is None:
        return samples
    return np.array([float(f"{sample:.{digits}g}") for sample in samples.tolist()], np.float64)


def read_own(path: Path, text: bytes) -> Recording:
    """The recording in the text of one of our files; raises RecordingError, naming the byte or field, for a defect."""
    version = decode(_Version, text, path, "damaged", "fetch the file again").version
    if version not in _VERSIONS:
        known = " and ".join(map(str, _VERSIONS))
        raise RecordingError(f"{path}: format version {version} where {known} are known; install a newer autotune")
    file = decode(RecordingFile, text, path, "damaged", "fetch the file again")
    if (version == _VERSIONS[1]) is isinstance(file.objective, msgspec.UnsetType):
        raise RecordingError(f"{path}: version {version} and its objective contradict each other; fetch the file again")
    try:
        return _build(path, file)
    except (RecordingError, ValueError, TypeError, OverflowError) as error:
        raise RecordingError(f"{path}: {error}; fetch the file again") from None


def _build(path: Path, file: RecordingFile) -> Recording:
    n = len(file.time_ms)
    values = tuple(distinct_values(column) for column in file.parameters.values())
    if list(map(len, values)) != list(map(len, file.parameters.values())):
        raise ValueError("a parameter lists a value twice")
    codes = np.array(file.codes, np.int64).reshape(len(values), n).T
    kinds, messages = _unpack_failures(file.failures, n)
    if not bool(((codes >= 0) & (codes < np.array(list(map(len, values)), np.int64))).all()):
        raise ValueError("a code lies outside its parameter's values")
    return Recording(
        name=recording_name(path),
        kernel=file.kernel,
        device=file.device,
        problem=file.problem,
        parameters=tuple(file.parameters),
        values=values,
        keys=_default_keys(values, codes) if file.keys is None else tuple(file.keys),
        codes=codes,
        kinds=kinds,
        messages=messages,
        time_ms=np.array([np.nan if time is None else time for time in file.time_ms], np.float64),
        samples_ms=np.array(file.samples_ms, np.float64),
        offsets=np.cumsum([0, *file.repeats], dtype=np.int64),
        compile_s=np.array(file.compile_s, np.float64),
        run_s=np.array(file.run_s, np.float64),
        framework_s=np.array(file.framework_s, np.float64),
        partial=file.partial,
        constraints=tuple(file.constraints),
        space=None if bytes(file.space) == b"null" else bytes(file.space).decode(),
        versions=file.versions,
        objective=TIME if isinstance(file.objective, msgspec.UnsetType) else file.objective,
    )


def _unpack_failures(failures: _Failures, n: int) -> tuple[NDArray[np.int8], tuple[str, ...]]:
    kinds, messages = np.full(n, TIMED, np.int8), [""] * n
    for row, kind, message in zip(failures.rows, failures.kinds, failures.messages, strict=True):
        if not 0 <= row < n:
            raise ValueError(f"failure of row {row}, where there are {n}")
        kinds[row], messages[row] = 1 + FAILURE_KINDS.index(kind), message
    return kinds, tuple(messages)
