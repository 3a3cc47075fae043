"""A process that is forked before the GPU is touched, and itself forks those that time configs: there in milliseconds.

A new Python process takes some ten seconds to import torch and Helion, which is a good part of a short search. This
program has imported them already; but once it uses the GPU, what is forked from it cannot. So `prepare` forks a copy of
it earlier, which only waits. Where that was not done, came too late or goes wrong, processes are started the slow way.
"""

import gc
import os
import select
import signal
import socket
import struct
import threading
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import torch
from helion.autotuner import benchmark_worker
from helion.autotuner.benchmark_worker import BenchmarkWorker

PARENT_CHECK_S = 2.0
ANSWER_S = 20.0
NUMBER = struct.Struct("!q")

UNUSABLE = -1
"""The answer of a copy in which the GPU cannot be used, since this process had used it."""

SLOW = "the process that times configs is started anew, and imports what this one has imported"


class Forker:
    """The copy, as this process sees it."""

    def __init__(self) -> None:
        self._sock, theirs = socket.socketpair()
        self._lock = threading.Lock()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads that an imported library may have
            parent = os.getpid()
            self._pid = os.fork()
        if self._pid == 0:
            self._sock.close()
            _serve(theirs, parent)
        theirs.close()
        self._owner, self._ended = parent, False
        self._sock.settimeout(ANSWER_S)

    @property
    def usable(self) -> bool:
        """Whether this is the process that has forked it, and it lives."""
        return self._owner == os.getpid() and not self._ended

    def worker(self, warn: Callable[[str], Any] = str) -> Any | None:
        """A worker of Helion's that runs already; None where none can be had, and `warn` is told why."""
        with self._lock:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                try:
                    socket.send_fds(self._sock, [b"."], [theirs.fileno()])
                    number = NUMBER.unpack(self._sock.recv(NUMBER.size, socket.MSG_WAITALL))[0]
                except (OSError, struct.error) as error:  # gone, or so late that its answers would be taken for others
                    self.close()
                    warn(f"The copy that prepare() forked does not answer ({type(error).__name__}); {SLOW}.")
                    return None
                if number == UNUSABLE:
                    warn(f"The GPU's driver was in use before prepare() was called; call it earlier. Now {SLOW}.")
                    return None
                made = BenchmarkWorker(device=None)
                made._process, made._parent_connection = Adopted(number), Connection(ours.detach())
                return made

    def close(self) -> None:
        """End it, and the workers that it has forked."""
        self._sock.close()
        if not self._ended:
            self._ended = True
            with suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)


class Adopted:
    """A process that is no child of ours, as far as Helion asks of one."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.sentinel = os.pidfd_open(pid)

    @property
    def pid(self) -> int | None:
        """Its number while it lives: later that may be another's."""
        return self._pid if self.is_alive() else None

    def is_alive(self) -> bool:
        return not select.select([self.sentinel], [], [], 0.0)[0]

    def join(self, timeout: float | None = None) -> None:
        select.select([self.sentinel], [], [], timeout)

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.sentinel, number)

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self.sentinel)


_forker: Forker | None = None


def prepare() -> bool:
    """Fork the copy, once; call it after the imports, before this program uses the GPU. Whether it is there.

    It holds no memory of its own to speak of and ends with this program. It needs Linux.
    """
    global _forker
    if _forker is not None and _forker.usable:
        return True
    if not hasattr(os, "pidfd_open") or torch.cuda.is_initialized():
        return False
    _forker = Forker()
    return True


def started_worker(warn: Callable[[str], Any] = str) -> Any | None:
    """A worker of Helion's that runs already; None where `prepare` was not called in time."""
    return _forker.worker(warn) if _forker is not None and _forker.usable else None


def _serve(sock: socket.socket, parent: int) -> NoReturn:
    """What the copy does: forks workers, in one thread, until whoever asks for them is gone."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
        gc.collect()
        gc.freeze()  # so that collections in the workers do not touch, and copy, what they all share
        while os.getppid() == parent:
            if not select.select([sock], [], [], PARENT_CHECK_S)[0]:
                continue
            asked, fds, _, _ = socket.recv_fds(sock, 1, 1)
            if not asked:
                break
            sock.sendall(NUMBER.pack(_fork(sock, fds[0])))
            os.close(fds[0])
    finally:
        os._exit(0)


def _fork(sock: socket.socket, fd: int) -> int:
    if torch.cuda._is_in_bad_fork():
        return UNUSABLE
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sock.close()
        torch.set_num_threads(1)  # the threads of a pool have not come along
        benchmark_worker._worker_loop(Connection(fd), None)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)
