"""The process of a fork server: it loads the workload, then forks a worker at each request. See `fork_server`."""

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
from functools import partial
from importlib import import_module
from typing import Any, NoReturn, Protocol, TypeVar

import msgspec
from msgspec import Struct

from autotune.core.formatting import describe_error
from autotune.shell.processes import messages, supervisor

_ORPHANS_S = 5.0
"""Seconds that killed orphans may take to end, before they are left to the supervisor."""
_REAP_POLL_S, _ORPHAN_POLL_S = 0.001, 0.0005

L = TypeVar("L", bound="ServerState")
"""The state of a server."""


class ServerState(Protocol):
    """What a fork server has loaded. note: why the parent must tell workers their arguments, or empty."""

    note: str


class Fork(Struct, frozen=True, tag="fork"):
    """Request: fork a worker; its socket and its stderr come along. settings: JSON for the worker's main function."""

    settings: str


class Reap(Struct, frozen=True, tag="reap"):
    """Request: reap this worker, which is dead or dying."""

    pid: int
    timeout_s: float


class Loaded(Struct, frozen=True, tag="loaded"):
    """Answer: the fork server can fork. note: why the parent must tell workers their arguments."""

    note: str = ""


class Forked(Struct, frozen=True, tag="forked"):
    """Answer: the number of the new worker."""

    pid: int


class NotForked(Struct, frozen=True, tag="not_forked"):
    """Answer: the system has given no process, and why."""

    message: str


class Reaped(Struct, frozen=True, tag="reaped"):
    """Answer: the worker's exit status; None if it did not end in time."""

    status: int | None


_requests: msgspec.msgpack.Decoder[Fork | Reap] = msgspec.msgpack.Decoder(Fork | Reap)


def main(settings: dict[str, Any]) -> NoReturn:
    """Entry point. settings["main"] names a module with `load(payload_fd)`, and the function that each worker runs."""
    for fd in (settings["socket"], settings["payload"]):
        os.set_inheritable(fd, False)
    module_name, _, function = settings["main"].partition(":")

    def load() -> ServerState:
        loaded: ServerState = import_module(module_name).load(settings["payload"])
        return loaded

    def run(loaded: ServerState, sock: socket.socket, own: dict[str, Any]) -> NoReturn:
        getattr(import_module(module_name), function)(loaded, sock, own)
        raise AssertionError("a worker's main function does not return")

    serve(socket.socket(fileno=settings["socket"]), load, run)


def serve(
    sock: socket.socket, load: Callable[[], L], run: Callable[[L, socket.socket, dict[str, Any]], NoReturn]
) -> NoReturn:
    """Load the workload, then fork a worker, which runs `run`, at each request of the parent."""
    try:
        loaded = load()
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        sock.sendall(messages.encode(messages.Broken(describe_error(error))))
        os._exit(1)
    supervisor.become_subreaper()
    gc.collect()
    gc.freeze()  # so that collections in the workers do not touch, and copy, the memory that they all share
    sock.sendall(messages.encode(Loaded(loaded.note)))
    _ForkLoop(sock, partial(run, loaded)).serve()


class _ForkLoop:
    """Forks and reaps at request, in one thread, so that a fork never finds a lock held."""

    def __init__(self, sock: socket.socket, run: Callable[[socket.socket, dict[str, Any]], NoReturn]) -> None:
        self._sock = sock
        self._run = run
        self._workers: set[int] = set()
        self._own = frozenset(supervisor.children(os.getpid()))  # started by the user's modules
        self._buffer = bytearray()

    def serve(self) -> NoReturn:
        """Answer requests until the parent is gone; then the workers end as well."""
        while True:
            request, fds = self._receive()
            match request:
                case None:
                    supervisor.kill_own_group()  # the supervisor ends the workers
                case Fork(settings):
                    answer = self._fork(settings, *fds)
                    for fd in fds:
                        os.close(fd)
                    self._sock.sendall(messages.encode(answer))
                case Reap(pid, timeout_s):
                    self._sock.sendall(messages.encode(Reaped(self._reap(pid, timeout_s))))

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
        server = os.getpid()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of threads that an imported library may have
                pid = os.fork()
        except OSError as error:
            return NotForked(str(error))
        if pid:
            self._workers.add(pid)
            return Forked(pid)
        try:
            os.setsid()
            supervisor.become_subreaper()
            supervisor.end_with_parent(server)
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

    def _reap(self, pid: int, timeout_s: float) -> int | None:
        until = time.monotonic() + timeout_s
        while pid in self._workers:
            with suppress(ChildProcessError):
                dead, status = os.waitpid(pid, os.WNOHANG)
                if dead:
                    self._workers.discard(pid)
                    self._end_orphans()
                    return os.waitstatus_to_exitcode(status)
                if time.monotonic() < until:
                    time.sleep(_REAP_POLL_S)
                    continue
            break
        return None

    def _end_orphans(self) -> None:
        """End the processes that dead workers had started: this process is their parent now."""
        until = time.monotonic() + _ORPHANS_S
        while time.monotonic() < until:
            orphans = [pid for pid in supervisor.children(os.getpid()) if pid not in self._workers | self._own]
            for pid in orphans:
                supervisor.signal_each([pid, *supervisor.descendants(pid)], signal.SIGKILL)
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            if not orphans:
                return
            time.sleep(_ORPHAN_POLL_S)
