"""The worker's side of the socket: it obeys one order after another until the parent is gone."""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, NoReturn, TypeVar

from msgspec import Struct

from autotune.shell.processes import messages
from autotune.shell.processes.process_state import ThreadWatch, describe_change, read_state
from autotune.shell.processes.supervisor import kill_own_group

CHANGED_EXIT = 71
"""The exit code of a worker that an earlier job has changed."""

O = TypeVar("O", bound=Struct)  # noqa: E741
"""The orders of a parent."""


class OrderLoop(Generic[O]):
    """Receives orders from the parent and sends one reply to each.

    A worker that an earlier job has changed ends itself before it begins the next one. The parent sees a crash, and
    gives the job to a new worker.

    decode: reads an order from the body of a frame. limited_memory: the worker itself moves its limit on the address
    space. scratch: the worker's folder for temporary files, made again if something has removed it, as cleaners of
    /tmp do. idle_s: seconds without an order after which the worker ends; None: it waits for ever.
    """

    def __init__(
        self,
        sock: socket.socket,
        decode: Callable[[bytes], O],
        limited_memory: bool = False,
        scratch: str | None = None,
        idle_s: float | None = None,
    ) -> None:
        sock.settimeout(idle_s)
        self._sock = sock
        self._decode = decode
        self._pid = os.getpid()
        # A job may point descriptor 2 at a file of its own, or close it: that file is not ours to empty.
        self._stderr, self._stderr_file = os.dup(2), os.fstat(2)
        self._limited_memory = limited_memory
        self._scratch = scratch
        self._first_state: dict[str, Any] | None = None
        self._threads = ThreadWatch()

    def serve(
        self, obey: Callable[[O], Struct], ready: Struct, joins: Callable[[O], bool] = lambda _: False
    ) -> NoReturn:
        """Send `ready`, then obey orders until the parent is gone.

        joins: whether a job is added to others that stay in the process, and whose changes are no reason to end it.
        """
        self.send(ready)
        while True:
            self._threads.begin_idle()
            order = self._decode(self._receive())
            if isinstance(order, messages.JobOrder) and not joins(order):
                self._end_if_changed()
            if self._scratch is not None:
                with suppress(OSError):
                    os.makedirs(self._scratch, 0o700, exist_ok=True)
            with suppress(OSError):
                if os.path.samestat(os.fstat(self._stderr), self._stderr_file):
                    os.ftruncate(self._stderr, 0)
            self.send(obey(order))

    def send(self, reply: Struct) -> None:
        """Answer the parent. A child that a kernel has forked, and that comes back here, ends instead."""
        if os.getpid() != self._pid:
            os._exit(0)
        try:
            self._sock.sendall(messages.encode(reply))
        except OSError as error:  # the parent is gone, or a job has closed our socket
            self.end(f"the answer cannot be sent: {error}")

    def end(self, reason: str, status: int = 1) -> NoReturn:
        """End the process; the parent reads the reason from stderr."""
        for fd in (self._stderr, 2):  # a job may have closed either, or pointed it at another file
            with suppress(OSError):
                if os.path.samestat(os.fstat(fd), self._stderr_file):
                    os.write(fd, reason.encode(errors="replace"))
                    break
        os._exit(status)

    def _receive(self) -> bytes:
        try:
            body = messages.receive_body(self._sock)
        except TimeoutError:
            os._exit(0)
        except OSError as error:
            self.end(f"no order can be received: {error}")
        if body is None:
            kill_own_group()
        return body

    def _end_if_changed(self) -> None:
        """End where the process is not as it was before its first job."""
        state = read_state(self._limited_memory)
        if self._first_state is None:
            self._first_state = state
            self._threads.accept()
            return
        changed = describe_change(self._first_state, state) or self._threads.complaint()
        if changed:
            self.end(f"an earlier config has changed this worker ({changed})", CHANGED_EXIT)
