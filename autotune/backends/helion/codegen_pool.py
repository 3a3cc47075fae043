"""Code is generated in forks of the program, which know the kernel already; the program only loads the modules.

That takes about a tenth of a second a config, one after the other, so in one process it limits the whole search. Where
a fork fails and the program does not, all is generated in the program.

What torch says of the GPUs, kept for a fork: it may not ask CUDA, and code generation looks at the devices.

What a fork of the program does that generates the code of configs, one after another, until the program is gone.
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


@dataclass(frozen=True)
class KnownDevices:
    """properties: of each visible GPU, in torch's order. current: the number of the one in use."""

    properties: tuple[Any, ...]
    current: int

    @classmethod
    def now(cls) -> "KnownDevices | None":
        """Ask torch, in a process that may; None where there is no GPU of CUDA's kind."""
        if not torch.cuda.is_available():
            return None
        found = tuple(torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count()))
        return cls(found, torch.cuda.current_device())

    def index(self, device: Any = None) -> int:
        """The number that torch means by a device: the current one where it names none."""
        if isinstance(device, int):
            return device
        found: int | None = None if device is None else torch.device(device).index
        return self.current if found is None else found

    def stand_in(self) -> None:
        """Let these answer in this process, for good; whatever else would touch CUDA is an error.

        torch's interface of CUDA holds some of the functions by themselves. A fake tensor would first allocate one.
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


Generate = Callable[[Any], str]
"""From a config to the text of its module."""


@dataclass(frozen=True)
class GeneratedSource:
    """The text of a config's module; None where there is none, and why. When it was made, by time.perf_counter()."""

    text: str | None
    error: str = ""
    began: float = 0.0
    ended: float = 0.0


def serve_configs(connection: Connection, generate: Generate, devices: KnownDevices | None, parent: int) -> None:
    """Answer each config that comes with its Source. Nothing of the program is cleaned up here at the end."""
    status = 1
    try:
        if die_with_parent(parent):
            _settle_in(connection, devices)
            while True:
                connection.send(_source(generate, connection.recv()))
    except (EOFError, OSError):  # nobody wants any more
        status = 0
    finally:
        os._exit(status)


def _settle_in(connection: Connection, devices: KnownDevices | None) -> None:
    """Become a process that disturbs nobody."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program hears of it, and ends this
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    _let_go(connection.fileno())
    gc.freeze()  # what the program had made is the program's to destroy: tensors on the GPU are among it
    torch.set_num_threads(1)
    if devices is not None:
        devices.stand_in()


def _let_go(kept: int) -> None:
    """Hold no file of the program's: whoever reads a pipe shall see its end, and what is printed goes nowhere.

    The numbers stay taken, so that nothing is written to another file by its old number.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/dev/fd"):
        if int(name) not in (kept, nowhere):
            with suppress(OSError):
                os.dup2(nowhere, int(name))


def _source(generate: Generate, config: Any) -> GeneratedSource:
    began = time.perf_counter()
    try:
        text, error = generate(config), ""
    except Exception as raised:
        text, error = None, f"{type(raised).__name__}: {raised}"
    return GeneratedSource(text, error, began, time.perf_counter())


MOST = 4
"""Processes: so many keep up with the GPU, and leave the cores to the compilers."""

PATIENCE_S = 10.0
"""How long one may take for a config."""

GIVEN_UP = "Code is generated in the program, one config after another; processes for that are of no use: {reason}."


def generate_source(kernel: Any, config: Any) -> str:
    """The text that the kernel's compile_config would load as a module."""
    normalized = kernel._normalized_config_copy(config)
    text: str = kernel.to_triton_code(normalized, emit_repro_caller=kernel.settings.print_output_code)
    return text


def generates_same_source(kernel: Any, config: Any, text: str) -> bool:
    """Whether this process generates the same for a config."""
    try:
        return generate_source(kernel, config) == text
    except Exception:  # Helion's own code generation
        return False


@contextmanager
def with_source(kernel: Any, text: str | None) -> Iterator[None]:
    """Let the kernel find its code written already, where there is a text."""
    if text is None:
        yield
        return
    kernel.to_triton_code = lambda *_, **__: text
    try:
        yield
    finally:
        del kernel.to_triton_code


def make_codegen_pool(kernel: Any, jobs: int, warn: Callable[[str], Any]) -> "CodegenPool":
    """The processes for a kernel and so many compilers; none where its code has to be made in the program.

    That is so where sizes are not fixed: to generate code may then tell Helion for which other sizes it will do.
    """
    alike = kernel.settings.static_shapes and kernel.env.backend_name == "triton"
    return CodegenPool(partial(generate_source, kernel), max(1, min(MOST, jobs)) if alike else 0, warn)


class _Generator:
    """One process. config: what it works at, and since when; work: for whom, None where nobody waits any more."""

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

    def give(self, work: CompileJob, config: Any) -> None:
        self.work, self.config, self.until = work, config, time.perf_counter() + PATIENCE_S
        with suppress(OSError):  # it has ended, which is seen when its answer is taken
            self.connection.send(config)

    def answer(self) -> GeneratedSource | None:
        """What has come; None: not yet. Raises EOFError where nothing will."""
        if self.connection.poll():
            found: GeneratedSource = self.connection.recv()
            self.config, self.until = None, float("inf")
            return found
        if time.perf_counter() > self.until:
            raise EOFError(f"it had not answered after {PATIENCE_S:.0f} s")
        return None

    def end(self) -> int | None:
        """End it; its status, its own where it had ended. (To join with a timeout is to wait for ever: it has let go of
        the pipe that tells whether it lives.)
        """
        self.process.kill()
        self.process.join()
        return self.process.exitcode

    def close(self) -> None:
        self.end()
        self.connection.close()


class CodegenPool:
    """Orders go in with `give`, texts come out with `taken`; `connections` are readable when there are any.

    count: processes. warn: is told when they are given up.
    """

    def __init__(self, generate: Generate, count: int, warn: Callable[[str], Any] = str) -> None:
        self._warn = warn
        self._all: list[_Generator] = []
        self._lost: list[CompileJob] = []
        devices = KnownDevices.now() if count else None
        try:
            for _ in range(count):
                self._all.append(_Generator(generate, devices))
        except OSError as error:
            self.close()
            warn(GIVEN_UP.format(reason=f"they cannot be started ({error})"))

    def __len__(self) -> int:
        """Works in generation."""
        return len(self._lost) + sum(one.work is not None for one in self._all)

    @property
    def count(self) -> int:
        """Processes there are: 0 where the program has to generate the code."""
        return len(self._all)

    @property
    def free(self) -> bool:
        """Whether one of them could begin at once."""
        return any(one.config is None for one in self._all)

    @property
    def connections(self) -> list[Any]:
        """What becomes readable when one has answered, or ended."""
        return [one.connection for one in self._all]

    @property
    def seconds_left(self) -> float:
        """Until the first of them has had its time."""
        if self._lost:
            return 0.0
        return min((one.until for one in self._all), default=float("inf")) - time.perf_counter()

    def give(self, work: CompileJob, config: Any) -> None:
        """Let a free one generate a config."""
        next(one for one in self._all if one.config is None).give(work, config)

    def taken(self) -> list[tuple[CompileJob, GeneratedSource]]:
        """Whose texts have come. Those given up come without; they are, where one has ended or takes too long."""
        found: list[tuple[CompileJob, GeneratedSource]] = []
        for one in self._all:
            try:
                source = one.answer()
            except (EOFError, OSError) as error:
                self.give_up(str(error) or f"one has ended with status {one.end()}")
                break
            if source is not None and one.work is not None:
                found.append((one.work, source))
            if source is not None:
                one.work = None
        lost, self._lost = self._lost, []
        return found + [(work, GeneratedSource(None)) for work in lost]

    def cancel(self) -> None:
        """Nobody waits any more for what they work at."""
        self._lost.clear()
        for one in self._all:
            one.work = None

    def give_up(self, reason: str) -> None:
        """Have none any more, because of this; again does nothing."""
        if not self._all:
            return
        self._warn(GIVEN_UP.format(reason=reason))
        self._lost += [one.work for one in self._all if one.work is not None]
        self.close()

    def close(self) -> None:
        """End them; again does nothing."""
        ended, self._all = self._all, []
        for one in ended:
            one.close()
