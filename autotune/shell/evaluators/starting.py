"""How a worker process comes to be: what it is told of its parent, what it may read, where its prints go."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any, Protocol

from autotune.core.errors import EvaluatorError
from autotune.shell.evaluators import processes


class Starter(Protocol):
    """Starts a process that leads a group of its own; raises EvaluatorError where it cannot."""

    def __call__(self, sock: socket.socket, stderr: int) -> processes.Process:
        """sock: its end of the socket to us; stderr: an open file for what it prints. Both are closed by the caller."""


def boot(
    argv: Sequence[str], pass_fds: Sequence[int], stderr: int, env: Mapping[str, str] | None = None
) -> processes.Child:
    """A process in a session of its own, with this interpreter; `stderr` takes what it prints."""
    try:
        popen = subprocess.Popen(
            [sys.executable, "-c", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=pass_fds,
            start_new_session=True,
            env=None if env is None else dict(env),
        )
    except OSError as error:
        raise EvaluatorError(f"cannot start a worker process with {sys.executable}: {error}") from error
    return processes.Child(popen)


def payload_file(payload: bytes) -> IO[bytes]:
    """A file with no name. Not the socket: a large workload then never blocks the parent, and is written but once."""
    file = tempfile.TemporaryFile(prefix="autotune-")  # noqa: SIM115
    file.write(payload)
    file.flush()
    return file


def birth(sock: int, payload: int) -> dict[str, Any]:
    """What a new process is told of its parent: where modules are, which descriptors are whose."""
    return {
        "path": [str(entry) for entry in sys.path],
        "socket": sock,
        "payload": payload,
        "parent": os.getpid(),
        "tied_to_thread": threading.current_thread() is threading.main_thread(),
    }
