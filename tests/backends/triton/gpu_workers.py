"""Workers of the program's GPU service that have no GPU: forks of this process, which answer as they are told."""

import os
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from autotune.backends.triton import messages
from autotune.core.errors import EvaluatorError
from autotune.shell.processes import os_process
from autotune.shell.processes.child import OrderLoop

GPU = messages.Gpu(name="no device")
Answer = Callable[[Any], Any]


def obey(order: Any) -> Any:
    """The reply of a worker that does what it is told."""
    match order:
        case messages.MeasureOrder():
            return messages.MeasureReply(times_ms=((1.0,),), run_s=0.0)
        case _:
            return messages.ReadyReply(GPU)


def fail_to_open(lasting: bool, order: Any) -> Any:
    """The reply of a worker that cannot use what it is lent."""
    return messages.NotOpened("no such memory", lasting) if isinstance(order, messages.OpenOrder) else obey(order)


def hang_at(kind: type, order: Any) -> Any:
    """Reply to all orders but one kind."""
    if isinstance(order, kind):
        time.sleep(1000)
    return obey(order)


def end_at(kind: type, order: Any) -> Any:
    """A worker that ends at this kind of order."""
    if isinstance(order, kind):
        os._exit(3)
    return obey(order)


class Server:
    """In the place of the service's fork server. ready: whether it has loaded. error: why it cannot. started: workers.
    answer: how they reply. idle_s: seconds after which they end."""

    def __init__(self, answer: Answer = obey) -> None:
        self.answer = answer
        self.ready = True
        self.error: EvaluatorError | None = None
        self.started = 0
        self.closed = False
        self.idle_s: float | None = None
        self.settings: list[dict[str, Any]] = []

    def can_fork(self) -> bool:
        if self.error is not None:
            raise self.error
        return self.ready

    def start(self, settings: dict[str, Any], sock: socket.socket, stderr: int) -> os_process.Process:
        self.started += 1
        self.settings.append(settings)
        return os_process.fork(partial(_serve, self.answer, self.idle_s), sock, stderr, "")

    def close(self) -> None:
        self.closed = True


def _serve(answer: Answer, idle_s: float | None, sock: socket.socket) -> NoReturn:
    OrderLoop(sock, messages.decode_order, idle_s=idle_s).serve(answer, messages.ReadyReply(GPU))
