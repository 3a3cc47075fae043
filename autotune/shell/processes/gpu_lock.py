"""Turns: of all processes on this machine, whoever's they are, one has it at a time.

It is held by a name in the kernel's own space of socket names, and by a lock on a file in /tmp. The name is the same
for all users and needs no permission; the file is the same for containers that share /tmp and not their network. Both
are let go by the system when the process ends, however it ends.
"""

import errno
import fcntl
import os
import re
import socket
import stat
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

PATIENCE_S = 600.0
"""How long to wait for a process that has the turn, unless somebody says otherwise; then we go on beside it."""
STOPPED_S = 2.0
"""How long a process that has the turn may be stopped (by SIGSTOP, or a debugger) before we go on without it."""
LOOK_S = 0.5
"""How often to look whether it is."""

SHARED = Path("/tmp")
"""Everybody's, whatever their TMPDIR."""

_said: set[str] = set()


class GpuLock:
    """The right to do something that only one process at a time should do, such as timing on one GPU.

    name: of what, the same in all processes. patience_s: how long to wait for others, in seconds.
    """

    def __init__(self, name: str, patience_s: float = PATIENCE_S) -> None:
        safe = re.sub(r"\W", "_", name)
        self._what, self._patience_s = safe, patience_s
        folder = SHARED if os.path.isdir(SHARED) else Path(tempfile.gettempdir())
        self._path = folder / f"autotune-gpu-{safe}.lock"
        self._held: list[int] = []
        self._beside = False
        self._refused_at: float | None = None
        self._looked_at = 0.0
        self._stopped_at: float | None = None
        _turns.add(self)

    def acquire(self) -> bool:
        """Whether we have it now, or have waited long enough; this call itself waits for nothing.

        Where no lock can be had at all, nobody is kept waiting, and a warning says so.
        """
        if self._held:
            return True
        found = (_name_taken(self._what), _file_locked(self._path))
        if None in found:
            _close(found)
            return self._overdue()
        self._held = [one for one in found if one is not None and one >= 0]
        self._beside, self._refused_at, self._stopped_at = False, None, None
        if not self._held:
            _say(f"nothing keeps other processes of this machine from taking {self._what} at the same time, as"
                 f" {self._path} cannot be locked; times may be disturbed")  # fmt: skip
        return True

    def release(self) -> None:
        """Let others have it."""
        held, self._held = self._held, []
        for descriptor in held:
            with suppress(OSError):  # children that were forked meanwhile may still hold it open
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        _close(held)

    def _overdue(self) -> bool:
        """Whether another one has had it for so long that we go on beside it."""
        now = time.monotonic()
        if self._beside or now - self._looked_at < LOOK_S:
            return self._beside
        self._looked_at = now
        self._refused_at = now if self._refused_at is None else self._refused_at
        holder = _holder(self._path)
        if holder is None or not _is_stopped(holder):
            self._stopped_at = None
        elif self._stopped_at is None:
            self._stopped_at = now
        if self._stopped_at is not None and now - self._stopped_at >= STOPPED_S:
            who = f"process {holder}, which is stopped"
        elif now - self._refused_at >= self._patience_s:
            who = "another process" if holder is None else f"process {holder}"
            who += f" for {now - self._refused_at:.0f} s"
        else:
            return False
        self._beside = True
        _say(f"{self._what} is taken by {who}; this process goes on without waiting for it")
        return True

    def forget(self) -> None:
        """What a forked child does: the turn is its parent's, and must not outlast it."""
        _close(self._held)
        self._held = []


_turns: "WeakSet[GpuLock]" = WeakSet()


def _forked() -> None:
    for turn in _turns:
        turn.forget()


os.register_at_fork(after_in_child=_forked)


def _name_taken(what: str) -> int | None:
    """A descriptor that holds the name; None where another has it; -1 where there are no such names."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
            made.bind(f"\0autotune-turn-{what}")
            return made.detach()
    except OSError as error:
        return None if error.errno == errno.EADDRINUSE else -1
    except AttributeError:  # there are no such sockets
        return -1


def _file_locked(path: Path) -> int | None:
    """A descriptor that holds the lock; None where another has it; -1 where it cannot be had.

    Reading is enough for that, so that the file of another user will do.
    """
    descriptor = _opened(path)
    if descriptor < 0:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        return None if isinstance(error, BlockingIOError) else -1
    return descriptor


def _opened(path: Path) -> int:
    how = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    for _ in range(2):
        try:
            descriptor = os.open(path, os.O_RDONLY | how)
        except FileNotFoundError:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | how, 0o666)
            except FileExistsError:
                continue
            except OSError:
                return -1
            with suppress(OSError):  # whatever the umask: others must be able to open it
                os.fchmod(descriptor, 0o666)
        except OSError:
            return -1
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return -1
    return -1


def _holder(path: Path) -> int | None:
    """The process that has locked a file, where Linux tells."""
    with suppress(OSError, ValueError, IndexError):
        inode = os.stat(path).st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            parts = line.split()
            if "->" not in parts and parts[1] == "FLOCK" and parts[5].rpartition(":")[2] == str(inode):
                return int(parts[4]) if int(parts[4]) > 0 else None
    return None


def _is_stopped(process: int) -> bool:
    with suppress(OSError, IndexError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    return False


def _close(descriptors: "list[int] | tuple[int | None, ...]") -> None:
    for descriptor in descriptors:
        if descriptor is not None and descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)


def _say(text: str) -> None:
    """A warning, once in a process."""
    if text not in _said:
        _said.add(text)
        warnings.warn(text, stacklevel=2)
