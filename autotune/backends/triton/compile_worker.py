"""A compile worker: runs what a config launches on a GPU on paper, and says what the compiled kernels need."""

import mmap
import os
import socket
from contextlib import suppress
from time import perf_counter
from typing import Any, NoReturn

import msgspec

from autotune.backends.triton import arguments, fake_driver, messages, warm_up
from autotune.backends.triton.kernel import Launch, unpack
from autotune.backends.triton.messages import both_ends
from autotune.core.config import Config
from autotune.shell.formatting import describe_error
from autotune.shell.processes.child import OrderLoop

NICENESS = 5
"""The process that launches kernels must get a core when it wants one."""


class Loaded:
    """What all workers share: the user's functions, and stand-ins for the arguments of each workload.

    note: why the arguments could not be made without the GPU; then each worker is told what they are.
    """

    def __init__(self, parts: dict[str, Any]) -> None:
        self.launch = Launch(parts["kernel"], parts["build"], parts["options"])
        self.sets: tuple[arguments.ArgumentSet, ...] = unpack(parts["sets"])["arguments"]
        self.grid = parts["grid"]
        self.note = ""
        self.named: list[dict[str, Any]] = []
        try:
            with fake_driver.no_memory():
                made = [arguments.made(one, self.launch, parts["names"]) for one in self.sets]
            self.named = [arguments.make_stand_ins(arguments.described(named)) for named in made]
        except Exception as error:
            self.note = describe_error(error)


def load(payload_fd: int) -> Loaded:
    """What the nursery does before it forks."""
    import triton  # noqa: F401  # before the thread: two that import the same wait for one another

    summing = warm_up.begin()
    with open(payload_fd, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob:
        fake_driver.install("sm_90")  # for what a kernel's file asks when it is imported; workers have their own
        loaded = Loaded(unpack(blob))
    summing.join()
    warm_up.warm_up_compiler()
    return loaded


def run(loaded: Loaded, sock: socket.socket, settings: dict[str, Any]) -> NoReturn:
    """What a worker does. settings: `target`, and `arguments` where they could not be made here."""
    with suppress(OSError):
        os.nice(NICENESS)
    told = settings.get("arguments")
    if told is not None:
        described = msgspec.convert(told, list[messages.DescribedArguments])
        with suppress(ValueError):  # opaque: everything is compiled where it is run
            loaded.named = [arguments.make_stand_ins(one) for one in described]
    worker = CompileWorker(loaded, fake_driver.install(settings["target"]))
    OrderLoop(sock, messages.decode_order, scratch=os.environ.get("TMPDIR")).serve(worker.obey, messages.ReadyReply())


class CompileWorker:
    """Compiles one config after another."""

    def __init__(self, loaded: Loaded, driver: fake_driver.FakeDriver) -> None:
        self._loaded = loaded
        self._driver = driver

    def obey(self, order: messages.TritonOrder) -> messages.TritonReply:
        """Compile a config; its failure is a reply like another."""
        assert isinstance(order, messages.CompileOrder), "nothing else is asked of a compile worker"
        start = perf_counter()
        self._driver.launched.clear()
        try:
            self._launch(Config.from_json(order.config))
        except (Exception, SystemExit) as error:
            refused = isinstance(error, fake_driver.CompilerRefused)
            cause = error.__cause__ if refused and error.__cause__ is not None else error
            return messages.NotCompiled(perf_counter() - start, both_ends(cause), refused)
        kernels = tuple({kernel.hash: kernel for kernel in self._driver.launched}.values())
        return messages.Compiled(perf_counter() - start, kernels)

    def _launch(self, config: Config) -> None:
        loaded = self._loaded
        if len(loaded.named) != len(loaded.sets):
            raise ValueError(f"the arguments cannot be made without the GPU: {loaded.note}")
        with fake_driver.no_memory():
            for one, named in zip(loaded.sets, loaded.named, strict=True):
                loaded.launch.call(config, one.grid or loaded.grid)(named)
