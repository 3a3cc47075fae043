"""This process as a GPU worker: where hooks, a user's timer or odd arguments need it, and where it is ready first.

There is no deadline here: nothing stops a kernel that hangs. A config that spoils the context of the GPU ends the
session.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal

from msgspec import Struct

from autotune.backends.triton import messages
from autotune.core.errors import EvaluatorError
from autotune.core.formatting import describe_error
from autotune.core.outcomes import Failed
from autotune.shell.processes.messages import JobOrder

Obey = Callable[[messages.TritonOrder], messages.TritonReply]
"""Carries out one order."""

_DROPPED = messages.Refused(failed=Failed("skipped", "the search waits for it no longer"))


def describe_spoilt_context(error: Exception) -> str:
    """The message where a config has spoilt the context of this process."""
    return (
        f"the GPU's context did not survive a config ({describe_error(error)}); start the program again, and use"
        ' isolation="process", where that costs one config'
    )


class LocalWorker:
    """This process as a worker; see `pool.Worker` for the attributes."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.order: Struct | Literal["start"] | None = "start"
        self.following: tuple[Struct, float] | None = None
        self.served = 0
        self.dropped = False
        self.allowed_s = 0.0
        self.deadline = self._started_at = time.monotonic()

    @property
    def age_s(self) -> float:
        """Seconds since the worker was started."""
        return time.monotonic() - self._started_at

    def begin(self, order: Struct, timeout_s: float) -> None:
        """The worker begins this order now."""
        self.order, self.allowed_s = order, timeout_s
        self.deadline = time.monotonic() + timeout_s
        self.served += isinstance(order, JobOrder)

    def finish(self) -> None:
        """The worker has answered, and begins the following order, if there is one."""
        self.order = None
        if self.following is not None:
            following, self.following = self.following, None
            self.begin(*following)
        else:
            self.dropped = False

    def shorten_deadline(self, seconds: float) -> None:
        """Nobody waits for the worker's orders any longer, and it need not begin them."""
        self.dropped = True


class LocalPool:
    """A pool with one worker, this process, which obeys an order when it is polled; see `pool.WorkerPool`.

    start: makes the function that obeys, and says what the worker's first reply is; raises EvaluatorError where the
    workload cannot be used. synchronize: waits for the device; raises its error where its context is spoilt.
    """

    retry_in_s = 0.0

    def __init__(self, start: Callable[[], tuple[Obey, messages.ReadyReply]], synchronize: Callable[[], None]) -> None:
        self._start = start
        self._synchronize = synchronize
        self._obey: Obey | None = None
        self._worker: LocalWorker | None = None

    def __len__(self) -> int:
        return int(self._worker is not None)

    def __contains__(self, worker: object) -> bool:
        return worker is not None and worker is self._worker

    def idle(self) -> list[LocalWorker]:
        """The worker, if it has no order."""
        return [] if self._worker is None or self._worker.order is not None else [self._worker]

    def busy_workers(self) -> Sequence[Any]:
        """Empty: there is no process to wait for."""
        return ()

    def spawn(self) -> None:
        """The worker is ready once it is polled."""
        self._worker = LocalWorker()

    def send(self, worker: LocalWorker, order: Struct, timeout_s: float) -> None:
        """Give an order, which is carried out when the pool is polled."""
        if worker.order is None:
            worker.begin(order, timeout_s)
        else:
            worker.following = (order, timeout_s)

    def poll(self) -> list[tuple[LocalWorker, messages.TritonReply]]:
        """Carry out the worker's order, and return the reply."""
        worker = self._worker
        if worker is None or worker.order is None:
            return []
        reply: messages.TritonReply
        if worker.order == "start":
            self._obey, reply = self._start()
        elif worker.dropped:
            reply = _DROPPED
        else:
            assert self._obey is not None, "the worker has started"
            reply = self._obey(worker.order)  # type: ignore[arg-type]
        worker.finish()
        return [(worker, reply)]

    def kill(self, worker: LocalWorker) -> None:
        """Begin anew, as far as this process can; raises EvaluatorError where the context of the GPU is spoilt."""
        self._worker = self._obey = None
        try:
            self._synchronize()
        except Exception as error:
            raise EvaluatorError(describe_spoilt_context(error)) from error

    def close(self) -> None:
        """Drop the workload."""
        self._worker = self._obey = None
        with suppress(Exception):
            self._synchronize()
