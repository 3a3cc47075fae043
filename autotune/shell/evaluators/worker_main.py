"""The worker process: loads the workload once, then builds and runs one config after another as the parent orders.

Started by `starting.boot` behind a guardian, in a session of its own, with three descriptors: a socket to the parent,
the workload's file, and stderr. stdin and stdout are /dev/null, so that nothing that a kernel prints, even from C, can
reach the socket.
"""

import gc
import mmap
import os
import resource
import socket
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any, Generic, NoReturn, TypeVar

from msgspec import Struct

from autotune.core.config import Config
from autotune.core.outcomes import Failed
from autotune.shell.evaluators.bench import Bench, BuiltConfig, Tainted
from autotune.shell.evaluators.workload import unpack
from autotune.shell.formatting import describe_error
from autotune.shell.processes import messages
from autotune.shell.processes.process_state import ThreadWatch, changes, worker_state
from autotune.shell.processes.supervisor import kill_own_group

TAINTED_EXIT, CHANGED_EXIT = 70, 71

Orders = TypeVar("Orders")
"""What a parent orders."""


class WorkerPort(Generic[Orders]):
    """Where a worker process gets its orders and sends its answers.

    It ends the process where an earlier config has changed it: to the parent that is a crash, after which it gives the
    config that is due now to a new worker. limited_memory: the worker itself moves the limit on the address space.
    scratch: its folder for temporary files, made again where it has been removed, by what cleans /tmp, say.
    """

    def __init__(
        self,
        sock: socket.socket,
        decode: Callable[[bytes], Orders],
        limited_memory: bool = False,
        scratch: str | None = None,
    ) -> None:
        self._sock = sock
        self._decode = decode
        self._pid = os.getpid()
        # A config may point descriptor 2 at a file of its own, or close it: that file is not ours to empty.
        self._stderr, self._file = os.dup(2), os.fstat(2)
        self._limited_memory = limited_memory
        self._scratch = scratch
        self._first: dict[str, Any] | None = None
        self._threads = ThreadWatch()

    def send(self, reply: Struct) -> None:
        """Answer the parent; a kernel's forked child that comes back here ends instead of answering twice."""
        if os.getpid() != self._pid:
            os._exit(0)
        try:
            self._sock.sendall(messages.encode(reply))
        except OSError as error:  # the parent is gone, or a config has closed our socket
            self.end(f"the answer cannot be sent: {error}")

    def serve(
        self, obey: Callable[[Orders], Struct], ready: Struct, joins: Callable[[Orders], bool] = lambda _: False
    ) -> NoReturn:
        """Obey until the parent is gone; `ready` is said first.

        joins: whether the config of an order shares the process with others that are kept: what these do is no reason
        to end it.
        """
        self.send(ready)
        while True:
            self._threads.begin_idle()
            body = self._received()
            order = self._decode(body)
            if getattr(order, "config", "") and not joins(order):
                self._check_unchanged()
            if self._scratch is not None:
                with suppress(OSError):
                    os.makedirs(self._scratch, 0o700, exist_ok=True)
            with suppress(OSError):
                if os.path.samestat(os.fstat(self._stderr), self._file):
                    os.ftruncate(self._stderr, 0)
            self.send(obey(order))

    def _received(self) -> bytes:
        try:
            body = messages.receive_body(self._sock)
        except OSError as error:
            self.end(f"no order can be received: {error}")
        if body is None:
            kill_own_group()
        return body

    def _check_unchanged(self) -> None:
        """End where the process is not as it was before the first config."""
        now = worker_state(self._limited_memory)
        if self._first is None:
            self._first = now
            self._threads.accept()
            return
        changed = changes(self._first, now) or self._threads.complaint()
        if changed:
            self.end(f"an earlier config has changed this worker ({changed})", CHANGED_EXIT)

    def end(self, why: str, status: int = 1) -> NoReturn:
        """End the process; why, for the parent to read."""
        for fd in (self._stderr, 2):  # a config may have closed either, or made it another file
            with suppress(OSError):
                if os.path.samestat(os.fstat(fd), self._file):
                    os.write(fd, why.encode(errors="replace"))
                    break
        os._exit(status)


class ConfigRunner:
    """One workload and the config in hand."""

    def __init__(self, bench: Bench, memory_limit_mb: int | None) -> None:
        self._bench = bench
        self._memory_limit_mb = memory_limit_mb
        self._kernel: BuiltConfig | None = None

    def obey(self, order: messages.Order) -> messages.Reply:
        """Do what is asked; a config that has its outcome is dropped."""
        reply = self._obey(order)
        if isinstance(reply, messages.Ended):
            self._forget()
        return reply

    def _obey(self, order: messages.Order) -> messages.Reply:
        if isinstance(order, messages.Build):
            return self._build(order)
        kernel = self._kernel
        assert kernel is not None, "the parent builds before it runs"
        start = perf_counter()
        match order:
            case messages.Run(cutoff_ms, budget_s):
                return messages.Ended(self._bench.run(kernel, cutoff_ms, budget_s))
            case messages.Prepare():
                failed = self._bench.prepare(kernel)
                return messages.Ended(failed) if failed is not None else messages.Done(perf_counter() - start)
            case messages.Verify():
                failed = self._bench.verify(kernel)
                return messages.Ended(failed) if failed is not None else messages.Done(perf_counter() - start)
            case messages.Sample():
                sample = self._bench.sample(kernel)
                if isinstance(sample, Failed):
                    return messages.Ended(sample)
                return messages.Done(perf_counter() - start, sample)

    def _build(self, order: messages.Build) -> messages.Reply:
        self._forget()
        limit_memory(self._memory_limit_mb)
        built = self._bench.build(Config.from_json(order.config))
        if isinstance(built, Failed):
            return messages.Ended(built)
        self._kernel = built
        return messages.Built(built.compile_s)

    def _forget(self) -> None:
        if self._kernel is not None:
            self._kernel = None
            gc.collect()


def limit_memory(limit_mb: int | None) -> None:
    """Let the address space grow by so much from here on: what earlier configs leaked is not this one's fault."""
    if limit_mb is None:
        return
    with open("/proc/self/statm") as file:
        in_use = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = in_use + limit_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def load_bench(payload_fd: int) -> Bench:
    """The bench of the workload in an open file; mapped, because all workers share the file's offset."""
    with open(payload_fd, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob:
        work = unpack(blob)
    return Bench(work)


def main(settings: dict[str, Any]) -> NoReturn:
    """Entry point; `settings` is what `workers.WorkerPool` says, and `starting.boot`."""
    for fd in (settings["socket"], settings["payload"]):
        os.set_inheritable(fd, False)
    sock = socket.socket(fileno=settings["socket"])
    limit_mb = settings["memory_limit_mb"]
    try:
        bench = load_bench(settings["payload"])
    except (Exception, SystemExit) as error:
        sock.sendall(messages.encode(messages.Broken(describe_error(error))))
        os._exit(1)
    gc.collect()
    gc.freeze()  # what is loaded now stays: collecting after each config then costs next to nothing
    post = WorkerPort(sock, messages.decode_order, limit_mb is not None)
    try:
        post.serve(ConfigRunner(bench, limit_mb).obey, messages.Ready())
    except Tainted as error:
        post.end(str(error), TAINTED_EXIT)
