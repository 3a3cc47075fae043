"""A lock that one process of this machine holds at a time, whichever user owns it: to time on one GPU, for example.

It is held by a name in the kernel's abstract space of socket names, and by a lock on a file in /tmp. The name is the
same for all users and needs no permission; the file is the same for containers that share /tmp but not their network.
The system releases both when the process ends, however it ends.
"""

import errno
import fcntl
import os
import re
import socket
import stat
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

from autotune.shell.warn import warn_user

PATIENCE_S = 600.0
"""Seconds to wait for another process that holds the lock, by default; then we go on beside it."""
_STOPPED_S = 2.0
"""Seconds that a holder may be stopped (by SIGSTOP, or a debugger) before we go on without it."""
_POLL_S = 0.5
"""How often to look whether the holder is stopped."""

SHARED = Path("/tmp")
"""The folder that all users share, also with different TMPDIRs."""

_warned: set[str] = set()


class GpuLock:
    """The right to do something that only one process at a time should do.

    name: the thing that is locked, the same in all processes. patience_s: seconds to wait for other processes.
    """

    def __init__(self, name: str, patience_s: float = PATIENCE_S) -> None:
        self._name, self._patience_s = re.sub(r"\W", "_", name), patience_s
        folder = SHARED if os.path.isdir(SHARED) else Path(tempfile.gettempdir())
        self._path = folder / f"autotune-gpu-{self._name}.lock"
        self._held: list[int] = []
        self._beside = False
        self._refused_at: float | None = None
        self._looked_at = 0.0
        self._stopped_at: float | None = None
        _locks.add(self)

    def acquire(self) -> bool:
        """Whether we hold the lock now, or have waited long enough. Never blocks: call it again until it is True.

        Where no lock can be held at all, nobody has to wait, and a warning says so.
        """
        if self._held:
            return True
        found = (_take_name(self._name), _lock_file(self._path))
        if None in found:
            _close(found)
            return self._is_overdue()
        self._held = [one for one in found if one is not None and one >= 0]
        self._beside, self._refused_at, self._stopped_at = False, None, None
        if not self._held:
            _warn_once(
                f"nothing keeps other processes of this machine from taking {self._name} at the same time, as"
                f" {self._path} cannot be locked; times may be disturbed"
            )
        return True

    def release(self) -> None:
        """Let other processes have the lock."""
        held, self._held = self._held, []
        for descriptor in held:
            with suppress(OSError):  # children that were forked meanwhile may still hold it open
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        _close(held)

    def forget(self) -> None:
        """Close our descriptors of the lock without releasing it: in a forked child it belongs to the parent."""
        _close(self._held)
        self._held = []

    def _is_overdue(self) -> bool:
        """Whether another process has held the lock for so long that we go on beside it."""
        now = time.monotonic()
        if self._beside or now - self._looked_at < _POLL_S:
            return self._beside
        self._looked_at = now
        self._refused_at = now if self._refused_at is None else self._refused_at
        holder = _find_holder(self._path)
        if holder is None or not _is_stopped(holder):
            self._stopped_at = None
        elif self._stopped_at is None:
            self._stopped_at = now
        if self._stopped_at is not None and now - self._stopped_at >= _STOPPED_S:
            owner = f"process {holder}, which is stopped"
        elif now - self._refused_at >= self._patience_s:
            owner = "another process" if holder is None else f"process {holder}"
            owner += f" for {now - self._refused_at:.0f} s"
        else:
            return False
        self._beside = True
        _warn_once(f"{self._name} is taken by {owner}; this process goes on without waiting for it")
        return True


_locks: "WeakSet[GpuLock]" = WeakSet()


def _after_fork() -> None:
    for lock in _locks:
        lock.forget()


os.register_at_fork(after_in_child=_after_fork)


def _take_name(name: str) -> int | None:
    """A descriptor that holds the socket name; None where another process has it; -1 where there are no such names."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
            made.bind(f"\0autotune-turn-{name}")
            return made.detach()
    except OSError as error:
        return None if error.errno == errno.EADDRINUSE else -1
    except AttributeError:  # a system without Unix sockets
        return -1


def _lock_file(path: Path) -> int | None:
    """A descriptor that holds the file's lock; None where another process has it; -1 where it cannot be held.

    A lock needs no more than reading, so that a file of another user will do.
    """
    descriptor = _open(path)
    if descriptor < 0:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        return None if isinstance(error, BlockingIOError) else -1
    return descriptor


def _open(path: Path) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    for _ in range(2):
        try:
            descriptor = os.open(path, os.O_RDONLY | flags)
        except FileNotFoundError:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | flags, 0o666)
            except FileExistsError:
                continue
            except OSError:
                return -1
            with suppress(OSError):  # with any umask others must be able to open it
                os.fchmod(descriptor, 0o666)
        except OSError:
            return -1
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return -1
    return -1


def _find_holder(path: Path) -> int | None:
    """The process that has locked a file, where Linux tells (/proc/locks)."""
    with suppress(OSError, ValueError, IndexError):
        inode = os.stat(path).st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            parts = line.split()
            if "->" not in parts and parts[1] == "FLOCK" and parts[5].rpartition(":")[2] == str(inode):
                return int(parts[4]) if int(parts[4]) > 0 else None
    return None


def _is_stopped(pid: int) -> bool:
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    return False


def _close(descriptors: Sequence[int | None]) -> None:
    for descriptor in descriptors:
        if descriptor is not None and descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        warn_user(text)
