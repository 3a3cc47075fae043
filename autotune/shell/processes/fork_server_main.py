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

from autotune.shell.formatting import describe_error
from autotune.shell.processes import messages, supervisor
from autotune.shell.processes.fork_server import Fork, Forked, Loaded, NotForked, Reap, Reaped
from autotune.shell.processes.supervisor import kill_own_group

ORPHANS_S = 5.0
"""How long what is killed may take to end, before it is left to the guardian."""

_requests: msgspec.msgpack.Decoder[Fork | Reap] = msgspec.msgpack.Decoder(Fork | Reap)


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
        sock.sendall(messages.encode(messages.Broken(describe_error(error))))
        os._exit(1)
    supervisor.become_subreaper()
    gc.collect()
    gc.freeze()  # so that collections in the workers do not touch, and copy, what they all share
    sock.sendall(messages.encode(Loaded(loaded.note)))
    ForkLoop(sock, lambda worker, own: getattr(module, function)(loaded, worker, own)).serve()


class ForkLoop:
    """Forks and buries as it is told, in one thread, so that a fork never finds a lock held."""

    def __init__(self, sock: socket.socket, run: Callable[[socket.socket, dict[str, Any]], NoReturn]) -> None:
        self._sock = sock
        self._run = run
        self._living: set[int] = set()
        self._own = frozenset(supervisor.children(os.getpid()))  # what the user's modules have started
        self._buffer = bytearray()

    def serve(self) -> NoReturn:
        """Until the parent is gone; then the workers go as well."""
        while True:
            message, fds = self._receive()
            match message:
                case None:
                    kill_own_group()  # the guardian sees to the workers
                case Fork(settings):
                    answer = self._fork(settings, *fds)
                    for fd in fds:
                        os.close(fd)
                    self._sock.sendall(messages.encode(answer))
                case Reap(pid, timeout_s):
                    self._sock.sendall(messages.encode(Reaped(self._bury(pid, timeout_s))))

    def _receive(self) -> tuple[Fork | Reap | None, list[int]]:
        fds: list[int] = []
        while not (bodies := messages.split(self._buffer)):
            part, more, _, _ = socket.recv_fds(self._sock, 1 << 16, 2)
            fds += more
            if not part:
                return None, fds
            self._buffer += part
        return _requests.decode(bodies[0]), fds

    def _fork(self, settings: str, sock: int, stderr: int) -> Forked | NotForked:
        nursery = os.getpid()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of threads that an imported library may have
                pid = os.fork()
        except OSError as error:
            return NotForked(str(error))
        if pid:
            self._living.add(pid)
            return Forked(pid)
        try:
            os.setsid()
            supervisor.become_subreaper()
            supervisor.end_with_parent(nursery)
            os.dup2(stderr, 2)
            if stderr != 2:
                os.close(stderr)
            self._sock.close()
            worker = socket.socket(fileno=sock)
            os.set_inheritable(sock, False)
            self._run(worker, msgspec.json.decode(settings))
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stderr.flush()
            finally:
                os._exit(1)

    def _bury(self, pid: int, timeout_s: float) -> int | None:
        until = time.monotonic() + timeout_s
        while pid in self._living:
            with suppress(ChildProcessError):
                dead, status = os.waitpid(pid, os.WNOHANG)
                if dead:
                    self._living.discard(pid)
                    self._end_orphans()
                    return os.waitstatus_to_exitcode(status)
                if time.monotonic() < until:
                    time.sleep(0.001)
                    continue
            break
        return None

    def _end_orphans(self) -> None:
        """End what workers that are dead had started: it is ours now, and no worker's."""
        until = time.monotonic() + ORPHANS_S
        while time.monotonic() < until:
            orphans = [pid for pid in supervisor.children(os.getpid()) if pid not in self._living | self._own]
            for pid in orphans:
                supervisor.signal_each([pid, *supervisor.descendants(pid)], signal.SIGKILL)
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            if not orphans:
                return
            time.sleep(0.0005)
