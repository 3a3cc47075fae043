"""Finished runs as JSON lines, so that a study that was cut off goes on where it stopped."""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from autotune.shell.files import read_regular
from autotune.studies.study_spec import StudyError


class RunRecord(Struct, frozen=True):
    """One run. key: the fingerprint of everything that determines it.

    rows: the points of the recording it measured, in order. picked: the one it would return, None if nothing was timed.
    own_end: it ended by itself. rejected: proposals that were no new point. cpu_s: processor seconds of strategy and
    machine; wall_s: seconds the run took. These two vary from run to run.
    """

    key: str
    strategy: str
    recording: str
    seed: int
    rows: tuple[int, ...]
    picked: int | None
    own_end: bool
    rejected: int
    cpu_s: float
    wall_s: float


_decoder = msgspec.json.Decoder(RunRecord)
_encoder = msgspec.json.Encoder()


class RunStore:
    """The runs of a file, by key; new ones are appended and flushed at once. Without a path nothing is kept.

    Raises StudyError where the file cannot be opened, or a line other than the last is damaged; a torn last line, which
    a killed study leaves, is dropped with a warning.
    """

    def __init__(self, path: Path | None) -> None:
        self.runs: dict[str, RunRecord] = {}
        self._file = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.exists(path):
                read_regular(path, 0)  # a FIFO or a device would be read without end
            self._file = path.open("a+b")
            self._file.seek(0)
            whole = self._read(path, self._file.read())
            self._file.truncate(whole)
            self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise StudyError(f"{path}: cannot be written ({error.strerror or error}); use another --out") from None

    def _read(self, path: Path, content: bytes) -> int:
        """Take in the whole lines; how many bytes they are."""
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            warnings.warn(f"{path}: the last line is torn and is run again", stacklevel=3)
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                run = _decoder.decode(line)
            except (msgspec.DecodeError, ValueError, RecursionError) as error:
                raise StudyError(f"{path}, line {number}: {error}; remove the line, its run is repeated") from None
            self.runs[run.key] = run
        return whole

    def add(self, runs: Iterable[RunRecord]) -> None:
        """Keep finished runs."""
        for run in runs:
            self.runs[run.key] = run
            if self._file is not None:
                self._file.write(_encoder.encode(run) + b"\n")
        if self._file is not None:
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
