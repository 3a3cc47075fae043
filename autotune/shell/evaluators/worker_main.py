"""The worker process: loads the workload once, then builds and runs one config after another as the parent orders.

Started by `workers.Worker` with its own session and three descriptors: a socket to the parent, the workload's file, and
stderr; stdin and stdout are /dev/null. So nothing that a kernel prints, even from C, can reach the socket.
"""

import ctypes
import gc
import json
import mmap
import os
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Generic, NoReturn, TypeVar

from msgspec import Struct

from autotune.core.config import Config
from autotune.core.outcomes import Failed
from autotune.shell.evaluators import wire
from autotune.shell.evaluators.bench import Bench, Kernel, Tainted, describe
from autotune.shell.evaluators.workload import unpack

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
TAINTED_EXIT = 70

Orders = TypeVar("Orders")
"""What a parent orders."""


class Post(Generic[Orders]):
    """Where a worker process gets its orders and sends its answers."""

    def __init__(self, sock: socket.socket, decode: Callable[[bytes], Orders]) -> None:
        self._sock = sock
        self._decode = decode
        self._pid = os.getpid()

    def send(self, reply: Struct) -> None:
        """Answer the parent; a kernel's forked child that comes back here ends instead of answering twice."""
        if os.getpid() != self._pid:
            os._exit(0)
        self._sock.sendall(wire.encode(reply))

    def serve(self, obey: Callable[[Orders], Struct], ready: Struct) -> NoReturn:
        """Obey until the parent is gone; `ready` is said first."""
        self.send(ready)
        while True:
            body = wire.receive_body(self._sock)
            if body is None:
                end_group()
            os.ftruncate(2, 0)
            self.send(obey(self._decode(body)))


class Worker:
    """One workload and the config in hand."""

    def __init__(self, bench: Bench, memory_limit_mb: int | None) -> None:
        self._bench = bench
        self._memory_limit_mb = memory_limit_mb
        self._kernel: Kernel | None = None

    def obey(self, order: wire.Order) -> wire.Reply:
        """Do what is asked; a config that has its outcome is dropped."""
        reply = self._obey(order)
        if isinstance(reply, wire.Ended):
            self._forget()
        return reply

    def _obey(self, order: wire.Order) -> wire.Reply:
        if isinstance(order, wire.Build):
            return self._build(order)
        kernel = self._kernel
        assert kernel is not None, "the parent builds before it runs"
        start = perf_counter()
        match order:
            case wire.Run(cutoff_ms, budget_s):
                return wire.Ended(self._bench.run(kernel, cutoff_ms, budget_s))
            case wire.Prepare():
                failed = self._bench.prepare(kernel)
                return wire.Ended(failed) if failed is not None else wire.Done(perf_counter() - start)
            case wire.Sample():
                sample = self._bench.sample(kernel)
                if isinstance(sample, Failed):
                    return wire.Ended(sample)
                return wire.Done(perf_counter() - start, sample)

    def _build(self, order: wire.Build) -> wire.Reply:
        self._forget()
        limit_memory(self._memory_limit_mb)
        built = self._bench.build(Config.from_json(order.config))
        if isinstance(built, Failed):
            return wire.Ended(built)
        self._kernel = built
        return wire.Built(built.compile_s)

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


def end_group() -> NoReturn:
    """Kill this process and its children: nobody is left who wants the result."""
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


def die_with_parent(sock: socket.socket, parent: int, tied_to_thread: bool) -> None:
    """Do not outlive the parent, however it ends.

    A thread sees the socket close; the kernel's own signal helps where C code holds the interpreter lock, but it comes
    when the parent's *thread* ends, so it is asked for only where that is the main thread (`tied_to_thread`).
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # so that daemons started by a kernel can still be found and killed
        if tied_to_thread:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                end_group()

    def watch() -> None:
        poll = select.poll()
        poll.register(sock, 0)
        while not any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in poll.poll()):
            pass
        end_group()

    threading.Thread(target=watch, name="autotune-parent-watch", daemon=True).start()


def load(payload_fd: int) -> Bench:
    """The bench of the workload in an open file; mapped, because all workers share the file's offset."""
    with open(payload_fd, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob:
        work = unpack(blob)
    return Bench(work)


def main(arguments: str) -> NoReturn:
    """Entry point; `arguments` is the JSON that `workers.Worker` writes."""
    settings = json.loads(arguments)
    for fd in (settings["socket"], settings["payload"]):
        os.set_inheritable(fd, False)
    sock = socket.socket(fileno=settings["socket"])
    die_with_parent(sock, settings["parent"], settings["tied_to_thread"])
    try:
        bench = load(settings["payload"])
    except (Exception, SystemExit) as error:
        sock.sendall(wire.encode(wire.Broken(describe(error))))
        os._exit(1)
    gc.collect()
    gc.freeze()  # what is loaded now stays: collecting after each config then costs next to nothing
    try:
        Post(sock, wire.decode_order).serve(Worker(bench, settings["memory_limit_mb"]).obey, wire.Ready())
    except Tainted as error:
        sys.stderr.write(str(error))
        sys.stderr.flush()
        os._exit(TAINTED_EXIT)
