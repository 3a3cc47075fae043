"""Processes as the program sees them: a worker behind its guardian, whether it is dead, how it ended, its memory."""

import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from autotune.shell.evaluators import guardian

REAP_S = 5.0
BIRTH_S = 30.0
"""How long a guardian may take to say its worker's number: it is a bare Python process, on a machine that is busy."""


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


class Guarded:
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
            guardian.signal_each(guardian.descendants(self._guardian.pid), signal.SIGKILL)
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
    guardian.signal_each(guardian.descendants(pid), number)


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


def ending(status: int | None) -> str:
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
