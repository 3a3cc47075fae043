"""What the operating system knows of a process: is it dead, how did it end, its descendants, its memory."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

REAP_S = 5.0


def has_exited(process: "subprocess.Popen[bytes]") -> bool:
    """Whether it is dead. It is not reaped yet, so that its number still names its group and cannot be reused."""
    if process.returncode is not None:
        return True
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def await_exit(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Wait at most so long for the end of a process that is ending."""
    until = time.monotonic() + seconds
    while not has_exited(process):
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


def kill_tree(process: "subprocess.Popen[bytes]") -> int | None:
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
    with suppress(subprocess.TimeoutExpired):
        return process.wait(REAP_S)
    return None


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
    return [child for child in children if _state(child) not in ("Z", "X")]


def _state(pid: int) -> str:
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
