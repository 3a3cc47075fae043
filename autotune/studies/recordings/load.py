"""One door for every recorded space: the format is recognised by content, never by name."""

import warnings
from pathlib import Path

import msgspec

from autotune.studies.recordings import files
from autotune.studies.recordings.builtin import located
from autotune.studies.recordings.decoding import decode, is_json, without_non_finite
from autotune.studies.recordings.kernel_tuner import read_kernel_tuner
from autotune.studies.recordings.own import is_own, read_own
from autotune.studies.recordings.recording import Recording
from autotune.studies.recordings.t4 import read_t4


class _Probe(msgspec.Struct):
    results: msgspec.Raw = msgspec.Raw()
    tune_params: msgspec.Raw = msgspec.Raw()


def load_recording(path: Path | str) -> Recording:
    """The recording in a file: a Kernel Tuner cache, T4 or our own, plain or gzip. Or that of "builtin:NAME".

    A Kernel Tuner cache that was cut off gives its whole entries, `partial`, and a warning if one was torn or the gzip
    ends too early. No file can execute code. Raises RecordingError, one sentence with the file, the place and the
    remedy, for whatever else is wrong.
    """
    path = located(path)
    text, cut = files.read_text(path)
    text = text.strip(b" \t\r\n")
    if cut:
        warnings.warn(f"{path}: the gzip data ends too early; {len(text)} bytes of text could be read", stacklevel=2)
    if is_own(text):
        return read_own(path, text)
    text = without_non_finite(text)
    if not is_json(text):
        return read_kernel_tuner(path, text, cut)
    probe = decode(_Probe, text, path, "not a recording", "pass a Kernel Tuner cache, a T4 file or our own format")
    if bytes(probe.results) and not bytes(probe.tune_params):
        return read_t4(path, text, cut)
    return read_kernel_tuner(path, text, cut)
