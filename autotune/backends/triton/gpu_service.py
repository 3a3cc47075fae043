"""The GPU workers of a program: started once, in the background, they serve one session after another.

A worker holds nothing of the user's: sessions lend it tensors, and send it recorded launches (`launches.py`). It takes
seconds to import torch and Triton, so the first session need not wait for it (`gpu_sources.py`), and later ones find it
ready. A worker that nobody has used for a minute ends, and gives the GPU's memory back.
"""

import atexit
import os
import threading
from functools import partial

from autotune.backends.triton import messages
from autotune.core.errors import EvaluatorError
from autotune.shell.processes import os_process
from autotune.shell.processes.fork_server import ForkServer
from autotune.shell.processes.pool import WorkerPool

_MAIN = "autotune.backends.triton.gpu_worker:serve"
_NOT_THEIRS = ("TRITON_INTERPRET", "AUTOTUNE_TRITON_INSTALL")
"""Variables of the environment that change Triton in the program, and must not change it in a worker."""
_IDLE_S = 60.0
"""Seconds without an order after which a worker ends."""

Pool = WorkerPool[messages.TritonReply]


class GpuService:
    """The fork server of one program, and the pools of its GPUs that no session uses just now.

    failure: why no worker can be had in this program; None where nothing speaks against it.
    """

    def __init__(self) -> None:
        self.failure: EvaluatorError | None = None
        self._server: ForkServer | None = None
        self._free: dict[str, list[Pool]] = {}
        self._lock = threading.Lock()

    def prepare(self) -> ForkServer:
        """The fork server, started if it is not yet; it loads in the background. Raises the failure of before."""
        with self._lock:
            if self.failure is not None:
                raise self.failure
            if self._server is None:
                try:
                    self._server = _start_server()
                except EvaluatorError as error:
                    self.failure = error
                    raise
            return self._server

    def borrow(self, visible: str) -> Pool:
        """A pool for one worker on this GPU, as CUDA_VISIBLE_DEVICES names it; the worker may be there already."""
        server = self.prepare()
        with self._lock:
            free = self._free.get(visible)
            pool = free.pop() if free else None
        if pool is not None:
            try:
                pool.poll()  # finds a worker that has ended in the meantime
            except EvaluatorError as error:
                self.fail(error)
                raise
            return pool
        return WorkerPool(partial(server.start, {"visible": visible, "idle_s": _IDLE_S}), messages.decode_reply)

    def give_back(self, visible: str, pool: Pool) -> None:
        """The pool is free for the next session."""
        with self._lock:
            self._free.setdefault(visible, []).append(pool)

    def fail(self, error: EvaluatorError) -> None:
        """Remember that no worker can be had."""
        self.failure = error

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            for pool in (pool for pools in self._free.values() for pool in pools):
                pool.close()
            self._free.clear()
            if self._server is not None:
                self._server.close()
                self._server = None


def _start_server() -> ForkServer:
    scratch = os_process.scratch_folder()
    env = {name: value for name, value in os.environ.items() if name not in _NOT_THEIRS}
    try:
        return ForkServer.from_payload(b"", _MAIN, {**env, "TMPDIR": scratch}, scratch)
    except BaseException:
        os.rmdir(scratch)
        raise


service = GpuService()
"""The one of this program."""


def _after_fork() -> None:
    """The processes are the program's, and not those of its forks."""
    global service
    service = GpuService()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: service.close())
