"""A compile worker: it launches configs on a fake driver, and reports the needs of the compiled kernels.

`load` runs once, in the fork server; `run` is the main function of each worker that is forked from it.
"""

import mmap
import os
import socket
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NoReturn

import msgspec

from autotune.backends.triton import arguments, compiler, fake_driver, messages
from autotune.backends.triton.kernel import Grid, Launch, unpack_payload
from autotune.backends.triton.launches import record_launches
from autotune.backends.triton.meta_tensors import without_memory
from autotune.backends.triton.targets import target_of_make
from autotune.core.config import Config
from autotune.core.formatting import describe_error
from autotune.shell.processes.child import OrderLoop

NOT_THEIRS = ("TRITON_INTERPRET", "AUTOTUNE_TRITON_INSTALL")
"""Environment variables of the program that do not concern its workers."""
_NICENESS = 5
"""The process that launches kernels must get a core when it wants one."""


@dataclass(eq=False, kw_only=True)
class CompileTask:
    """What a compile worker launches for a config: the kernel, with each of these workloads.

    workloads: the arguments by name, and the grid. note: why the arguments cannot be made without the GPU; the session
    then tells each worker what they are, and `workloads` is empty. driver: of
    Triton, in a fork of the program; None: each worker is told what to compile for.
    """

    launch: Launch
    workloads: tuple[tuple[Mapping[str, Any], Grid | None], ...] = ()
    grids: tuple[Grid | None, ...] = ()
    note: str = ""
    driver: fake_driver.FakeDriver | None = None


def load(payload_fd: int) -> CompileTask:
    """Load the user's functions in the fork server, and make Triton's compiler ready."""
    import triton  # noqa: F401  # before the thread: two threads that import the same wait for one another

    compiler.start_hashing_triton()
    import torch  # noqa: F401  # tells the make of GPU

    with open(payload_fd, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob:
        outer = unpack_payload(blob)
    # The user's files ask for the target when they are imported; where it is not known yet, the make must be right.
    fake_driver.install(outer["target"] or target_of_make())
    parts = unpack_payload(outer["parts"])
    loaded = _make_task({**parts, "sets": unpack_payload(parts["sets"])["arguments"]})
    compiler.finish_hashing_triton()
    compiler.warm_up_compiler()
    return loaded


def _make_task(parts: dict[str, Any]) -> CompileTask:
    """The user's functions, with stand-ins for the arguments of each workload: all workers share them."""
    launch = Launch(parts["kernel"], parts["build"], parts["options"])
    sets: tuple[arguments.ArgumentSet, ...] = parts["sets"]
    task = CompileTask(launch=launch, grids=tuple(one.grid or parts["grid"] for one in sets))
    try:
        with without_memory():
            made = [arguments.make_arguments(one, launch, parts["names"]) for one in sets]
        described = [arguments.describe_arguments(named) for named in made]
        task.workloads = _pair([arguments.make_stand_ins(one) for one in described], task.grids)
    except Exception as error:
        task.note = describe_error(error)
    return task


def _pair(
    named: Sequence[Mapping[str, Any]], grids: Sequence[Grid | None]
) -> tuple[tuple[Mapping[str, Any], Grid | None], ...]:
    return tuple(zip(named, grids, strict=True))


def enter_worker(environment: Mapping[str, str]) -> None:
    """Make a fork of the program a worker: its variables differ, and it has no threads."""
    import torch

    for name in NOT_THEIRS:
        os.environ.pop(name, None)
    os.environ.update(environment)
    tempfile.tempdir = None
    torch.set_num_threads(1)  # the threads of the program have not been forked with it


def load_in_program(parts: dict[str, Any], target: str | None, environment: Mapping[str, str]) -> CompileTask:
    """The same in a fork of the program, which has the user's functions in memory. environment: what differs."""
    enter_worker(environment)
    fake_driver.install(target or target_of_make())
    task = _make_task(parts)
    compiler.warm_up_compiler()
    return task


def load_here(launch: Launch, named: Mapping[str, Any], target: str, scratch: str) -> CompileTask:
    """The task in a fork of the program, which has the kernel and its arguments in memory. The tensors may be on a GPU:
    the dispatcher looks at their types and addresses alone."""
    os.environ["TMPDIR"] = tempfile.tempdir = scratch
    driver = fake_driver.install(target, builds_launchers=True)
    return CompileTask(launch=launch, workloads=((named, None),), driver=driver)


def run(task: CompileTask, sock: socket.socket, settings: dict[str, Any]) -> NoReturn:
    """The main function of a worker. settings: `target`, and `arguments` where they could not be made here."""
    with suppress(OSError):
        os.nice(_NICENESS)
    told = settings.get("arguments")
    if told is not None:
        described = msgspec.convert(told, list[messages.DescribedArguments])
        with suppress(ValueError):  # opaque arguments: every config is compiled in the GPU worker
            task.workloads = _pair([arguments.make_stand_ins(one) for one in described], task.grids)
    worker = _CompileWorker(task, task.driver or fake_driver.install(settings["target"]))
    loop = OrderLoop(sock, messages.decode_order, scratch=os.environ.get("TMPDIR"))
    # LLVM changes signal handlers at its first use, which a fork of the program has not had.
    loop.serve(worker.obey, messages.ReadyReply(), joins=lambda _: task.driver is not None)


class _CompileWorker:
    """Compiles one config after another."""

    def __init__(self, task: CompileTask, driver: fake_driver.FakeDriver) -> None:
        self._task = task
        self._driver = driver

    def obey(self, order: messages.TritonOrder) -> messages.TritonReply:
        """Compile a config; its failure is a reply, too."""
        assert isinstance(order, messages.CompileOrder), "a compile worker gets no other orders"
        start = perf_counter()
        self._driver.launched.clear()
        self._driver.launches.clear()
        try:
            self._launch(Config.from_json(order.config))
        except (Exception, SystemExit) as error:
            refused = isinstance(error, compiler.CompilerRefused)
            cause = error.__cause__ if refused and error.__cause__ is not None else error
            return messages.NotCompiled(perf_counter() - start, compiler.describe_both_ends(cause), refused)
        kernels = tuple({kernel.hash: kernel for kernel in self._driver.launched}.values())
        return messages.Compiled(perf_counter() - start, kernels, self._record())

    def _launch(self, config: Config) -> None:
        task = self._task
        if not task.workloads:
            raise ValueError(f"the arguments cannot be made without the GPU: {task.note}")
        with nullcontext() if task.driver is not None else without_memory():
            for named, grid in task.workloads:
                task.launch.call(config, grid)(named)

    def _record(self) -> tuple[messages.RecordedLaunch, ...]:
        """The launches, where the tensors are those of the program: only then a replay would get them, too."""
        if self._task.driver is None:
            return ()
        ((named, _),) = self._task.workloads
        return record_launches(self._driver.launches, named)
