"""A compile worker: it launches configs on a fake driver, and reports the needs of the compiled kernels.

`load` runs once, in the fork server; `run` is the main function of each worker that is forked from it.
"""

import mmap
import os
import socket
from contextlib import suppress
from time import perf_counter
from typing import Any, NoReturn

import msgspec

from autotune.backends.triton import arguments, compiler, fake_driver, messages
from autotune.backends.triton.kernel import Launch, unpack_payload
from autotune.backends.triton.meta_tensors import without_memory
from autotune.backends.triton.targets import target_of_make
from autotune.core.config import Config
from autotune.shell.formatting import describe_error
from autotune.shell.processes.child import OrderLoop

_NICENESS = 5
"""The process that launches kernels must get a core when it wants one."""


class CompilePayload:
    """The user's functions, and stand-ins for the arguments of each workload: all workers share them.

    note: why the arguments cannot be made without the GPU; the session then tells each worker what they are.
    """

    def __init__(self, parts: dict[str, Any]) -> None:
        self.launch = Launch(parts["kernel"], parts["build"], parts["options"])
        self.sets: tuple[arguments.ArgumentSet, ...] = unpack_payload(parts["sets"])["arguments"]
        self.grid = parts["grid"]
        self.note = ""
        self.stand_ins: list[dict[str, Any]] = []
        try:
            with without_memory():
                made = [arguments.make_arguments(one, self.launch, parts["names"]) for one in self.sets]
            self.stand_ins = [arguments.make_stand_ins(arguments.describe_arguments(named)) for named in made]
        except Exception as error:
            self.note = describe_error(error)


def load(payload_fd: int) -> CompilePayload:
    """Load the user's functions in the fork server, and make Triton's compiler ready."""
    import triton  # noqa: F401  # before the thread: two threads that import the same wait for one another

    hashing = compiler.start_hashing_triton()
    import torch  # noqa: F401  # tells the make of GPU

    with open(payload_fd, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob:
        outer = unpack_payload(blob)
    # The user's files ask for the target when they are imported; where it is not known yet, the make must be right.
    fake_driver.install(outer["target"] or target_of_make())
    loaded = CompilePayload(unpack_payload(outer["parts"]))
    hashing.join()
    compiler.warm_up_compiler()
    return loaded


def run(loaded: CompilePayload, sock: socket.socket, settings: dict[str, Any]) -> NoReturn:
    """The main function of a worker. settings: `target`, and `arguments` where they could not be made here."""
    with suppress(OSError):
        os.nice(_NICENESS)
    told = settings.get("arguments")
    if told is not None:
        described = msgspec.convert(told, list[messages.DescribedArguments])
        with suppress(ValueError):  # opaque arguments: every config is compiled in the GPU worker
            loaded.stand_ins = [arguments.make_stand_ins(one) for one in described]
    worker = _CompileWorker(loaded, fake_driver.install(settings["target"]))
    loop = OrderLoop(sock, messages.decode_order, scratch=os.environ.get("TMPDIR"))
    loop.serve(worker.obey, messages.ReadyReply())


class _CompileWorker:
    """Compiles one config after another."""

    def __init__(self, loaded: CompilePayload, driver: fake_driver.FakeDriver) -> None:
        self._loaded = loaded
        self._driver = driver

    def obey(self, order: messages.TritonOrder) -> messages.TritonReply:
        """Compile a config; its failure is a reply, too."""
        assert isinstance(order, messages.CompileOrder), "a compile worker gets no other orders"
        start = perf_counter()
        self._driver.launched.clear()
        try:
            self._launch(Config.from_json(order.config))
        except (Exception, SystemExit) as error:
            refused = isinstance(error, compiler.CompilerRefused)
            cause = error.__cause__ if refused and error.__cause__ is not None else error
            return messages.NotCompiled(perf_counter() - start, compiler.describe_both_ends(cause), refused)
        kernels = tuple({kernel.hash: kernel for kernel in self._driver.launched}.values())
        return messages.Compiled(perf_counter() - start, kernels)

    def _launch(self, config: Config) -> None:
        loaded = self._loaded
        if len(loaded.stand_ins) != len(loaded.sets):
            raise ValueError(f"the arguments cannot be made without the GPU: {loaded.note}")
        with without_memory():
            for one, named in zip(loaded.sets, loaded.stand_ins, strict=True):
                loaded.launch.call(config, one.grid or loaded.grid)(named)
