"""Processes that generate the code of configs: forks of the program, which have the kernel already.

Generating takes about a tenth of a second for each config, so one process would limit the whole search; the program
only loads the modules. A fork must not touch CUDA, but code generation looks at the devices, so the fork gets torch's
answers from before the fork. If a fork fails where the program does not, all code is generated in the program.
"""

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import torch

from autotune.backends.helion.compile_pool import NICENESS, CompileJob
from autotune.backends.helion.prestart import die_with_parent
from autotune.shell.processes.os_process import redirect_files

Generate = Callable[[Any], str]
"""Makes the text of a config's module."""

_MOST = 4
"""Processes at most: four keep up with a GPU, and leave the cores to the compilers."""

PATIENCE_S = 10.0
"""Seconds that a process may take for one config: a hundred times the usual time."""

_ABANDONED = "Code is generated in the program, one config after another; processes for that are of no use: {reason}."


@dataclass(frozen=True)
class KnownDevices:
    """torch's answers about the GPUs. properties: of each visible one, in torch's order; current: the number in use."""

    properties: tuple[Any, ...]
    current: int

    @classmethod
    def ask(cls) -> "KnownDevices | None":
        """Ask torch, in a process that may use CUDA; None if there is no GPU."""
        if not torch.cuda.is_available():
            return None
        found = tuple(torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count()))
        return cls(found, torch.cuda.current_device())

    def index(self, device: Any = None) -> int:
        """The number of a device of torch; of a device without a number the current one."""
        if isinstance(device, int):
            return device
        found: int | None = None if device is None else torch.device(device).index
        return self.current if found is None else found

    def replace_torch(self) -> None:
        """Replace torch's functions in this process, for good; any other use of CUDA is an error.

        torch's device interface keeps references to some of the functions. A fake tensor would initialise CUDA first.
        """
        from torch._dynamo.device_interface import CudaInterface
        from torch._subclasses import fake_tensor

        answers: dict[str, Callable[..., Any]] = {
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "device_count": lambda: len(self.properties),
            "current_device": lambda: self.current,
            "get_device_properties": lambda device=None: self.properties[self.index(device)],
            "get_device_capability": self._capability,
            "get_device_name": lambda device=None: self.properties[self.index(device)].name,
            "_lazy_init": _refuse,
        }
        for name, answer in answers.items():
            setattr(torch.cuda, name, answer)
        for name in ("current_device", "device_count", "get_device_properties"):
            setattr(CudaInterface, name, staticmethod(answers[name]))
        fake_tensor.init_gpu_context = lambda *device: None

    def _capability(self, device: Any = None) -> tuple[int, int]:
        found = self.properties[self.index(device)]
        return found.major, found.minor


def _refuse() -> NoReturn:
    raise RuntimeError("generating code has asked for CUDA, which a fork cannot use")


@dataclass(frozen=True, kw_only=True)
class GeneratedSource:
    """The text of a config's module; None if there is none, and the error. began, ended: by time.perf_counter()."""

    text: str | None
    error: str = ""
    began: float = 0.0
    ended: float = 0.0


def serve_configs(connection: Connection, generate: Generate, devices: KnownDevices | None, parent: int) -> None:
    """The main loop of a fork: answer each config with its GeneratedSource until the program is gone.

    It ends by `os._exit`, so that the fork cleans up nothing of the program's.
    """
    status = 1
    try:
        if die_with_parent(parent):
            _detach(connection, devices)
            while True:
                connection.send(_generate(generate, connection.recv()))
    except (EOFError, OSError):  # the program has closed its end
        status = 0
    finally:
        os._exit(status)


def _detach(connection: Connection, devices: KnownDevices | None) -> None:
    """Detach the fork from the program: its signals, its files, its objects, CUDA; and lower its priority."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program handles it, and ends this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    redirect_files({connection.fileno()})
    gc.freeze()  # the program's objects are the program's to destroy, such as tensors on the GPU
    torch.set_num_threads(1)
    if devices is not None:
        devices.replace_torch()


def _generate(generate: Generate, config: Any) -> GeneratedSource:
    began = time.perf_counter()
    try:
        text, error = generate(config), ""
    except Exception as raised:
        text, error = None, f"{type(raised).__name__}: {raised}"
    return GeneratedSource(text=text, error=error, began=began, ended=time.perf_counter())


def generate_source(kernel: Any, config: Any) -> str:
    """The text of the module that the kernel's `compile_config` would load."""
    normalized = kernel._normalized_config_copy(config)
    text: str = kernel.to_triton_code(normalized, emit_repro_caller=kernel.settings.print_output_code)
    return text


def generates_same_source(kernel: Any, config: Any, text: str) -> bool:
    try:
        return generate_source(kernel, config) == text
    except Exception:  # of Helion's code generation, which may raise anything
        return False


@contextmanager
def with_source(kernel: Any, text: str | None) -> Iterator[None]:
    """Let the kernel use this text as its code inside of the context; None: let it generate its code."""
    if text is None:
        yield
        return
    kernel.to_triton_code = lambda *_, **__: text
    try:
        yield
    finally:
        del kernel.to_triton_code


def make_codegen_pool(kernel: Any, jobs: int, warn: Callable[[str], Any]) -> "CodegenPool":
    """The pool for a kernel. jobs: the number of compilers. warn: called with the reason if the pool is abandoned.

    Without fixed sizes it has no processes: generating code then tells Helion for which other sizes it holds, so it
    must happen in the program.
    """
    alike = kernel.settings.static_shapes and kernel.env.backend_name == "triton"
    return CodegenPool(partial(generate_source, kernel), max(1, min(_MOST, jobs)) if alike else 0, warn)


class _CodegenProcess:
    """One process. config: its order, until the deadline `until`. work: the compile job that waits; None: cancelled."""

    def __init__(self, generate: Generate, devices: KnownDevices | None) -> None:
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve_configs, args=(theirs, generate, devices, os.getpid()), daemon=True)
        try:
            self.process.start()
        except OSError:
            self.connection.close()
            raise
        finally:
            theirs.close()
        self.work: CompileJob | None = None
        self.config: Any = None
        self.until = float("inf")

    def send(self, work: CompileJob, config: Any) -> None:
        self.work, self.config, self.until = work, config, time.perf_counter() + PATIENCE_S
        with suppress(OSError):  # it has ended, which `answer` finds out
            self.connection.send(config)

    def answer(self) -> GeneratedSource | None:
        """The answer; None if there is none yet. Raises EOFError if there will be none."""
        if self.connection.poll():
            found: GeneratedSource = self.connection.recv()
            self.config, self.until = None, float("inf")
            return found
        if time.perf_counter() > self.until:
            raise EOFError(f"it had not answered after {PATIENCE_S:.0f} s")
        return None

    def end(self) -> int | None:
        """Kill the process if it lives. Returns its exit status.

        `join` gets no timeout: the process has closed the pipe that would wake it, so that it would last for ever.
        """
        self.process.kill()
        self.process.join()
        return self.process.exitcode

    def close(self) -> None:
        self.end()
        self.connection.close()


class CodegenPool:
    """The processes that generate code: `send` gives a config to one, `poll` collects their texts.

    count: the number of processes. warn: called with the reason if they are abandoned.
    """

    def __init__(self, generate: Generate, count: int, warn: Callable[[str], Any] = str) -> None:
        self._warn = warn
        self._processes: list[_CodegenProcess] = []
        self._lost: list[CompileJob] = []
        devices = KnownDevices.ask() if count else None
        try:
            for _ in range(count):
                self._processes.append(_CodegenProcess(generate, devices))
        except OSError as error:
            self.close()
            warn(_ABANDONED.format(reason=f"they cannot be started ({error})"))

    def __len__(self) -> int:
        """The number of compile jobs whose code is being generated."""
        return len(self._lost) + sum(one.work is not None for one in self._processes)

    @property
    def count(self) -> int:
        """The number of processes; 0: the program has to generate the code."""
        return len(self._processes)

    @property
    def free(self) -> bool:
        """Whether a process could begin at once."""
        return any(one.config is None for one in self._processes)

    @property
    def connections(self) -> list[Any]:
        """The connections that become readable when a process has answered or ended."""
        return [one.connection for one in self._processes]

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline of the first process."""
        if self._lost:
            return 0.0
        return min((one.until for one in self._processes), default=float("inf")) - time.perf_counter()

    def send(self, work: CompileJob, config: Any) -> None:
        next(one for one in self._processes if one.config is None).send(work, config)

    def poll(self) -> list[tuple[CompileJob, GeneratedSource]]:
        """The compile jobs whose code has come; without a text if a process has ended or takes too long."""
        found: list[tuple[CompileJob, GeneratedSource]] = []
        for one in self._processes:
            try:
                source = one.answer()
            except (EOFError, OSError) as error:
                self.abandon(str(error) or f"one has ended with status {one.end()}")
                break
            if source is not None and one.work is not None:
                found.append((one.work, source))
            if source is not None:
                one.work = None
        lost, self._lost = self._lost, []
        return found + [(work, GeneratedSource(text=None)) for work in lost]

    def cancel(self) -> None:
        """Cancel all jobs; the processes go on, and their texts are dropped."""
        self._lost.clear()
        for one in self._processes:
            one.work = None

    def abandon(self, reason: str) -> None:
        """End all processes and warn of the reason; the jobs come without a text. A second call does nothing."""
        if not self._processes:
            return
        self._warn(_ABANDONED.format(reason=reason))
        self._lost += [one.work for one in self._processes if one.work is not None]
        self.close()

    def close(self) -> None:
        """End all processes. A second call does nothing."""
        ended, self._processes = self._processes, []
        for one in ended:
            one.close()
