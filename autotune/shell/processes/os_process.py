"""One worker process as the system sees it: how it starts, whether it is dead, how it ended, and the files it may read.

Every worker runs behind a supervisor (`supervisor.py`), a bare Python process that ends the worker and everything the
worker has started, however the program ends.
"""

import errno
import fcntl
import gc
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol

from autotune.core.errors import EvaluatorError
from autotune.shell.processes import supervisor

REAP_S = 5.0
"""Seconds to wait for the end of a process that was killed: it takes milliseconds unless a driver holds it up."""
_FORK_S = 30.0
"""Seconds that a supervisor may take to write its worker's number: a bare Python process on a busy machine."""
_EXIT_POLL_S = 0.002


class NoProcess(EvaluatorError):
    """The system gives no further process now: descriptors, memory, process numbers or disk space have run out."""


class Process(Protocol):
    """A process that its owner must reap. Until then its number names its group, and cannot be reused."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None:
        """The exit status (negative: the signal that ended it), once the process is reaped."""

    def has_exited(self) -> bool:
        """Whether the process is dead, reaped or not."""

    def kill(self) -> int | None:
        """Kill the process and all that it has started, and reap it. The exit status; None if it cannot be killed."""


class SupervisedProcess:
    """A worker behind its supervisor, which is a child of this process.

    pid_pipe: the descriptor from which the worker's number can be read once the supervisor has forked it.
    """

    def __init__(self, supervisor_process: "subprocess.Popen[bytes] | ForkedChild", pid_pipe: int) -> None:
        self._supervisor = supervisor_process
        self._pid_pipe = pid_pipe
        self._pid = 0

    @property
    def pid(self) -> int:
        """The worker's number; 0 where the supervisor ended before it had a worker."""
        if self._pid_pipe >= 0:
            with suppress(ValueError):
                self._pid = int(os.read(self._pid_pipe, 32)) if is_readable(self._pid_pipe, _FORK_S) else 0
            self._close_pipe()
        return self._pid

    @property
    def returncode(self) -> int | None:
        """The worker's exit status, once the supervisor is reaped."""
        return self._supervisor.returncode

    def has_exited(self) -> bool:
        """Whether the worker and everything it had started are dead; asking reaps nothing."""
        if self.returncode is not None:
            return True
        if not hasattr(os, "waitid"):
            return self._supervisor.poll() is not None
        try:
            return os.waitid(os.P_PID, self._supervisor.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def kill(self) -> int | None:
        """Let the supervisor end everything; where the supervisor itself was killed, end all that can be found."""
        if self.returncode is None:
            self._supervisor.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._supervisor.wait(REAP_S)
        if self.returncode is None:
            supervisor.signal_each(supervisor.descendants(self._supervisor.pid), signal.SIGKILL)
            self._supervisor.kill()
            with suppress(subprocess.TimeoutExpired):
                self._supervisor.wait(REAP_S)
        if self.returncode == -signal.SIGKILL and self._pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)
        self._close_pipe()
        return self.returncode

    def _close_pipe(self) -> None:
        if self._pid_pipe >= 0:
            os.close(self._pid_pipe)
            self._pid_pipe = -1


StartProcess = Callable[[socket.socket, int], Process]
"""Starts a process that leads a group of its own, from the worker's end of the socket to us and an open file for its
prints, which the caller closes. Raises NoProcess where it cannot now."""


_BOOT = (
    "import sys; s = {settings!r}; sys.path[:] = s['path'];"
    " from autotune.shell.processes.supervisor import fork_supervised;"
    " fork_supervised(s['parent'], s['socket'], s['pid_pipe'], s.get('scratch', ''));"
    " from {module} import main; main(s)"
)
"""The supervisor forks before anything large is imported, so that it stays small itself."""


def boot(
    module: str,
    settings: Mapping[str, Any],
    sock: socket.socket,
    files: Mapping[str, int],
    stderr: int,
    env: Mapping[str, str] | None = None,
) -> SupervisedProcess:
    """Start this interpreter behind a supervisor, in a session of its own; it runs `main(settings)` of a module.

    sock: the worker's end of a socket to this process. files: descriptors for the worker, by the names in `settings`
    under which it finds their numbers. stderr: an open file for its prints. The worker also finds `parent`, the number
    of this process, and `socket` in `settings`. Raises NoProcess where the system gives no process.
    """
    pid_pipe, theirs = pipe_above_stdio()
    kept = [theirs]
    try:
        added: dict[str, Any] = {"path": [str(entry) for entry in sys.path], "parent": os.getpid(), "pid_pipe": theirs}
        for name, fd in {"socket": sock.fileno(), **files}.items():
            added[name] = above_stdio(fd)
            kept.append(added[name])
        popen = subprocess.Popen(
            [sys.executable, "-c", _BOOT.format(module=module, settings={**settings, **added})],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=kept,
            start_new_session=True,
            env=None if env is None else dict(env),
        )
    except OSError as error:
        os.close(pid_pipe)
        raise NoProcess(f"cannot start a worker process with {sys.executable}: {error}") from error
    finally:
        for fd in kept:
            os.close(fd)
    return SupervisedProcess(popen, pid_pipe)


class ForkedChild:
    """A child that this process has forked, with the methods of `subprocess.Popen` that are needed of it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status; None while the child runs."""
        if self.returncode is None:
            try:
                ended, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # the program reaps its children by itself
                self.returncode = -signal.SIGKILL
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit status; raises subprocess.TimeoutExpired after so many seconds."""
        until = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("a forked process", timeout)
            time.sleep(_EXIT_POLL_S)
        return status

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def fork(
    main: Callable[[socket.socket], NoReturn], sock: socket.socket, stderr: int, scratch: str
) -> SupervisedProcess:
    """Fork this program behind a supervisor, in a session of its own; the child runs `main` with its end of a socket.

    The child has everything that the program has in memory, and none of its threads, files and signal handlers. It must
    use no GPU: a CUDA context survives no fork. The program's garbage is never collected there, since it may hold
    tensors on a GPU. stderr: an open file for its prints. scratch: a folder that the supervisor removes at the end.
    Raises NoProcess where the system gives no process.
    """
    program, (pid_pipe, theirs) = os.getpid(), pipe_above_stdio()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the program's threads: the child needs none
            pid = os.fork()
    except OSError as error:
        os.close(pid_pipe)
        os.close(theirs)
        raise NoProcess(f"cannot fork a worker process: {error}") from error
    if pid:
        os.close(theirs)
        return SupervisedProcess(ForkedChild(pid), pid_pipe)
    try:
        gc.freeze()
        os.setsid()
        _reset_signals()
        own = socket.socket(fileno=above_stdio(sock.fileno()))
        prints = above_stdio(stderr)
        _leave_files({own.fileno(), theirs}, prints)
        supervisor.fork_supervised(program, own.fileno(), theirs, scratch)
        main(own)
    except BaseException:
        with suppress(BaseException):
            traceback.print_exc()
    finally:
        os._exit(1)


def _reset_signals() -> None:
    """Signals do what they do by default: the program's handlers are for the program, be they Python's or a library's.
    SIGCHLD must not be ignored, or nobody could reap."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError, ValueError):
            ignored = signal.getsignal(number) is signal.SIG_IGN and number != signal.SIGCHLD
            if not ignored:
                signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def redirect_files(kept: set[int]) -> None:
    """Exchange all files of this process but these for the null device, in a fork that must not use the program's.

    Their numbers stay taken: an object of the program that writes to its file, or closes it, must not reach a file that
    the fork opens.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in {0, 1, 2, *map(int, os.listdir("/dev/fd"))} - kept - {nowhere}:
        with suppress(OSError):  # the listing's own descriptor is closed already
            if fd > 2:
                os.fstat(fd)
            os.dup2(nowhere, fd, inheritable=fd <= 2)


def _leave_files(kept: set[int], prints: int) -> None:
    """Use none of the program's files, and none of its streams: sys.stderr may be the cell of a notebook, for example.

    prints: an open file for stderr.
    """
    redirect_files(kept | {prints})
    os.dup2(prints, 2)
    os.close(prints)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)


def await_exit(process: Process, seconds: float) -> bool:
    """Wait so many seconds at most for the end of a process that is ending; whether it has ended."""
    until = time.monotonic() + seconds
    while not process.has_exited():
        if time.monotonic() > until:
            return False
        time.sleep(_EXIT_POLL_S)
    return True


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


def signal_tree(pid: int, number: signal.Signals) -> None:
    """Send a signal to the group that a process leads, and to the descendants that have left the group."""
    if pid <= 0:  # our own group
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
    supervisor.signal_each(supervisor.descendants(pid), number)


def resident_mb(pid: int) -> float:
    """The memory of a process, in MiB; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, ValueError, IndexError):
        return 0.0


def is_readable(fd: int, seconds: float) -> bool:
    """Whether there are bytes or the end of the stream within so many seconds; also of descriptors above 1023."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(1e3 * max(0.0, seconds)))


def above_stdio(fd: int) -> int:
    """A copy of a descriptor with another number than 0 to 2, which are other files in a new process.

    A program that was started with its stdin closed, say, gets these numbers for the files that it opens.
    """
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def pipe_above_stdio() -> tuple[int, int]:
    """A pipe whose ends have other numbers than 0 to 2."""
    ends = os.pipe()
    try:
        return above_stdio(ends[0]), above_stdio(ends[1])
    finally:
        for fd in ends:
            os.close(fd)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a socket; raises NoProcess where there are no descriptors for them."""
    try:
        return socket.socketpair()
    except OSError as error:
        raise NoProcess(f"there is no socket for a worker process: {error}") from error


def unnamed_file(content: bytes = b"") -> IO[bytes]:
    """A file without a name in the folder for temporary files; in memory where that is gone, full or read-only.

    A worker reads large content from it, and not from its socket, so that the parent never blocks and writes it only
    once. Raises NoProcess where there is no descriptor or memory for the file.
    """
    try:
        try:
            return _fill(tempfile.TemporaryFile(prefix="autotune-"), content)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE) or not hasattr(os, "memfd_create"):
                raise
        return _fill(open(os.memfd_create("autotune"), "w+b"), content)
    except OSError as error:
        raise NoProcess(f"no file can be made for a worker process: {error}") from error


def _fill(file: IO[bytes], content: bytes) -> IO[bytes]:
    try:
        file.write(content)
        file.flush()
    except BaseException:
        with suppress(OSError):  # closing tries to write the rest again
            file.close()
        raise
    return file


def scratch_folder() -> str:
    """A new folder for temporary files; raises NoProcess where no place has room for one."""
    reason = None
    for parent in (None, "/tmp", "/var/tmp", "/dev/shm", os.curdir):
        try:
            return os.path.abspath(tempfile.mkdtemp(prefix="autotune-", dir=parent))
        except OSError as error:
            reason = reason or error
    raise NoProcess(f"no folder for temporary files can be made: {reason}; set TMPDIR to a folder that has room")
