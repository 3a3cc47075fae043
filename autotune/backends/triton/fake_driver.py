"""A driver without a GPU: Triton's own dispatcher runs as on a real device, compiles, and launches nothing.

So the compile workers compile exactly what the GPU worker will ask for, down to the hash: Triton's code, and not a copy
of it, decides on signatures, on the integers that are 1 or divisible by 16, on alignments, options and their defaults.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from autotune.backends.triton import compiler
from autotune.backends.triton.binaries import read_binary
from autotune.backends.triton.messages import CompiledKernel
from autotune.backends.triton.targets import Target, parse_target

_DEVICE = 1 << 16
"""The number of the device. A fork of a program that uses GPUs holds binaries for those, and must not launch them."""
_OWN_ARGUMENTS = 9
"""Arguments of a launcher before the kernel's: grid, stream, function, metadata of the kernel and the launch, hooks."""
_PLENTY = 1 << 30
"""More than any kernel needs of a device: the session decides from the figures whether a kernel fits."""


class _DriverUtilities:
    """The part of a driver that loads binaries and knows the device."""

    def __init__(self, target: Target, load: Callable[[str, bytes], None]) -> None:
        self._target = target
        self._load = load

    def get_device_properties(self, device: int) -> dict[str, int | str]:
        """A device that has enough of everything. AMD's driver gives the architecture, too."""
        return {
            "max_shared_mem": _PLENTY, "max_num_regs": 65536, "multiprocessor_count": 132,
            "warpSize": self._target.warp_size, "sm_clock_rate": 1, "mem_clock_rate": 1, "mem_bus_width": 1,
            **({"arch": str(self._target.arch)} if self._target.backend == "hip" else {}),
        }  # fmt: skip

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> tuple[int, int, int, int, int]:
        """Module, function, registers, spills and threads; nothing is loaded."""
        self._load(name, binary)
        return 1, 1, 0, 0, _PLENTY

    def unload_module(self, module: int) -> None:
        """Nothing was loaded."""


@dataclass(frozen=True, eq=False)
class FakeLaunch:
    """A launch that did not take place. source, metadata: Triton's, of the kernel. grid, arguments: as they would go to
    the device."""

    source: Any
    metadata: Any
    grid: tuple[Any, ...]
    arguments: tuple[Any, ...]


class FakeDriver:
    """Triton's driver for a target such as "sm_90" or "gfx942". launched: the kernels that are launched. launches: in
    order."""

    def __init__(self, target: str) -> None:
        self._target = parse_target(target)
        self.utils = _DriverUtilities(self._target, self._load)
        self.launched: list[CompiledKernel] = []
        self.launches: list[FakeLaunch] = []
        self._metadata: Any = None
        self._kernels: dict[str, CompiledKernel] = {}

    def get_current_target(self) -> Any:
        return self._target.as_triton()

    def get_current_device(self) -> int:
        return _DEVICE

    def set_current_device(self, device: int) -> None:
        """There is only one device."""

    def get_current_stream(self, device: int | None = None) -> int:
        """The default stream."""
        return 0

    def get_active_torch_device(self) -> Any:
        """The files of kernels ask for it when they are imported. torch calls AMD's GPUs "cuda", too."""
        import torch

        return torch.device("cuda", 0)

    def get_device_interface(self) -> Any:
        import torch

        return torch.cuda

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        """A launcher that notes the kernel it is told to launch."""
        self._metadata = metadata

        def launch(*args: Any, **_: Any) -> None:
            self.launched.append(self._kernels[metadata.hash])
            self.launches.append(FakeLaunch(source, metadata, args[:3], args[_OWN_ARGUMENTS:]))

        return launch

    def _load(self, name: str, binary: bytes) -> None:
        of, found = self._metadata, read_binary(self._target.backend, binary, name)
        self._kernels[of.hash] = CompiledKernel(
            name=name,
            hash=of.hash,
            shared_bytes=of.shared + (0 if found is None else found.shared_bytes),
            threads=of.num_warps * of.warp_size,
            registers=None if found is None else found.registers,
            spill_bytes=None if found is None else found.local_bytes,
            agprs=None if found is None else found.agprs,
            sgprs=None if found is None else found.sgprs,
            blocks=getattr(of, "num_ctas", 1),
        )


def install(target: str, builds_launchers: bool = False) -> FakeDriver:
    """Make Triton compile for `target`, and raise CompilerRefused where it does not.

    builds_launchers: see `compiler.LauncherBuilder`.
    """
    from triton.runtime.driver import driver

    fake = FakeDriver(target)
    driver.set_active(fake)
    compiler.mark_errors(compiler.LauncherBuilder(parse_target(target).backend) if builds_launchers else None)
    return fake


@contextmanager
def import_for(target: str) -> Iterator[None]:
    """While it lasts, files of kernels can be imported that ask for the target, or make tensors, where no GPU is."""
    try:
        from triton.runtime.driver import driver
    except ImportError:  # the file will say so, if it needs Triton
        yield
        return
    before = dict(vars(driver))  # where it keeps the active driver depends on the version
    driver.set_active(FakeDriver(target))
    try:
        yield
    finally:
        vars(driver).clear()
        vars(driver).update(before)
