"""The journal: a header line that holds the plan, then one line an event, written as it happens.

The header carries a checksum, and each event one that is chained through all lines before it, so that a flipped byte, a
lost line or one moved is found. Only the last line may be torn, as a kill leaves it: it is dropped with a warning.
"""

import errno
import fcntl
import os
import platform
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from msgspec import Struct

from autotune.core.errors import AutotuneError, JournalError
from autotune.core.outcomes import Detail
from autotune.core.search.messages import Event
from autotune.core.search.plan import Plan
from autotune.core.space import Space
from autotune.core.space_spec import why_incomparable
from autotune.shell.codec import PlanSpec, decode_event, encode, plan_of_spec, spec_of_plan
from autotune.shell.files import read_regular, refuse_irregular, suffix_conflict, translate_os_error
from autotune.shell.signed_json import UNREADABLE, is_signed, sign
from autotune.shell.warn import warn_user
from autotune.version import __version__

FORMAT, VERSION = "autotune-journal", 2
"""Version 2 has the digest of the result, and the order of runs in comparisons; journals of version 1 are read."""

ASK_TELL = "ask_tell"
"""The kind of evaluator in the header of a journal whose measurements come from a loop that asks and tells."""

_LOCK_POLL_S, _HEADER_S = 0.02, 2.0
"""Seconds between two attempts to get the lock of a journal, and seconds after which the maker of an empty file counts
as killed."""


class Origin(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The origin of one of the best available configs of a plan; the header has one for each, in order.

    entry: the name of the cache entry. run, kernel, hardware: of that entry. distance: from the key of the search to
    the entry's, 0 for the same key. time_ms: its time there, in milliseconds.
    """

    config: dict[str, Any]
    entry: str
    run: str
    kernel: str
    hardware: str
    distance: float
    time_ms: float


class Header(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line: the plan, the evaluator, versions, host, and the origins of the best available configs."""

    format: str
    version: int
    plan: PlanSpec
    evaluator: dict[str, Detail]
    versions: dict[str, str] = {}
    host: dict[str, str] = {}
    warm_start: tuple[Origin, ...] = ()


class _Version(Struct):
    format: str
    version: int


class _Line(Struct):
    sum: str
    event: msgspec.Raw


def header_for(plan: Plan, evaluator: dict[str, Detail], warm_start: tuple[Origin, ...] = ()) -> Header:
    """The header of a new journal, with the versions of the libraries that results depend on."""
    versions = {
        "autotune": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "msgspec": msgspec.__version__,
        "scikit-learn": version("scikit-learn"),
    }
    host = {"system": platform.system(), "machine": platform.machine(), "node": platform.node()}
    return Header(
        format=FORMAT, version=VERSION, plan=spec_of_plan(plan), evaluator=evaluator, versions=versions, host=host,
        warm_start=warm_start,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Journal:
    """A journal as read. size: bytes of the file; length: bytes of its whole lines.

    checksum: chained through all events.
    """

    path: Path
    header: Header
    events: tuple[Event, ...]
    length: int
    size: int
    checksum: int

    def plan(self, space: Space | None = None) -> Plan:
        """The plan of the search. `space` stands in for the written one; raises JournalError if it is not the same."""
        if space is not None and space.fingerprint != self.header.plan.fingerprint:
            if (why := why_incomparable(self.header.plan.space)) is not None:
                raise JournalError(f"{self.path} cannot go on with a space that is given: {why}; search anew")
            raise JournalError(
                f"{self.path} was made with another space (fingerprint {self.header.plan.fingerprint[:12]}, "
                f"not {space.fingerprint[:12]}); use the file that it was made with"
            )
        return plan_of_spec(self.header.plan, space)


def read_journal(path: str | os.PathLike[str]) -> Journal:
    """The journal in a file. Raises JournalError, naming the line, for anything but a torn end."""
    path = Path(path)
    with translate_os_error(JournalError, f"{path} cannot be read", "check the path"):
        data = read_regular(path)
    lines = data.split(b"\n")
    torn = lines.pop()  # empty when the file ends with a line break
    if not lines:
        raise JournalError(f"{path} holds no whole header, so nothing was recorded yet; remove it and start again")
    header, checksum = _header(path, lines[0]), zlib.crc32(lines[0])
    events = []
    for number, line in enumerate(lines[1:], 2):
        event, checksum = _event(path, number, line, checksum)
        events.append(event)
    if torn:
        warn_user(f"{path}: line {len(lines) + 1} is torn and was dropped, as a kill leaves it")
    return Journal(
        path=path, header=header, events=tuple(events), length=len(data) - len(torn), size=len(data), checksum=checksum
    )


def read_header(path: Path, wait_s: float = 0.0) -> Header:
    """The header of a journal; errors as of `read_journal`. wait_s: seconds to wait for a process that makes it."""
    until = time.monotonic() + min(wait_s, _HEADER_S)
    with translate_os_error(JournalError, f"{path} cannot be read", "check the path"):
        refuse_irregular(path, os.stat(path).st_mode)
        while not (line := _first_line(path)) and time.monotonic() < until:
            time.sleep(_LOCK_POLL_S)
    if not line:
        raise JournalError(f"{path} holds no whole header, so nothing was recorded yet; remove it and start again")
    return _header(path, line)


def _first_line(path: Path) -> bytes:
    """The first line of a file; empty where it is not whole."""
    with open(path, "rb") as file:
        line = file.readline()
    return line[:-1] if line.endswith(b"\n") else b""


def _header(path: Path, line: bytes) -> Header:
    try:
        found = msgspec.json.decode(line, type=_Version)
    except UNREADABLE:
        raise JournalError(f"{path} is not a journal of autotune: line 1 holds no header; name another file") from None
    if found.format != FORMAT:
        raise JournalError(f"{path} is not a journal of autotune but {found.format!r}; name another file")
    if found.version > VERSION:
        raise JournalError(
            f"{path} is of journal format {found.version} and this is autotune {__version__}, which reads up to "
            f"{VERSION}; upgrade autotune"
        )
    try:
        if not is_signed(line):
            raise msgspec.DecodeError("its checksum is wrong")
        return msgspec.json.decode(line, type=Header)
    except (*UNREADABLE, AutotuneError) as error:
        raise JournalError(f"{path}: line 1, the header, is damaged ({error}); restore the file from a copy") from None


def _event(path: Path, number: int, line: bytes, checksum: int) -> tuple[Event, int]:
    try:
        parsed = msgspec.json.decode(line, type=_Line)
        checksum = zlib.crc32(bytes(parsed.event), checksum)
        if parsed.sum != f"{checksum:08x}":
            raise msgspec.DecodeError("its checksum is wrong")
        return decode_event(parsed.event), checksum
    except UNREADABLE as error:
        raise JournalError(
            f"{path}: line {number} is damaged ({error}); restore the file, or cut it before that line"
        ) from None


class JournalWriter:
    """Appends events to a journal file, each whole or not at all.

    path: of the file, for messages. length: bytes of the whole lines in it. checksum: chained through them.
    """

    def __init__(self, descriptor: int, path: Path, length: int, checksum: int) -> None:
        self._descriptor = descriptor
        self._path = path
        self._length = length
        self._checksum = checksum

    @classmethod
    def create(cls, path: str | os.PathLike[str], header: Header, wait_s: float = 0.0) -> "JournalWriter":
        """A new journal; raises JournalError if the file exists, cannot be written, or has another format's name.

        wait_s: seconds to wait for a process that has found the new file and looks into it.
        """
        path = Path(path)
        if (fault := suffix_conflict(path, ".jsonl", ".json")) is not None:
            raise JournalError(f"the journal {path} cannot be written: {fault}")
        _make_folder(path)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise JournalError(f"the journal {path} exists; resume it, or name another file") from None
        except OSError as error:
            raise JournalError(f"the journal {path} cannot be written ({error.strerror}); name another file") from None
        _lock(descriptor, path, wait_s)
        line = sign(encode(header))
        writer = cls(descriptor, path, 0, zlib.crc32(line))
        try:
            writer._append(line + b"\n")
        except JournalError:
            writer.close()
            with suppress(OSError):
                path.unlink()
            raise
        return writer

    @classmethod
    def append_to(cls, journal: Journal) -> "JournalWriter":
        """Go on with a journal after its last whole line; raises JournalError while another process writes to it."""
        with translate_os_error(JournalError, f"{journal.path} cannot be written", "check its permissions"):
            descriptor = os.open(journal.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        _lock(descriptor, journal.path)
        if os.fstat(descriptor).st_size != journal.size:  # another process went on with it before we got the lock
            os.close(descriptor)
            raise JournalError(f"another process has written to {journal.path} since it was read; resume it again")
        return cls._after(descriptor, journal)

    @classmethod
    def take(cls, path: Path, wait_s: float) -> "tuple[Journal, JournalWriter]":
        """Wait at most so many seconds until no other process writes to a journal, then read it to go on with it.

        Raises JournalError where another process still writes, or where the journal cannot be read or written.
        """
        until = time.monotonic() + wait_s
        while True:
            with translate_os_error(JournalError, f"{path} cannot be written", "check the path and its permissions"):
                refuse_irregular(path, os.stat(path).st_mode)
                descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            _lock(descriptor, path, until - time.monotonic())
            try:
                if not os.fstat(descriptor).st_size and time.monotonic() < min(until, until - wait_s + _HEADER_S):
                    os.close(descriptor)  # the process that has made it has not got the lock yet
                    time.sleep(_LOCK_POLL_S)
                    continue
                journal = read_journal(path)
            except BaseException:
                os.close(descriptor)
                raise
            return journal, cls._after(descriptor, journal)

    @classmethod
    def _after(cls, descriptor: int, journal: Journal) -> "JournalWriter":
        """The writer that goes on after the last whole line."""
        if journal.length != journal.size:
            os.ftruncate(descriptor, journal.length)
        return cls(descriptor, journal.path, journal.length, journal.checksum)

    def write(self, event: Event) -> None:
        """Append an event; JournalError where it cannot be written whole: the file then ends with the one before."""
        body = encode(event)
        checksum = zlib.crc32(body, self._checksum)
        self._append(b'{"sum":"%08x","event":%s}\n' % (checksum, body))
        self._checksum = checksum

    def _append(self, line: bytes) -> None:
        """Write all of a line, or cut the file back to where the line began.

        A disk that is full for a moment takes a part of a line, and the next one would follow in the middle of it.
        """
        left = memoryview(line)
        try:
            while left:
                taken = os.write(self._descriptor, left)
                if not taken:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                left = left[taken:]
        except OSError as error:
            then = self._cut()
            raise JournalError(f"the journal {self._path} cannot be written ({error.strerror}); {then}") from None
        except BaseException:  # a second Ctrl-C
            self._cut()
            raise
        self._length += len(line)

    def _cut(self) -> str:
        """Leave whole lines only. Returns the remedy, in words."""
        try:
            os.ftruncate(self._descriptor, self._length)
        except OSError:
            return "its last line may be torn, which resume drops; make room and resume it"
        return "it ends with its last whole line; make room and resume it" if self._length else "name another file"

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _make_folder(path: Path) -> None:
    if "\0" in str(path):
        raise JournalError(f"the journal {str(path)!r} cannot be written: no file has a null byte in its name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # FileExistsError where a file has the folder's name
        why = "it is no directory" if isinstance(error, FileExistsError) else error.strerror
        raise JournalError(
            f"the journal {path} cannot be written, as its directory {path.parent} cannot be made ({why}); name another"
        ) from None


def _lock(descriptor: int, path: Any, wait_s: float = 0.0) -> None:
    """Keep a second process from writing to the same journal, waiting so long at most for one that writes now; the lock
    goes with the process."""
    until = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() >= until:
                os.close(descriptor)
                raise JournalError(
                    f"another process is writing to the journal {path}; wait for it, or stop it"
                ) from None
            time.sleep(_LOCK_POLL_S)
