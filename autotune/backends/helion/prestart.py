"""A process that imports torch and Helion while the program itself does: there when a search wants to time configs.

A new Python process takes some ten seconds to import them, which is a good part of a short search. A fork would have
them already; but where torch is built for CUDA, to import Helion asks for the devices, and what is forked afterwards
cannot use the GPU. Nothing is imported here that takes long, so that a program can begin with `prepare()`.

What a process does that `prepare` has started: import what timing configs needs, then wait for jobs.
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

CODE = (
    "import sys; sys.path[:] = {path!r};"
    " from autotune.shell.processes.supervisor import fork_supervised; fork_supervised({parent}, {fd}, {note});"
    " from autotune.backends.helion.prestart import serve; serve({fd})"
)
"""It is the process of a guardian, which leaves nothing of its behind however this program ends."""

SLOW = "the process that times configs is started now, and imports what this one has imported"


class PrestartedProcess:
    """A process and our end of the socket that it gets its jobs from, as far as Helion asks of a process."""

    def __init__(self) -> None:
        self.devices = visible_devices()
        ours, theirs = socketpair()
        note, told = os.pipe()
        with theirs:
            code = CODE.format(path=sys.path, fd=theirs.fileno(), parent=os.getpid(), note=told)
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
        self._guarded = os_process.SupervisedProcess(self._popen, note)
        self.connection = Connection(ours.detach())

    @property
    def pid(self) -> int | None:
        """Its number while it lives: later that may be another's."""
        return self._guarded.pid if self.is_alive() else None

    def is_alive(self) -> bool:
        return self._popen.poll() is None

    def join(self, timeout: float | None = None) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout)

    def terminate(self) -> None:
        self._popen.terminate()

    def kill(self) -> None:
        self._popen.terminate()  # the guardian, which kills the process and what that has started

    def close(self) -> None:
        """End it."""
        self._guarded.kill()
        self.connection.close()


class PrestartReserve:
    """One process waits; when it is taken the next one is started, by a thread of its own: nobody waits for that."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._changed = threading.Condition()
        self._waiting: PrestartedProcess | None = None
        self._error: OSError | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._keep, name="helion-prepare", daemon=True)
        self._thread.start()

    def take(self, warn: Callable[[str], Any] = str) -> PrestartedProcess | None:
        """The process that waits, ready or not yet; None where none can be had, and `warn` is told why."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._error is not None or self._closed)
            found, self._waiting = self._waiting, None
            self._changed.notify_all()
        if found is None:
            warn(f"prepare() cannot start a process ({self._error}); {SLOW}.")
            return None
        reason = None
        if not found.is_alive():
            reason = f"The process that prepare() started has ended with status {found._popen.returncode}"
        elif found.devices != visible_devices():
            reason = "Which devices are visible was changed after prepare(); call it later"
        if reason is None:
            return found
        found.close()
        warn(f"{reason}; {SLOW}.")
        return None

    def close(self) -> None:
        """End the process that waits, and start no more."""
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

    Searches take it to time configs, and the next one is started then, which is for the next search or for when a
    kernel hangs. Whether that can be done: it needs Linux. All of it ends with this program.
    """
    global _reserve
    if sys.platform != "linux" or not sys.executable:
        return False
    if _reserve is None or _reserve.owner != os.getpid():
        _reserve = PrestartReserve()
        atexit.register(_reserve.close)
    return True


def take_worker(warn: Callable[[str], Any] = str) -> Any | None:
    """A worker of Helion's whose process was started before; None where `prepare` was not called."""
    started = _reserve.take(warn) if _reserve is not None and _reserve.owner == os.getpid() else None
    if started is None:
        return None
    from helion.autotuner.benchmark_worker import BenchmarkWorker

    made = BenchmarkWorker(device=None)
    made._process, made._parent_connection = started, started.connection
    return made


def visible_devices() -> dict[str, str]:
    """What the environment says of the devices that a process sees: it is too late to change that in one that runs."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.endswith("VISIBLE_DEVICES") or name == "CUDA_DEVICE_ORDER"
    }


PR_SET_PDEATHSIG = 1
MODULES = ("torch._inductor.runtime.triton_helpers", "autotune.backends.helion.gpu_jobs")
"""What the code of every config imports, and what jobs are made of."""


def serve_jobs(fd: int) -> None:
    """Run what comes over the socket `fd`, as Helion's benchmark process does, until its other end is closed."""
    from helion.autotuner.benchmark_worker import _worker_loop

    for name in MODULES:
        with suppress(ImportError):  # without Triton, a config says so that needs it
            importlib.import_module(name)
    _worker_loop(Connection(fd), None)


def die_with_parent(parent: int) -> bool:
    """Let this process be killed when `parent`, which has started it, ends; False where it has ended already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent
