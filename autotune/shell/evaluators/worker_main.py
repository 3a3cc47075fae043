"""A worker process of `CallableEvaluator`: it loads the workload once, then builds and runs configs as it is ordered.

`isolated.pool_of` starts it behind a supervisor, in a session of its own, with three descriptors: a socket to the
parent, the file of the workload, and stderr. stdin and stdout are /dev/null, so that nothing that a kernel prints, even
from C, can reach the socket.
"""

import gc
import mmap
import os
import resource
import socket
from collections.abc import Callable
from time import perf_counter
from typing import Any, NoReturn, Protocol, TypeVar

from autotune.core.config import Config
from autotune.core.formatting import describe_error
from autotune.core.outcomes import Failed, Outcome
from autotune.shell.evaluators import messages
from autotune.shell.evaluators.bench import Bench, Tainted
from autotune.shell.evaluators.workload import unpack
from autotune.shell.processes.child import OrderLoop
from autotune.shell.processes.messages import Broken, encode

TAINTED_EXIT = 70
"""The exit code of a worker whose inputs or expected output a config has overwritten."""


K = TypeVar("K", bound="BuildTime")
"""A built config."""


class BuildTime(Protocol):
    """A built config, and the seconds that its build took."""

    compile_s: float


class ConfigTimer(Protocol[K]):
    """Builds and times the configs of one workload; see `bench.Bench`."""

    def build(self, config: Config) -> K | Failed: ...

    def run(self, kernel: K, cutoff_ms: float | None, budget_s: float, /) -> Outcome: ...

    def prepare(self, kernel: K, /) -> Failed | None: ...

    def sample(self, kernel: K, /) -> float | Failed: ...

    def verify(self, kernel: K, /) -> Failed | None: ...


def main(settings: dict[str, Any]) -> NoReturn:
    """Entry point of the process. settings: `memory_limit_mb`, and the settings of `boot`."""
    serve(settings, load)


def serve(settings: dict[str, Any], load: Callable[[int], ConfigTimer[Any]]) -> NoReturn:
    """Build and time configs as the parent orders. load: makes the timer from the file that the parent has written.

    settings: those of `boot`; optionally `memory_limit_mb`, and `scratch`, a folder that is made again if it is gone.
    """
    for fd in (settings["socket"], settings["payload"]):
        os.set_inheritable(fd, False)
    sock = socket.socket(fileno=settings["socket"])
    limit_mb = settings.get("memory_limit_mb")
    try:
        bench = load(settings["payload"])
    except (Exception, SystemExit) as error:
        sock.sendall(encode(Broken(describe_error(error))))
        os._exit(1)
    gc.collect()
    gc.freeze()  # the loaded objects stay: collecting after each config then costs next to nothing
    loop = OrderLoop(sock, messages.decode_order, limit_mb is not None, settings.get("scratch"))
    try:
        loop.serve(ConfigBench(bench, limit_mb).obey, messages.Ready())
    except Tainted as error:
        loop.end(str(error), TAINTED_EXIT)


def load(payload_fd: int) -> Bench:
    """The bench of the workload in an open file; mapped, because all workers share the file's offset."""
    with open(payload_fd, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob:
        work = unpack(blob)
    return Bench(work)


class ConfigBench:
    """The workload of a worker, and the config that is built in it."""

    def __init__(self, bench: ConfigTimer[Any], memory_limit_mb: int | None) -> None:
        self._bench = bench
        self._memory_limit_mb = memory_limit_mb
        self._kernel: BuildTime | None = None

    def obey(self, order: messages.Order) -> messages.Reply:
        """Carry out an order; a config that has its outcome is dropped."""
        reply = self._obey(order)
        if isinstance(reply, messages.Ended):
            self._drop()
        return reply

    def _obey(self, order: messages.Order) -> messages.Reply:
        if isinstance(order, messages.Build):
            return self._build(order)
        kernel = self._kernel
        assert kernel is not None, "the parent builds before it runs"
        start = perf_counter()
        match order:
            case messages.RunBuilt(cutoff_ms, budget_s):
                return messages.Ended(self._bench.run(kernel, cutoff_ms, budget_s))
            case messages.Prepare():
                found: float | Failed | None = self._bench.prepare(kernel)
            case messages.Sample():
                found = self._bench.sample(kernel)
            case messages.Verify():
                found = self._bench.verify(kernel)
        if isinstance(found, Failed):
            return messages.Ended(found)
        return messages.StepDone(perf_counter() - start, found)

    def _build(self, order: messages.Build) -> messages.Reply:
        self._drop()
        limit_memory(self._memory_limit_mb)
        built = self._bench.build(Config.from_json(order.config))
        if isinstance(built, Failed):
            return messages.Ended(built)
        self._kernel = built
        return messages.Built(built.compile_s)

    def _drop(self) -> None:
        if self._kernel is not None:
            self._kernel = None
            gc.collect()


def limit_memory(limit_mb: int | None) -> None:
    """Let the address space grow by so many MiB from here on: this config must not pay for leaks of earlier ones."""
    if limit_mb is None:
        return
    with open("/proc/self/statm") as file:
        in_use = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = in_use + limit_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
