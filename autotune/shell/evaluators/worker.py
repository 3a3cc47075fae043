"""One worker process as its parent sees it: what it is at, what it has said, and how it ends."""

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Generic, Literal, TypeVar

import msgspec

from autotune.shell.evaluators import processes, wire

START_TIMEOUT_S = 120.0
STDERR_LIMIT = 1 << 24
TAIL = 300

R = TypeVar("R")
"""What a worker replies."""


class Lost(msgspec.Struct, frozen=True):
    """The worker is gone. timeout: it was killed at its deadline; crash: it ended by itself."""

    why: Literal["timeout", "crash"]
    message: str


class Worker(Generic[R]):
    """One process as the parent sees it.

    order: what it is busy with; "start" at first, None when it waits for orders. served: how many orders to build it
    has got, so that what an earlier config left behind can be told from the present one's fault.
    following: the order after that and its seconds. It has been sent already, so that the worker need not wait for us.
    held: a trial of the session is built, or being built, in it. paused_s: how long its last order was stopped.
    """

    def __init__(
        self, process: processes.Process, sock: socket.socket, stderr: IO[bytes], decode: Callable[[bytes], R]
    ) -> None:
        self.process = process
        self.sock = sock
        self.order: msgspec.Struct | Literal["start"] | None = "start"
        self.following: tuple[msgspec.Struct, float] | None = None
        self._born = time.monotonic()
        self.deadline = self._born + START_TIMEOUT_S
        self.allowed_s = START_TIMEOUT_S
        self.served = 0
        self.held = False
        self.paused_at: float | None = None
        self.paused_s = 0.0
        self.resident_mb = 0.0
        self._stderr = stderr
        self._decode = decode
        self._buffer = bytearray()
        self._open = True
        self._garbled = False

    @property
    def age_s(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._born

    def begin(self, order: msgspec.Struct, timeout_s: float) -> None:
        """It is at this order now, of which `timeout_s` seconds are allowed."""
        self.order, self.allowed_s, self.paused_s = order, timeout_s, 0.0
        self.deadline = time.monotonic() + timeout_s
        self.served += bool(getattr(order, "config", ""))

    def done(self) -> None:
        """It has answered, and goes on with what follows."""
        self.order = None
        if self.following is not None:
            (order, timeout_s), self.following = self.following, None
            self.begin(order, timeout_s)

    def receive(self) -> list[R] | None:
        """The replies that are in; None if no more can come, or what came is no reply."""
        if self._open:
            try:
                while part := self.sock.recv(1 << 16):
                    self._buffer += part
                self._open = False
            except BlockingIOError:
                pass
            except ConnectionResetError:  # it died with an order unread
                self._open = False
        try:
            replies = [self._decode(body) for body in wire.split(self._buffer)]
        except (ValueError, msgspec.DecodeError):
            self._garbled = True
            return None
        # A child that holds the socket open hides the end of the stream, so look at the process as well.
        return replies if replies or (self._open and not self.process.has_exited()) else None

    def tail(self) -> str:
        """The end of what it wrote to stderr during its order, on one line."""
        with suppress(OSError, ValueError):
            fd = self._stderr.fileno()
            size = os.fstat(fd).st_size
            text = os.pread(fd, 4 * TAIL, max(0, size - 4 * TAIL)).decode(errors="replace")
            text = " ".join(text.split())[-TAIL:]
            return f"; stderr ends: {text}" if text else ""
        return ""

    def trim(self) -> None:
        """Empty the stderr file where a kernel floods it: the disk is everybody's."""
        if os.fstat(self._stderr.fileno()).st_size > STDERR_LIMIT:
            os.ftruncate(self._stderr.fileno(), 0)

    def hurry(self, seconds: float) -> None:
        """Nobody waits for it any longer than this."""
        self.deadline = min(self.deadline, time.monotonic() + seconds)
        if self.following is not None:
            self.following = (self.following[0], min(self.following[1], seconds))

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the worker and its descendants."""
        if not self.process.has_exited():
            processes.signal_tree(self.process.pid, number)

    def end(self) -> str:
        """Bury a worker of which nothing more can come; what was the matter with it."""
        if self._garbled:
            self.kill()
            return "sent what is no reply"
        ended = processes.await_exit(self.process, 1.0)
        status = self.kill()
        return processes.ending(status) if ended else "closed its connection"

    def kill(self) -> int | None:
        """Kill it and all that it has started, and reap it; the exit status."""
        self.let_go()
        return self.process.kill()

    def let_go(self) -> None:
        """Close what leads to it."""
        with suppress(OSError):
            self.sock.close()
        with suppress(OSError):
            self._stderr.close()
