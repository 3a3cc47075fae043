"""A process that imports torch and Helion while the program itself does, so that it is ready when a search needs it.

A new Python process takes some ten seconds to import them, a good part of a short search. A fork would have them
already, but importing Helion initialises CUDA, and a fork cannot use the GPU after that. This file imports nothing that
takes long, so that a program can begin with `prepare()`.
"""

import atexit
import ctypes
import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from socket import socketpair
from typing import Any

from autotune.shell.processes import os_process

_CODE = (
    "import sys; sys.path[:] = {path!r};"
    " from autotune.shell.processes.supervisor import fork_supervised; fork_supervised({parent}, {fd}, {note});"
    " from autotune.backends.helion.prestart import serve_jobs; serve_jobs({fd})"
)
"""The program of the process: behind a supervisor, which leaves none of its processes behind however this one ends."""

SLOW = "the process that times configs is started now, and imports the same modules again"


class PrestartedProcess:
    """A process and our end of the socket of its jobs, with the methods of a process that Helion uses."""

    def __init__(self) -> None:
        self.devices = visible_devices()
        ours, theirs = socketpair()
        note, told = os.pipe()
        with theirs:
            code = _CODE.format(path=sys.path, fd=theirs.fileno(), parent=os.getpid(), note=told)
            try:
                self._popen = subprocess.Popen(
                    [sys.executable, "-c", code], pass_fds=[theirs.fileno(), told], stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )  # fmt: skip
            except OSError:
                ours.close()
                os.close(note)
                raise
            finally:
                os.close(told)
        self._supervised = os_process.SupervisedProcess(self._popen, note)
        self.connection = Connection(ours.detach())

    @property
    def pid(self) -> int | None:
        """The number of the process while it lives; later another one may have it."""
        return self._supervised.pid if self.is_alive() else None

    def is_alive(self) -> bool:
        return self._popen.poll() is None

    def join(self, timeout: float | None = None) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout)

    def terminate(self) -> None:
        self._popen.terminate()  # the supervisor, which kills the process and its children

    kill = terminate

    def close(self) -> None:
        self._supervised.kill()
        self.connection.close()


class PrestartReserve:
    """Keeps one process ready; when it is taken, a thread starts the next one."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._changed = threading.Condition()
        self._waiting: PrestartedProcess | None = None
        self._error: OSError | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._keep, name="helion-prepare", daemon=True)
        self._thread.start()

    def take(self, warn: Callable[[str], Any] = str) -> PrestartedProcess | None:
        """The process that waits, even if it is still importing; None, after a call of `warn`, if there is none."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._error is not None or self._closed)
            found, self._waiting = self._waiting, None
            self._changed.notify_all()
        if found is None:
            warn(f"prepare() cannot start a process ({self._error}); {SLOW}.")
            return None
        if not found.is_alive():
            reason = f"The process that prepare() started has ended with status {found._popen.returncode}"
        elif found.devices != visible_devices():
            reason = "Which devices are visible was changed after prepare(); call it later"
        else:
            return found
        found.close()
        warn(f"{reason}; {SLOW}.")
        return None

    def close(self) -> None:
        """End the waiting process, and start no more."""
        if self.owner != os.getpid():
            return
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None

    def _keep(self) -> None:
        with self._changed:
            while not self._closed and self._error is None:
                if self._waiting is None:
                    try:
                        self._waiting = PrestartedProcess()
                    except OSError as error:
                        self._error = error
                    self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting is None or self._closed)


_reserve: PrestartReserve | None = None


def prepare() -> bool:
    """Start a process that imports torch and Helion beside this one; best before this one imports them.

    A search takes it to time configs; the next one is started then, for the next search or for after a kernel that
    hangs. They all end with this program. Returns whether it could be started: it needs Linux.
    """
    global _reserve
    if sys.platform != "linux" or not sys.executable:
        return False
    if _reserve is None or _reserve.owner != os.getpid():
        _reserve = PrestartReserve()
        atexit.register(_reserve.close)
    return True


def take_worker(warn: Callable[[str], Any] = str) -> Any | None:
    """A worker of Helion's with a prestarted process; None if `prepare` was not called or the process is of no use."""
    started = _reserve.take(warn) if _reserve is not None and _reserve.owner == os.getpid() else None
    if started is None:
        return None
    from helion.autotuner.benchmark_worker import BenchmarkWorker

    made = BenchmarkWorker(device=None)
    made._process, made._parent_connection = started, started.connection
    return made


def visible_devices() -> dict[str, str]:
    """The environment variables that choose the devices of a process; they cannot be changed in a running one."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.endswith("VISIBLE_DEVICES") or name == "CUDA_DEVICE_ORDER"
    }


_PR_SET_PDEATHSIG = 1
"""See prctl(2)."""

_MODULES = ("torch._inductor.runtime.triton_helpers", "autotune.backends.helion.gpu_jobs")
"""Imported by the code of every config, and by every job."""


def serve_jobs(fd: int) -> None:
    """Run the jobs from the socket `fd`, as Helion's benchmark process does, until the other end is closed."""
    from helion.autotuner.benchmark_worker import _worker_loop

    for name in _MODULES:
        with suppress(ImportError):  # without Triton, the first config that needs it says so
            importlib.import_module(name)
    _worker_loop(Connection(fd), None)


def die_with_parent(parent: int) -> bool:
    """Let this process be killed when `parent`, which has started it, ends. Returns False if it has ended already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent
