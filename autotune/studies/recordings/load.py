"""Load any recording: the format is recognised by content, never by name; `builtin:NAME` is a recording of the
package."""

import os
import re
from pathlib import Path
from typing import get_args

import msgspec

from autotune.core.errors import RecordingError
from autotune.shell.warn import warn_user
from autotune.studies.recordings.files import find_tear, is_json, read_text, recording_name, without_non_finite
from autotune.studies.recordings.kernel_tuner import read_kernel_tuner
from autotune.studies.recordings.ktt import TIMES, read_ktt_csv, read_ktt_json, read_ktt_xml
from autotune.studies.recordings.objective import Direction, ObjectiveChoice
from autotune.studies.recordings.own import START, read_own
from autotune.studies.recordings.recording import Recording
from autotune.studies.recordings.t4 import read_t4

BUILTIN = "builtin:"
"""The prefix of the names of the recordings that come with the package."""

FOLDER = Path(__file__).parents[2] / "data"

_FORMATS = "Kernel Tuner's cache files, T4 results, KTT's results (JSON, XML, CSV) and our own *.autotune.json"
"""The formats, each plain or gzip, in an error."""

_TORN = "that is damaged or was cut off in a place where it cannot be closed; fetch it again"

_SIGNS: tuple[tuple[bytes, str], ...] = (
    (
        rb'\{\s*"format"\s*:\s*"autotune-journal"',
        "a journal of a search; `autotune show` and `autotune resume` read it",
    ),
    (rb'\{\s*"format"\s*:\s*"autotune-seeds"', "a list of seed configs; `autotune tune --seeds` takes it"),
    (
        rb'\{.*?"(ConfigurationSpace|KernelSpecification)"\s*:',
        "a T1 problem file, which defines a problem and holds no measurements; give the results of tuning it, a T4 file"
        " or the tuner's cache",
    ),
    (
        rb'\{.*?"(autotune_entries|default_config|configs_timings)"\s*:',
        "tuned configs of a Triton kernel; `autotune import` reads them",
    ),
    (rb"""\{.*?"\('""", "tuned configs of FlashInfer; `autotune import` reads them"),
    (
        rb'\{(\s*"triton_version"\s*:\s*"[^"]*",)?\s*"\d+"\s*:\s*\{',
        "tuned configs such as vLLM and SGLang keep; `autotune import` reads them",
    ),
    (rb'\{.*?"(tune_params|tune_params_keys|cache)"\s*:', f"a Kernel Tuner cache file {_TORN}"),
    (rb'\{.*?"Results"\s*:', f"KTT's JSON {_TORN}"),
    (
        rb'\{.*?"results"\s*:\s*\[\s*\{(?!.*"configuration")',
        "JSON of results that are not T4's: they have no configuration",
    ),
    (rb'\{.*?"results"\s*:', f"a T4 file {_TORN}"),
    (rb'\{.*?"metadata"\s*:', "T4 metadata without results; give the file of the results"),
    (rb"<.*?<TuningData", f"KTT's XML {_TORN}"),
    (rb"<", "XML, but not KTT's"),
    (rb"(Result for kernel|Printing tuning result)", "KTT's printed text; save the results as JSON or XML"),
    (rb"\xff\xfe|\xfe\xff|.\x00", "UTF-16 text; save it as UTF-8"),
    (rb"PK\x03\x04", "a zip archive; unpack it"),
    (rb"(BZh|\xfd7zXZ|\x28\xb5\x2f\xfd)", "packed by another program than gzip; unpack it"),
    (rb"\x80[\x02-\x05]", "a pickle, which could execute code and is not read"),
    (rb"(\x89HDF|SQLite format)", "a database"),
    (rb"[^\n{\[]*,[^\n]*\n", "CSV, but not KTT's, whose first column is 'Kernel name'"),
)
"""Beginnings of files of other formats, with a description of each."""

_START_BYTES = 2_000
"""Bytes of a file that `_SIGNS` are compared with."""


def load_recording(path: Path | str, *, objective: str | None = None, direction: Direction | None = None) -> Recording:
    """The recording in a file of Kernel Tuner, T4, KTT or ours, plain or gzip, or the built-in one of "builtin:NAME".

    objective: the measurement that ranks the points, where the file has several or another than it names is wanted;
    "time" for the times. direction: whether "lower" or "higher" values of it are better; needed where neither the file
    nor the name shows it (GFLOP/s does).

    A Kernel Tuner cache that was cut off gives its whole entries, `partial`, and a warning where an entry was torn or
    the gzip ended too early. No file can execute code, or take more memory than its size allows. Raises RecordingError,
    one sentence with the file, the place and the remedy, for any other defect.
    """
    if not isinstance(path, str | os.PathLike):
        raise RecordingError(f"a recording is a file, and {path!r} is of type {type(path).__name__}; give its path")
    if objective is not None and not isinstance(objective, str):
        raise RecordingError(f"the objective {objective!r} is no name; give the name of a measurement")
    if direction is not None and direction not in get_args(Direction):
        raise RecordingError(f"the direction {direction!r} is unknown; use 'lower' or 'higher'")
    if direction is not None and objective is None:
        raise RecordingError("a direction without an objective says nothing; give the objective's name too")
    path = locate_recording(path)
    try:
        return _load(path, ObjectiveChoice(objective, direction))
    except RecursionError:
        raise RecordingError(f"{path}: its values are nested too deeply; correct the file") from None


def _load(path: Path, chosen: ObjectiveChoice) -> Recording:
    text, cut = read_text(path)
    text = text.strip(b" \t\r\n") if text[:1] in b" \t\r\n{[" else text
    if cut:
        warn_user(f"{path}: the gzip data ends too early; {len(text)} bytes of text could be read")
    if text.startswith(START):
        return _load_own(path, text, chosen)
    if text.startswith(b"Kernel name,"):
        return read_ktt_csv(path, text, cut, chosen)
    if text.startswith(b"<") and b"<TuningData" in text[:1000]:
        return read_ktt_xml(path, text, cut, chosen)
    text = without_non_finite(text)
    keys = _keys(text)
    if keys is None:
        if find_tear(text) is not None:
            return read_kernel_tuner(path, text, cut, chosen)
        raise _refusal(path, text)
    if "tune_params" in keys or "tune_params_keys" in keys or "cache" in keys:
        return read_kernel_tuner(path, text, cut, chosen)
    if "Results" in keys and "Metadata" in keys:
        return read_ktt_json(path, text, cut, chosen)
    if "results" in keys and re.search(rb'"configuration"|"results"\s*:\s*\[\s*\]', text):
        return read_t4(path, text, cut, chosen)
    raise _refusal(path, text)


def _load_own(path: Path, text: bytes, chosen: ObjectiveChoice) -> Recording:
    recording = read_own(path, text)
    kept = recording.objective
    if chosen.name not in (None, kept.name) and not (kept.is_time and chosen.name in TIMES):
        raise RecordingError(
            f"{path}: it keeps {kept.name!r} and no other measurement; name the file that has {chosen.name!r} too"
        )
    if chosen.direction not in (None, kept.direction):
        raise RecordingError(f"{path}: it was written with the direction {kept.direction!r}; leave the direction out")
    return recording


def _keys(text: bytes) -> frozenset[str] | None:
    """The names in a text that is one JSON object; none of another JSON value; None where it is not JSON."""
    try:
        return frozenset(msgspec.json.decode(text, type=dict[str, msgspec.Raw]))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return frozenset() if is_json(text) else None


def _refusal(path: Path, text: bytes) -> RecordingError:
    """The error for a file of no known format, with a guess of its format."""
    start = text[:_START_BYTES]
    if not start.strip():
        seems = "it is empty"
    else:
        found = next((says for sign, says in _SIGNS if re.match(sign, start, re.DOTALL)), None)
        if found is None:
            whole = is_json(text)
            names = sorted(_keys(text) or ())[:5] if whole else []
            known = f" with the names {', '.join(name[:40] for name in names)}" if names else ""
            found = f"JSON of another kind{known}" if whole else "not JSON, or damaged JSON"
        seems = f"it seems to be {found}"
    return RecordingError(f"{path}: not a recording: {seems}; known are {_FORMATS}")


def locate_recording(path: Path | str) -> Path:
    """The file of a path or of "builtin:NAME"; raises RecordingError for an unknown built-in recording."""
    text = str(path)
    if not text.startswith(BUILTIN):
        return Path(path)
    known = builtin_recordings()
    if text.removeprefix(BUILTIN) not in known:
        names = ", ".join(BUILTIN + name for name in known)
        raise RecordingError(f"there is no built-in recording {text!r}; there are {names}")
    return known[text.removeprefix(BUILTIN)]


def builtin_recordings() -> dict[str, Path]:
    """The files of the recordings that come with the package, by name."""
    return {recording_name(path): path for path in sorted(FOLDER.glob("*.json.gz"))}
