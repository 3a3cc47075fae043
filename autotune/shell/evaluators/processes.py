"""What the operating system knows of a process: is it dead, how did it end, its descendants, its memory."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

REAP_S = 5.0


class Process(Protocol):
    """A process that somebody must reap. Until then its number still names its group, and cannot be reused."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None:
        """How it ended (negative: by a signal), once it is reaped."""

    def has_exited(self) -> bool:
        """Whether it is dead, reaped or not."""

    def reap(self, timeout_s: float) -> int | None:
        """Wait for its end; the exit status, or None if it does not end in time."""


class Child:
    """A child of this process."""

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self._popen = popen

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, once it is reaped."""
        return self._popen.returncode

    def has_exited(self) -> bool:
        """Whether it is dead; it is not reaped by asking."""
        if self.returncode is not None:
            return True
        if not hasattr(os, "waitid"):
            return self._popen.poll() is not None
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def reap(self, timeout_s: float) -> int | None:
        """Wait for its end."""
        with suppress(subprocess.TimeoutExpired):
            return self._popen.wait(timeout_s)
        return None


def await_exit(process: Process, seconds: float) -> bool:
    """Wait at most so long for the end of a process that is ending."""
    until = time.monotonic() + seconds
    while not process.has_exited():
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


def kill_tree(process: Process) -> int | None:
    """Kill a group leader, its group and its other descendants; the exit status (negative: a signal), None if stuck."""
    if process.returncode is not None:
        return process.returncode
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGSTOP)  # so that nobody forks while we look
    strays = descendants(process.pid)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in strays:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return process.reap(REAP_S)


def descendants(pid: int) -> list[int]:
    """All living children of a process, and theirs; empty where the system does not tell (/proc/…/children)."""
    found = []
    for child in _children(pid):
        found += [child, *descendants(child)]
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                children += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return [child for child in children if state(child) not in ("Z", "X")]


def state(pid: int) -> str:
    """The letter that the system has for its state: Z and X are dead. X where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


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
