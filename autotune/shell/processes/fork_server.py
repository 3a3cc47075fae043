"""A fork server: workers are forked from a process that has loaded everything already, so a new one takes milliseconds.

A Python process with torch and Triton in it takes seconds to start, which is too long where each compile that hangs
costs a worker. So one process, the fork server, imports them and the user's functions once, touches no GPU, and forks a
worker at each request. It keeps dead workers as zombies until it is told to reap them, so that their numbers stay
theirs. `fork_server_main` is the code of that process, and has their messages; this file is the parent's side.
"""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Any, NoReturn

import msgspec

from autotune.core.errors import EvaluatorError
from autotune.shell.processes import messages, os_process, supervisor
from autotune.shell.processes.fork_server_main import Fork, Forked, L, Loaded, NotForked, Reap, Reaped, serve
from autotune.shell.processes.os_process import NoProcess, StartProcess
from autotune.shell.processes.pool import read_tail

LOAD_TIMEOUT_S = 180.0
"""Seconds that the fork server may take to import its modules and the user's: ten times what torch takes here."""
ANSWER_TIMEOUT_S = 30.0
"""Seconds that it may take to answer a request, on a busy machine."""
_MAIN = "autotune.shell.processes.fork_server_main"

_answers = msgspec.msgpack.Decoder(Loaded | Forked | NotForked | Reaped | messages.Broken)


class ForkFailed(EvaluatorError):
    """A fork of the program does not live, or does not answer. lasting: it has never worked, so another one would not
    either.
    """

    def __init__(self, message: str, lasting: bool) -> None:
        super().__init__(message)
        self.lasting = lasting


class ForkedProcess:
    """A worker that the fork server has forked; see `os_process.Process`."""

    def __init__(self, server: "ForkServer", pid: int) -> None:
        self._server = server
        self._pid = pid
        self._status: int | None = None

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def returncode(self) -> int | None:
        return self._status

    def has_exited(self) -> bool:
        return self._status is not None or not supervisor.is_alive(self._pid)

    def kill(self) -> int | None:
        """The fork server reaps the worker, and ends the processes that the worker leaves to it."""
        if self._status is None and self._server.closed:  # it has taken its workers along
            self._status = -signal.SIGKILL
        if self._status is None:
            os_process.signal_tree(self._pid, signal.SIGSTOP)  # so that none of them forks while we look
            os_process.signal_tree(self._pid, signal.SIGKILL)
            self._status = self._server.reap(self._pid, os_process.REAP_S)
        return self._status


class ForkServer:
    """The parent's side. The server loads while the caller goes on; the first `start` waits for it.

    boot: starts the server's process, with its end of a socket and an open file for its prints. closed: it has ended,
    and its workers with it. load_timeout_s: seconds that it may take to load. of_program: it is a fork of the program.
    ends_alone: `close` does not wait for the end of its processes, which takes a tenth of a second where the program is
    large: a thread does, and the program does not end before that thread.
    loading_s: seconds that it took to load, as far as the caller has noticed; None while it loads.
    """

    def __init__(
        self,
        boot: StartProcess,
        load_timeout_s: float = LOAD_TIMEOUT_S,
        of_program: bool = False,
        ends_alone: bool = False,
    ) -> None:
        self.closed = False
        self._ends_alone = ends_alone
        self._load_timeout_s = load_timeout_s
        self._of_program = of_program
        self._loaded: Loaded | None = None
        self._started_at = time.monotonic()
        self.loading_s: float | None = None
        self._owner = os.getpid()
        with ExitStack() as stack:
            self._stderr = stack.enter_context(os_process.unnamed_file())
            self._sock, theirs = map(stack.enter_context, os_process.socket_pair())
            self._process = boot(theirs, self._stderr.fileno())
            theirs.close()
            stack.pop_all()

    @classmethod
    def from_payload(cls, payload: bytes, main: str, env: Mapping[str, str], scratch: str) -> "ForkServer":
        """A server that is a new Python process.

        payload: a file that the server's `load` reads. main: "module:function", what a worker runs, given what was
        loaded, its socket and its settings. env: the server's whole environment. scratch: a folder of its own, removed
        at its end.
        """

        def boot(sock: socket.socket, stderr: int) -> os_process.Process:
            settings = {"main": main, "scratch": scratch}
            with os_process.unnamed_file(payload) as file:
                return os_process.boot(_MAIN, settings, sock, {"payload": file.fileno()}, stderr, env)

        return cls(boot)

    @classmethod
    def from_program(
        cls,
        load: Callable[[], L],
        run: Callable[[L, socket.socket, Any], NoReturn],
        scratch: str,
        load_timeout_s: float = LOAD_TIMEOUT_S,
        ends_alone: bool = False,
    ) -> "ForkServer":
        """A server that is a fork of this program, and has everything that the program has in memory.

        load: called in the server; neither it nor the workers may use a GPU. run: what a worker runs, given what was
        loaded, its socket and its settings. scratch: a folder of its own, removed at its end. Its later errors are
        ForkFailed where the fork does not live, or does not answer.
        """

        def main(sock: socket.socket) -> NoReturn:
            serve(sock, load, run)

        def boot(sock: socket.socket, stderr: int) -> os_process.Process:
            return os_process.fork(main, sock, stderr, scratch)

        return cls(boot, load_timeout_s, of_program=True, ends_alone=ends_alone)

    @property
    def age_s(self) -> float:
        """Seconds since the server was started."""
        return time.monotonic() - self._started_at

    def can_fork(self) -> bool:
        """Whether the server has loaded, without waiting; raises EvaluatorError where it cannot load."""
        in_time = self.age_s < self._load_timeout_s
        if self._loaded is None and not os_process.is_readable(self._sock.fileno(), 0.0) and in_time:
            return False
        self.wait_until_loaded()
        return True

    def wait_until_loaded(self) -> Loaded:
        """Wait until the server can fork; raises EvaluatorError where the user's functions cannot be loaded."""
        if self._loaded is None:
            self._loaded = self._receive(Loaded, max(self._load_timeout_s - self.age_s, 0.01))
            self.loading_s = self.age_s
        return self._loaded

    def start(self, settings: Mapping[str, Any], sock: socket.socket, stderr: int) -> os_process.Process:
        """Fork a worker, once the server has loaded; raises NoProcess where the system gives none."""
        self.wait_until_loaded()
        body = messages.encode(Fork(json.dumps(settings)))
        try:
            socket.send_fds(self._sock, [body], [sock.fileno(), stderr])
        except OSError:
            raise self._gone() from None
        answer = self._receive(Forked | NotForked, ANSWER_TIMEOUT_S)
        if isinstance(answer, NotForked):
            raise NoProcess(f"cannot fork a worker process: {answer.message}")
        return ForkedProcess(self, answer.pid)

    def reap(self, pid: int, timeout_s: float) -> int | None:
        """Reap a worker that was killed; its exit status. None if it does not die, or if the server is gone, which
        takes its workers along."""
        with suppress(OSError, EvaluatorError):
            self._sock.sendall(messages.encode(Reap(pid, timeout_s)))
            reaped: Reaped = self._receive(Reaped, timeout_s + ANSWER_TIMEOUT_S)
            return reaped.status
        return None if supervisor.is_alive(pid) else -signal.SIGKILL

    def close(self) -> None:
        """End the server and all its workers."""
        with suppress(OSError):
            self._sock.close()
        if self._owner == os.getpid():
            if self._ends_alone:
                threading.Thread(target=self._process.kill, name="autotune: end of forks").start()
            else:
                self._process.kill()
            self.closed = True
        self._stderr.close()

    def _receive(self, kind: Any, timeout_s: float) -> Any:
        self._sock.settimeout(timeout_s)
        since = self._started_at if kind is Loaded else time.monotonic()
        try:
            body = messages.receive_body(self._sock)
        except TimeoutError:
            if self._of_program:
                message = f"a fork of the program gave no answer for {time.monotonic() - since:.0f} s"
                raise ForkFailed(message, lasting=self._loaded is None) from None
            raise EvaluatorError(
                f"a process that loads the kernel's file gave no answer for {time.monotonic() - since:.0f} s"
                f"{self._stderr_tail()}; look for what takes long where that file is imported"
            ) from None
        if body is None:
            raise self._gone()
        answer = _answers.decode(body)
        if isinstance(answer, messages.Broken):
            message = f"the workload cannot be set up in a worker process: {answer.message}"
            raise ForkFailed(message, lasting=True) if self._of_program else EvaluatorError(message)
        assert isinstance(answer, kind), "the fork server answers one request after another"
        return answer

    def _gone(self) -> EvaluatorError:
        os_process.await_exit(self._process, 1.0)
        status = self._process.kill()
        if self._of_program:
            message = f"a fork of the program {os_process.describe_exit(status)}{self._stderr_tail()}"
            return ForkFailed(message, lasting=self._loaded is None)
        return EvaluatorError(
            f"the process that loads the kernel's file {os_process.describe_exit(status)}{self._stderr_tail()}; check"
            " that the file can be imported by a new Python process"
        )

    def _stderr_tail(self) -> str:
        text = read_tail(self._stderr)
        return f" (its stderr ends: {text})" if text else ""
