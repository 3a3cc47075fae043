"""Workers forked from a process that has loaded everything already: a new one is there in milliseconds.

A Python process with torch and Triton in it takes seconds to start, which is too long where each compile that hangs
costs a worker. So one process, the nursery, imports them and the user's functions once, touches no GPU, and forks a
worker whenever it is told to. It keeps the dead until they are buried, so that their numbers name them alone.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

import msgspec
from msgspec import Struct

from autotune.core.errors import EvaluatorError
from autotune.shell.processes import messages, os_process, supervisor
from autotune.shell.processes.os_process import NoProcess
from autotune.shell.processes.pool import TAIL

LOAD_TIMEOUT_S = 180.0
ANSWER_TIMEOUT_S = 30.0
_MAIN = "autotune.shell.processes.fork_server_main"


class Fork(Struct, frozen=True, tag="fork"):
    """Fork a worker; its socket and its stderr come along. settings: JSON for its main function."""

    settings: str


class Reap(Struct, frozen=True, tag="bury"):
    """Reap this worker, which is dead or dying."""

    pid: int
    timeout_s: float


class Loaded(Struct, frozen=True, tag="loaded"):
    """The nursery can fork. note: what the workers must be told because it could not be found out here."""

    note: str = ""


class Forked(Struct, frozen=True, tag="born"):
    """The worker's number."""

    pid: int


class NotForked(Struct, frozen=True, tag="not born"):
    """The system has given no process; why."""

    message: str


class Reaped(Struct, frozen=True, tag="buried"):
    """How it ended; None if it did not in time."""

    status: int | None


Answer = Loaded | Forked | NotForked | Reaped | messages.Broken

_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


class ForkedProcess:
    """A worker that the nursery has forked."""

    def __init__(self, nursery: "ForkServer", pid: int) -> None:
        self._nursery = nursery
        self._pid = pid
        self._status: int | None = None

    @property
    def pid(self) -> int:
        """Its number."""
        return self._pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, once it is reaped."""
        return self._status

    def has_exited(self) -> bool:
        """Whether it is dead; the nursery reaps it when told to, not before."""
        return self._status is not None or supervisor.state(self._pid) in ("Z", "X")

    def kill(self) -> int | None:
        """Kill it and its descendants, and let the nursery reap it; what it leaves to the nursery is ended there."""
        if self._status is None:
            os_process.signal_tree(self._pid, signal.SIGSTOP)  # so that nobody forks while we look
            os_process.signal_tree(self._pid, signal.SIGKILL)
            self._status = self._nursery.bury(self._pid, os_process.REAP_S)
        return self._status


class ForkServer:
    """One process that forks workers. It loads while the caller goes on; the first `start` waits for it.

    loading_s: how long that took, as far as the caller has noticed it; None: it is not over.
    main: "module:function" that a worker runs, given what was loaded, its socket and its settings. env: its whole
    environment. scratch: a folder of its own, removed when it ends.
    """

    def __init__(self, payload: bytes, main: str, env: Mapping[str, str], scratch: str) -> None:
        self._loaded: Loaded | None = None
        self._born = time.monotonic()
        self.loading_s: float | None = None
        self._owner = os.getpid()
        with ExitStack() as stack:
            self._payload = stack.enter_context(os_process.unnamed_file(payload))
            self._stderr = stack.enter_context(os_process.unnamed_file())
            self._sock, theirs = map(stack.enter_context, os_process.socket_pair())
            settings, files = {"main": main, "scratch": scratch}, {"payload": self._payload.fileno()}
            self._process = os_process.boot(_MAIN, settings, theirs, files, self._stderr.fileno(), env)
            theirs.close()
            stack.pop_all()

    @property
    def age_s(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._born

    def can_fork(self) -> bool:
        """Whether it is loaded, without waiting; raises EvaluatorError where the user's functions cannot be loaded."""
        if self._loaded is None and not os_process.readable(self._sock.fileno(), 0.0) and self._patient():
            return False
        self.loaded()
        return True

    def loaded(self) -> Loaded:
        """Wait until it can fork; raises EvaluatorError where the user's functions cannot be loaded."""
        if self._loaded is None:
            left = LOAD_TIMEOUT_S - (time.monotonic() - self._born)
            self._loaded = self._hear(Loaded, max(left, 0.01))
            self.loading_s = time.monotonic() - self._born
        return self._loaded

    def start(self, settings: Mapping[str, Any], sock: socket.socket, stderr: int) -> os_process.Process:
        """Fork a worker, once it is loaded."""
        self.loaded()
        body = messages.encode(Fork(json.dumps(settings)))
        try:
            socket.send_fds(self._sock, [body], [sock.fileno(), stderr])
        except OSError:
            raise self._gone() from None
        born = self._hear(Forked | NotForked, ANSWER_TIMEOUT_S)
        if isinstance(born, NotForked):
            raise NoProcess(f"cannot fork a worker process: {born.message}")
        return ForkedProcess(self, born.pid)

    def bury(self, pid: int, timeout_s: float) -> int | None:
        """Reap a worker that was killed; None if it does not die, or the nursery is gone and has taken it along."""
        with suppress(OSError, EvaluatorError):
            self._sock.sendall(messages.encode(Reap(pid, timeout_s)))
            buried: Reaped = self._hear(Reaped, timeout_s + ANSWER_TIMEOUT_S)
            return buried.status
        return -signal.SIGKILL if supervisor.state(pid) in ("Z", "X") else None

    def close(self) -> None:
        """End it; its workers must have been ended before."""
        with suppress(OSError):
            self._sock.close()
        if self._owner == os.getpid():
            self._process.kill()
        self._payload.close()
        self._stderr.close()

    def _patient(self) -> bool:
        """Whether it may still take longer to load."""
        return time.monotonic() - self._born < LOAD_TIMEOUT_S

    def _hear(self, kind: Any, timeout_s: float) -> Any:
        self._sock.settimeout(timeout_s)
        since = self._born if kind is Loaded else time.monotonic()
        try:
            body = messages.receive_body(self._sock)
        except TimeoutError:
            raise EvaluatorError(
                f"a process that loads the kernel's file gave no answer for {time.monotonic() - since:.0f} s"
                f"{self._tail()}; look for what takes long where that file is imported"
            ) from None
        if body is None:
            raise self._gone()
        answer = _answers.decode(body)
        if isinstance(answer, messages.Broken):
            raise EvaluatorError(f"the workload cannot be set up in a worker process: {answer.message}")
        assert isinstance(answer, kind), "the nursery answers one request after another"
        return answer

    def _gone(self) -> EvaluatorError:
        os_process.await_exit(self._process, 1.0)
        status = self._process.kill()
        return EvaluatorError(
            f"the process that loads the kernel's file {os_process.describe_exit(status)}{self._tail()}; check that the"
            " file can be imported by a new Python process"
        )

    def _tail(self) -> str:
        with suppress(OSError, ValueError):
            size = os.fstat(self._stderr.fileno()).st_size
            text = os.pread(self._stderr.fileno(), 2000, max(0, size - 2000)).decode(errors="replace")
            text = " ".join(text.split())[-TAIL:]
            return f" (its stderr ends: {text})" if text else ""
        return ""
