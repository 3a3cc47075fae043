"""The nursery process: loads the workload, then forks a worker at each request. See `nursery`."""

import gc
import os
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

import msgspec

from autotune.shell.evaluators import processes, wire
from autotune.shell.evaluators.bench import describe
from autotune.shell.evaluators.triton.nursery import Born, Buried, Bury, Fork, Loaded
from autotune.shell.evaluators.worker_main import die_with_parent, end_group

_requests: msgspec.msgpack.Decoder[Fork | Bury] = msgspec.msgpack.Decoder(Fork | Bury)


def main(settings: dict[str, Any]) -> NoReturn:
    """Entry point. settings["main"] names a module with `load(payload_fd)` and a function to run in each worker."""
    for fd in (settings["socket"], settings["payload"]):
        os.set_inheritable(fd, False)
    sock = socket.socket(fileno=settings["socket"])
    module_name, _, function = settings["main"].partition(":")
    try:
        module = import_module(module_name)
        loaded = module.load(settings["payload"])
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        sock.sendall(wire.encode(wire.Broken(describe(error))))
        os._exit(1)
    gc.collect()
    gc.freeze()  # so that collections in the workers do not touch, and copy, what they all share
    sock.sendall(wire.encode(Loaded(loaded.note)))
    Keeper(sock, lambda worker, own: getattr(module, function)(loaded, worker, own)).serve()


class Keeper:
    """Forks and buries as it is told, in one thread, so that a fork never finds a lock held."""

    def __init__(self, sock: socket.socket, run: Callable[[socket.socket, dict[str, Any]], NoReturn]) -> None:
        self._sock = sock
        self._run = run
        self._living: set[int] = set()
        self._buffer = bytearray()

    def serve(self) -> NoReturn:
        """Until the parent is gone; then the workers go as well."""
        while True:
            message, fds = self._receive()
            match message:
                case None:
                    self._end()
                case Fork(settings):
                    pid = self._fork(settings, *fds)
                    for fd in fds:
                        os.close(fd)
                    self._sock.sendall(wire.encode(Born(pid)))
                case Bury(pid, timeout_s):
                    self._sock.sendall(wire.encode(Buried(self._bury(pid, timeout_s))))

    def _receive(self) -> tuple[Fork | Bury | None, list[int]]:
        fds: list[int] = []
        while not (bodies := wire.split(self._buffer)):
            part, more, _, _ = socket.recv_fds(self._sock, 1 << 16, 2)
            fds += more
            if not part:
                return None, fds
            self._buffer += part
        return _requests.decode(bodies[0]), fds

    def _fork(self, settings: str, sock: int, stderr: int) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads that an imported library may have
            pid = os.fork()
        if pid:
            self._living.add(pid)
            return pid
        try:
            os.setsid()
            os.dup2(stderr, 2)
            os.close(stderr)
            self._sock.close()
            worker = socket.socket(fileno=sock)
            os.set_inheritable(sock, False)
            die_with_parent(worker, os.getppid(), tied_to_thread=True)
            self._run(worker, msgspec.json.decode(settings))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(1)

    def _bury(self, pid: int, timeout_s: float) -> int | None:
        until = time.monotonic() + timeout_s
        while pid in self._living:
            with suppress(ChildProcessError):
                dead, status = os.waitpid(pid, os.WNOHANG)
                if dead:
                    self._living.discard(pid)
                    return os.waitstatus_to_exitcode(status)
                if time.monotonic() < until:
                    time.sleep(0.001)
                    continue
            break
        return None

    def _end(self) -> NoReturn:
        for pid in self._living:
            for stray in (*processes.descendants(pid), pid):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(stray, signal.SIGKILL)
        end_group()
