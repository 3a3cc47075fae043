"""Where the GPU workers of a session come from: forked for the session, lent by the program's service, or this process.

A short search must not wait for a process to start. So `FirstReadyGpu` takes the service's worker where that is ready
when the first config is, and this process where it is not; one process then times the whole session.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from msgspec import Struct

from autotune.backends.triton import gpu_service, messages
from autotune.backends.triton.local_gpu import LocalPool
from autotune.core.errors import EvaluatorError
from autotune.shell.processes.fork_server import ForkServer
from autotune.shell.processes.pool import START_TIMEOUT_S, Lost, ReplySource, Worker, WorkerPool

PooledWorker = Worker[messages.TritonReply]


class TritonWorker(Protocol):
    """A worker as a session sees it: a process (`pool.Worker`) or this one (`LocalWorker`)."""

    served: int
    allowed_s: float
    deadline: float

    @property
    def order(self) -> Any: ...

    @property
    def following(self) -> Any: ...

    @property
    def pid(self) -> int: ...

    @property
    def age_s(self) -> float: ...

    def shorten_deadline(self, seconds: float) -> None: ...


class GpuPool(ReplySource, Protocol):
    """The pool of one GPU; see `pool.WorkerPool`."""

    def __len__(self) -> int: ...

    def __contains__(self, worker: object) -> bool: ...

    def idle(self) -> Sequence[Any]: ...

    def spawn(self) -> None: ...

    def send(self, worker: Any, order: Struct, timeout_s: float) -> None: ...

    def kill(self, worker: Any) -> None: ...


_CLOSE_S = 5.0
"""Seconds that a worker may take to return the memory that was lent to it; it takes milliseconds."""
_SETTING_UP = "`arguments` and `reference`"


class GpuSource(Protocol):
    """The GPU workers of a session, one a GPU. pools: one for each GPU. loading: whether a process that workers are
    forked from is not ready yet, so that its readiness must be asked for.
    """

    @property
    def pools(self) -> Sequence[GpuPool]: ...

    @property
    def loading(self) -> bool: ...

    def start(self) -> None:
        """Start the workers as soon as that is possible: they are needed in any case."""

    def worker(self, i: int, fresh: bool) -> TritonWorker | None:
        """The worker of GPU `i`, if it is free, or None. fresh: it must have served no config before; a worker that has
        is replaced."""

    def receive(self, worker: TritonWorker, reply: messages.TritonReply | Lost) -> None:
        """Take in a reply, if it concerns the start of a worker."""

    def fail(self, error: EvaluatorError) -> None:
        """A worker cannot be started: go on without, or raise the error."""

    def close(self) -> None:
        """Nothing is measured any more."""


class ForkedGpus:
    """Workers of this session alone, which load the user's functions.

    visible: the GPUs, as CUDA_VISIBLE_DEVICES names them. own: the server is closed with them.
    """

    def __init__(self, server: ForkServer, device: str, visible: Sequence[str], own: bool = False) -> None:
        self._server = server
        self._own = own
        self.pools = [
            WorkerPool(
                partial(server.start, {"device": device, "visible": name}),
                messages.decode_reply,
                setting_up=_SETTING_UP,
            )
            for name in visible
        ]

    @property
    def loading(self) -> bool:
        return not self._server.can_fork()

    def start(self) -> None:
        if not all(map(len, self.pools)) and self._server.can_fork():
            for pool in self.pools:
                if not len(pool):
                    pool.spawn()

    def worker(self, i: int, fresh: bool) -> TritonWorker | None:
        free = self.pools[i].idle()
        if free and fresh and free[0].served:
            self.pools[i].kill(free[0])
            free = []
        if not free:
            self.start()
        return free[0] if free else None

    def receive(self, worker: TritonWorker, reply: messages.TritonReply | Lost) -> None:
        """Nothing: the pool knows it."""

    def fail(self, error: EvaluatorError) -> None:
        raise error

    def close(self) -> None:
        for pool in self.pools:
            pool.close()
        if self._own:
            self._server.close()


class SharedGpu:
    """One worker of the program's service, to which this session lends its workload.

    visible: the GPU, as CUDA_VISIBLE_DEVICES names it. payload: the workload, by `kernel.pack_payload`. owners: of the
    memory that it lends.
    """

    def __init__(self, visible: str, payload: bytes, owners: Sequence[Any]) -> None:
        self._owners = tuple(owners)
        self._visible = visible
        self._service = gpu_service.service
        self._server = self._service.prepare()
        self._pool = self._service.borrow(visible)
        self._opened: PooledWorker | None = None
        self._opening: PooledWorker | None = None
        # The worker reads the workload from a file: it may be larger than a message.
        self._file = tempfile.NamedTemporaryFile(prefix="autotune-")  # noqa: SIM115
        self._file.write(payload)
        self._file.flush()

    @property
    def pools(self) -> Sequence[GpuPool]:
        return (self._pool,)

    @property
    def loading(self) -> bool:
        return not self._can_fork()

    @property
    def started(self) -> bool:
        """Whether a worker is there, and has at least begun to take over the workload."""
        return self._opened is not None or self._opening is not None

    def start(self) -> None:
        if not len(self._pool):
            if self._can_fork():
                self._pool.spawn()
        elif not self.started and (free := self._pool.idle()):
            self._opening = free[0]
            self._pool.send(free[0], messages.OpenOrder(self._file.name), START_TIMEOUT_S)

    def worker(self, i: int, fresh: bool) -> TritonWorker | None:
        free = self._pool.idle()
        if free and fresh and free[0].served:
            self._pool.kill(free[0])
            free = []
        if free and free[0] is self._opened:
            return free[0]
        if self._opened is not None and self._opened not in self._pool:
            self._opened = None
        self.start()
        return None

    def receive(self, worker: TritonWorker, reply: messages.TritonReply | Lost) -> None:
        if worker is not self._opening:
            return
        self._opened, self._opening = self._opening, None
        if isinstance(reply, messages.ReadyReply):
            return
        self._opened = None
        said = reply.message if isinstance(reply, messages.NotOpened | Lost) else "it answers what was not asked"
        error = EvaluatorError(f"the workload cannot be set up in the process of the GPU: {said}")
        if isinstance(reply, messages.NotOpened) and reply.lasting:
            self._service.fail(error)
        raise error

    def fail(self, error: EvaluatorError) -> None:
        """No later session tries again."""
        self._service.fail(error)
        raise error

    def _can_fork(self) -> bool:
        try:
            return self._server.can_fork()
        except EvaluatorError as error:
            self._service.fail(error)
            raise

    def close(self) -> None:
        """The worker returns what it was lent before the pool goes back to the service. One that is still at work is
        killed after a while."""
        worker, until = self._opening or self._opened, time.monotonic() + _CLOSE_S
        if worker is not None and worker in self._pool:
            if worker.following is not None:
                self._pool.kill(worker)
            else:
                self._pool.send(worker, messages.CloseOrder(), _CLOSE_S)
            with suppress(EvaluatorError):
                while worker in self._pool and worker.order is not None and time.monotonic() < until:
                    self._pool.wait(until - time.monotonic())
            if worker in self._pool and worker.order is not None:
                self._pool.kill(worker)
        self._file.close()
        self._owners = ()
        self._service.give_back(self._visible, self._pool)


class LocalGpu:
    """This process. pool: with the workload."""

    loading = False

    def __init__(self, pool: LocalPool) -> None:
        self._pool = pool

    @property
    def pools(self) -> Sequence[GpuPool]:
        return (self._pool,)

    def start(self) -> None:
        if not len(self._pool):
            self._pool.spawn()

    def worker(self, i: int, fresh: bool) -> TritonWorker | None:
        free = self._pool.idle()
        if free and fresh and free[0].served:
            self._pool.kill(free[0])
            free = []
        if not free:
            self.start()
        return free[0] if free else None

    def receive(self, worker: TritonWorker, reply: messages.TritonReply | Lost) -> None:
        """Nothing: the pool knows it."""

    def fail(self, error: EvaluatorError) -> None:
        raise error

    def close(self) -> None:
        self._pool.close()


class FirstReadyGpu:
    """The service's worker if it is ready when the first config is to be measured, else this process."""

    def __init__(self, shared: Callable[[], SharedGpu], local: LocalPool) -> None:
        self._local = LocalGpu(local)
        self._shared: SharedGpu | None = None
        self._chosen: SharedGpu | LocalGpu | None = None
        try:
            self._shared = shared()
        except EvaluatorError:  # arguments that cannot be lent; the service remembers a failure of its own
            self._chosen = self._local

    @property
    def pools(self) -> Sequence[GpuPool]:
        return self._current.pools

    @property
    def loading(self) -> bool:
        return self._chosen is self._shared and self._current.loading

    @property
    def _current(self) -> SharedGpu | LocalGpu:
        return self._chosen or self._shared or self._local

    def start(self) -> None:
        try:
            self._current.start()
        except EvaluatorError as error:
            self.fail(error)

    def worker(self, i: int, fresh: bool) -> TritonWorker | None:
        if self._chosen is None:
            self.start()
            if self._shared is not None and self._shared.started:
                if self._shared.worker(i, fresh) is None:
                    return None  # it takes the workload over just now
                self._chosen = self._shared
            else:
                self._chosen = self._local
        return self._chosen.worker(i, fresh)

    def receive(self, worker: TritonWorker, reply: messages.TritonReply | Lost) -> None:
        try:
            self._current.receive(worker, reply)
        except EvaluatorError:
            if self._chosen is not None:
                raise
            self._chosen = self._local

    def fail(self, error: EvaluatorError) -> None:
        """Go on in this process, unless configs have been measured in the other one, which no later session tries."""
        if self._chosen is self._local:
            raise error
        gpu_service.service.fail(error)
        if self._chosen is not None:
            raise error
        self._chosen = self._local

    def close(self) -> None:
        self._local.close()
        if self._shared is not None:
            self._shared.close()
