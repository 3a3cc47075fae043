"""Forks of this process for tests, which tell something and then wait for their end."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, NoReturn

from autotune.shell.processes import os_process

PATIENCE_S = 60.0
"""How long to wait for what must come; a busy machine may need seconds."""


class Fork:
    """A fork of this process, which runs `tell` and sends its result as JSON."""

    def __init__(self, tell: Callable[[], Any], scratch: str) -> None:
        self.stderr: IO[bytes] = os_process.unnamed_file()
        self.sock, theirs = os_process.socket_pair()

        def main(sock: socket.socket) -> NoReturn:
            sock.sendall(json.dumps(tell()).encode() + b"\n")
            sock.recv(1)
            os._exit(0)

        self.process = os_process.fork(main, theirs, self.stderr.fileno(), scratch)
        theirs.close()

    def told(self) -> Any:
        self.sock.settimeout(PATIENCE_S)
        with self.sock.makefile() as file:
            line = file.readline()
        return json.loads(line) if line else self.prints()

    def prints(self) -> str:
        return os.pread(self.stderr.fileno(), 10_000, 0).decode()

    def close(self) -> None:
        self.sock.close()
        self.process.kill()
        self.stderr.close()


@contextmanager
def forked(tell: Callable[[], Any], scratch: str = "") -> Iterator[Fork]:
    made = Fork(tell, scratch)
    try:
        yield made
    finally:
        made.close()
