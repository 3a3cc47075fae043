"""How a worker process comes to be: what it is told of its parent, what it may read, where its prints go."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any, Protocol

from autotune.shell.evaluators import processes
from autotune.shell.evaluators.protocol import NoProcess


class Starter(Protocol):
    """Starts a process that leads a group of its own; raises NoProcess where it cannot now."""

    def __call__(self, sock: socket.socket, stderr: int) -> processes.Process:
        """sock: its end of the socket to us; stderr: an open file for what it prints. Both are closed by the caller."""


_BOOT = (
    "import sys; s = {settings!r}; sys.path[:] = s['path'];"
    " from autotune.shell.evaluators.guardian import stand_guard;"
    " stand_guard(s['parent'], s['socket'], s['note'], s.get('scratch', ''));"
    " from {module} import main; main(s)"
)
"""The guardian forks before what is large is imported, so that it stays small itself."""


def boot(
    module: str,
    settings: Mapping[str, Any],
    sock: socket.socket,
    files: Mapping[str, int],
    stderr: int,
    env: Mapping[str, str] | None = None,
) -> processes.Guarded:
    """A worker behind a guardian, in a session of its own, with this interpreter: it runs `main(settings)` of a module.

    sock: its end of a socket to this process. files: descriptors that it gets, whose numbers there it is told by these
    names. stderr: takes what it prints. What it is told besides: `parent`, this process's number, and `socket`.
    """
    note, theirs = pipe_above_stdio()
    kept = [theirs]
    try:
        told: dict[str, Any] = {"path": [str(entry) for entry in sys.path], "parent": os.getpid(), "note": theirs}
        for name, fd in {"socket": sock.fileno(), **files}.items():
            told[name] = above_stdio(fd)
            kept.append(told[name])
        popen = subprocess.Popen(
            [sys.executable, "-c", _BOOT.format(module=module, settings={**settings, **told})],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=kept,
            start_new_session=True,
            env=None if env is None else dict(env),
        )
    except OSError as error:
        os.close(note)
        raise NoProcess(f"cannot start a worker process with {sys.executable}: {error}") from error
    finally:
        for fd in kept:
            os.close(fd)
    return processes.Guarded(popen, note)


def above_stdio(fd: int) -> int:
    """A copy of a descriptor that is none of 0 to 2, as these are other files in a new process.

    They are free in a program that was started with its stdin closed, say, and then what it opens gets their numbers.
    """
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def pipe_above_stdio() -> tuple[int, int]:
    """A pipe whose ends are none of 0 to 2."""
    ends = os.pipe()
    try:
        copies = [above_stdio(ends[0])]
        copies.append(above_stdio(ends[1]))
    finally:
        for fd in ends:
            os.close(fd)
    return copies[0], copies[1]


def unnamed_file(content: bytes = b"") -> IO[bytes]:
    """A file without a name, in the folder for temporary files; in memory where that is gone, full or read-only.

    Not the socket: what is large then never blocks the parent, and is written but once. Raises NoProcess where there
    is no descriptor or memory for it.
    """
    try:
        try:
            return _filled(tempfile.TemporaryFile(prefix="autotune-"), content)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE) or not hasattr(os, "memfd_create"):
                raise
        return _filled(open(os.memfd_create("autotune"), "w+b"), content)
    except OSError as error:
        raise NoProcess(f"no file can be made for a worker process: {error}") from error


def _filled(file: IO[bytes], content: bytes) -> IO[bytes]:
    try:
        file.write(content)
        file.flush()
    except BaseException:
        with suppress(OSError):  # what could not be written is written again on closing
            file.close()
        raise
    return file


def scratch_folder() -> str:
    """A new folder for temporary files; raises NoProcess where there is no place for one."""
    reason = None
    for parent in (None, "/tmp", "/var/tmp", "/dev/shm", os.curdir):
        try:
            return os.path.abspath(tempfile.mkdtemp(prefix="autotune-", dir=parent))
        except OSError as error:
            reason = reason or error
    raise NoProcess(f"no folder for temporary files can be made: {reason}; set TMPDIR to a folder that has room")


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a socket; raises NoProcess where there are no descriptors for them."""
    try:
        return socket.socketpair()
    except OSError as error:
        raise NoProcess(f"there is no socket for a worker process: {error}") from error
