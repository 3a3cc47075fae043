"""A driver without a GPU: Triton's own dispatcher runs as on a real device, compiles, and launches nothing.

So the compile workers compile exactly what the GPU worker will ask for, down to the hash: Triton's code, and not a copy
of it, decides on signatures, on the integers that are 1 or divisible by 16, on alignments, options and their defaults.
"""

from collections.abc import Callable
from typing import Any

from autotune.backends.triton import compiler
from autotune.backends.triton.messages import CompiledKernel
from autotune.backends.triton.resources import WARP, arch_of, read_cubin

_PLENTY = 1 << 30
"""More than any kernel needs of a device: the session decides from the figures whether a kernel fits."""


class _DriverUtilities:
    """The part of a driver that loads binaries and knows the device."""

    def __init__(self, load: Callable[[str, bytes], None]) -> None:
        self._load = load

    def get_device_properties(self, device: int) -> dict[str, int]:
        """A device that has enough of everything."""
        return {
            "max_shared_mem": _PLENTY, "max_num_regs": 65536, "multiprocessor_count": 132, "warpSize": WARP,
            "sm_clock_rate": 1, "mem_clock_rate": 1, "mem_bus_width": 1,
        }  # fmt: skip

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> tuple[int, int, int, int, int]:
        """Module, function, registers, spills and threads; nothing is loaded."""
        self._load(name, binary)
        return 1, 1, 0, 0, _PLENTY

    def unload_module(self, module: int) -> None:
        """Nothing was loaded."""


class FakeDriver:
    """Triton's driver for a target such as "sm_90". `launched` collects the kernels that are launched."""

    def __init__(self, target: str) -> None:
        self.utils = _DriverUtilities(self._load)
        self.launched: list[CompiledKernel] = []
        self._arch = arch_of(target)
        self._metadata: Any = None
        self._kernels: dict[str, CompiledKernel] = {}

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self._arch, WARP)

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        """There is only one device."""

    def get_current_stream(self, device: int | None = None) -> int:
        """The default stream."""
        return 0

    def get_active_torch_device(self) -> Any:
        """The files of kernels ask for it when they are imported."""
        import torch

        return torch.device("cuda", 0)

    def get_device_interface(self) -> Any:
        import torch

        return torch.cuda

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        """A launcher that notes the kernel it is told to launch."""
        self._metadata = metadata

        def launch(*_: Any, **__: Any) -> None:
            self.launched.append(self._kernels[metadata.hash])

        return launch

    def _load(self, name: str, binary: bytes) -> None:
        of, found = self._metadata, read_cubin(binary, name)
        registers, spill_bytes = (None, None) if found is None else found
        self._kernels[of.hash] = CompiledKernel(
            name=name, hash=of.hash, shared_bytes=of.shared, threads=of.num_warps * of.warp_size, registers=registers,
            spill_bytes=spill_bytes, blocks=getattr(of, "num_ctas", 1),
        )  # fmt: skip


def install(target: str) -> FakeDriver:
    """Make Triton compile for `target`, and raise CompilerRefused where it does not."""
    from triton.runtime.driver import driver

    fake = FakeDriver(target)
    driver.set_active(fake)
    compiler.mark_errors()
    return fake
