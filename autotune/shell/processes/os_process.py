"""Processes as the program sees them: a worker behind its guardian, whether it is dead, how it ended, its memory.

How a worker process comes to be: what it is told of its parent, what it may read, where its prints go.
"""

import errno
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

from autotune.core.errors import EvaluatorError
from autotune.shell.processes import supervisor

REAP_S = 5.0
BIRTH_S = 30.0
"""How long a guardian may take to say its worker's number: it is a bare Python process, on a machine that is busy."""


class NoProcess(EvaluatorError):
    """The system gives no further process now: no descriptors, memory, numbers or room on the disk are left."""


class Process(Protocol):
    """A process that somebody must reap. Until then its number names its group, and cannot be reused."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None:
        """How it ended (negative: by a signal), once it is reaped."""

    def has_exited(self) -> bool:
        """Whether it is dead, reaped or not."""

    def kill(self) -> int | None:
        """Kill it and all that it has started, and reap it; its exit status, None if it cannot be killed."""


class SupervisedProcess:
    """A worker behind its guardian, which is a child of this process. note: where the guardian says its number."""

    def __init__(self, popen: "subprocess.Popen[bytes]", note: int) -> None:
        self._guardian = popen
        self._note = note
        self._pid = 0

    @property
    def pid(self) -> int:
        """The worker's number; 0 where there is none yet, or the guardian ended before it had one."""
        if self._note >= 0:
            with suppress(ValueError):
                self._pid = int(os.read(self._note, 32)) if readable(self._note, BIRTH_S) else 0
            self._let_go()
        return self._pid

    @property
    def returncode(self) -> int | None:
        """The worker's exit status, once the guardian is reaped."""
        return self._guardian.returncode

    def has_exited(self) -> bool:
        """Whether the worker is dead, and all that it had started; nothing is reaped by asking."""
        if self.returncode is not None:
            return True
        if not hasattr(os, "waitid"):
            return self._guardian.poll() is not None
        try:
            return os.waitid(os.P_PID, self._guardian.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def kill(self) -> int | None:
        """Let the guardian end it all; where that was killed itself, end what can be found."""
        if self.returncode is None:
            self._guardian.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._guardian.wait(REAP_S)
        if self.returncode is None:
            supervisor.signal_each(supervisor.descendants(self._guardian.pid), signal.SIGKILL)
            self._guardian.kill()
            with suppress(subprocess.TimeoutExpired):
                self._guardian.wait(REAP_S)
        if self.returncode == -signal.SIGKILL and self._pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)
        self._let_go()
        return self.returncode

    def _let_go(self) -> None:
        if self._note >= 0:
            os.close(self._note)
            self._note = -1


def await_exit(process: Process, seconds: float) -> bool:
    """Wait at most so long for the end of a process that is ending."""
    until = time.monotonic() + seconds
    while not process.has_exited():
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


def signal_tree(pid: int, number: signal.Signals) -> None:
    """Send a signal to the group that a process leads, and to its descendants that have left it."""
    if pid <= 0:  # our own group
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
    supervisor.signal_each(supervisor.descendants(pid), number)


def readable(fd: int, seconds: float) -> bool:
    """Whether there is something to read, or its end, within so many seconds; whatever the descriptor's number is."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(1e3 * max(0.0, seconds)))


def resident_mb(pid: int) -> float:
    """Memory in use by a process, in MiB; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, ValueError, IndexError):
        return 0.0


def describe_exit(status: int | None) -> str:
    """How a process ended, for people."""
    if status is None:
        return "cannot be killed"
    if status >= 0:
        return f"exited with code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " (perhaps by the system, for want of memory)" if -status == signal.SIGKILL else ""
    return f"was killed by {name}{hint}"


class StartProcess(Protocol):
    """Starts a process that leads a group of its own; raises NoProcess where it cannot now."""

    def __call__(self, sock: socket.socket, stderr: int) -> Process:
        """sock: its end of the socket to us; stderr: an open file for what it prints. Both are closed by the caller."""


_BOOT = (
    "import sys; s = {settings!r}; sys.path[:] = s['path'];"
    " from autotune.shell.processes.supervisor import fork_supervised;"
    " fork_supervised(s['parent'], s['socket'], s['note'], s.get('scratch', ''));"
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
) -> SupervisedProcess:
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
    return SupervisedProcess(popen, note)


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
