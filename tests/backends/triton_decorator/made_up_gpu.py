"""GPUs that are made up: tensors that name them, torch's interface to them, and Triton's driver, which compiles for a
target, launches nothing and has a clock of its own."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import triton
from torch.overrides import TorchFunctionMode
from triton.runtime.driver import driver as active_driver

from autotune.backends.triton.fake_driver import FakeDriver
from autotune.shell.cache import identity

N = 1000
COST_MS = {1: 3.0, 2: 1.0, 4: 2.0}
"""The time of a launch by the number of warps."""


class _DeviceTensor(torch.Tensor):  # type: ignore[misc]
    """A tensor of this machine that names another device."""

    kind = ""

    @property
    def device(self) -> Any:
        return torch.device(self.kind, 0)

    @property
    def is_cuda(self) -> bool:
        return self.kind == "cuda"

    def get_device(self) -> int:
        return 0


class MadeUpGpu:
    """A GPU of this kind, by torch's name. target, driver: of Triton. clock_ms: of the device. launches: how many there
    were. capturing: whether a graph is being captured. free_bytes: of its memory; copied: how many tensors were made
    there.
    """

    def __init__(self, kind: str, target: str) -> None:
        self.kind = kind
        self.target = target
        self.tensors = type("DeviceTensor", (_DeviceTensor,), {"kind": kind})
        self.clock_ms = 0.0
        self.launches = 0
        self.capturing = False
        self.free_bytes = 1 << 40
        self.copied = 0
        self.driver = _Driver(self)

    def vectors(self) -> tuple[Any, Any, Any]:
        return tuple(torch.rand(N).as_subclass(self.tensors) for _ in range(3))  # type: ignore[return-value]


class Event:
    """A moment of the device's clock."""

    def __init__(self, gpu: MadeUpGpu) -> None:
        self._gpu, self.at = gpu, 0.0

    def record(self) -> None:
        self.at = self._gpu.clock_ms

    def elapsed_time(self, end: "Event") -> float:
        return end.at - self.at


class _Driver(FakeDriver):
    """Triton's driver for it."""

    def __init__(self, gpu: MadeUpGpu) -> None:
        super().__init__(gpu.target)
        self._gpu = gpu

    def get_current_device(self) -> int:
        """Not the number of the driver that compiles: the program's own binaries are for this one."""
        return 0

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        note = super().launcher_cls(source, metadata)

        def launch(*args: Any, **kwargs: Any) -> None:
            note(*args, **kwargs)
            self._gpu.launches += 1
            self._gpu.clock_ms += COST_MS[metadata.num_warps]

        return launch

    def get_device_interface(self) -> Any:
        return SimpleNamespace(Event=lambda enable_timing: Event(self._gpu), synchronize=lambda: None)

    def get_benchmarker(self) -> Any:
        return triton.testing.do_bench

    def get_empty_cache_for_benchmark(self) -> Any:
        return None

    def clear_cache(self, cache: Any) -> None:
        """There is none."""


class Placement(TorchFunctionMode):  # type: ignore[misc]
    """Tensors that are made on the device are made here."""

    def __init__(self, gpu: MadeUpGpu) -> None:
        self._gpu = gpu

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        device = named.get("device")
        if function is torch.device or device is None or torch.device(device).type != self._gpu.kind:
            return function(*args, **named)
        self._gpu.copied += 1
        return function(*args, **{**named, "device": "cpu"}).as_subclass(self._gpu.tensors)


@contextmanager
def in_place(gpu: MadeUpGpu, properties: Callable[..., Any], patch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """While it lasts, torch and Triton have this GPU, and the cache is empty. properties: as torch tells them."""
    interface = {
        "is_available": lambda: True,
        "current_device": lambda: 0,
        "get_device_properties": properties,
        "synchronize": lambda device=None: None,
        "mem_get_info": lambda device=None: (gpu.free_bytes, 1 << 40),
        "empty_cache": lambda: None,
        "is_current_stream_capturing": lambda: gpu.capturing,
        "init": lambda: None,
        "Event": lambda enable_timing: Event(gpu),
        "_sleep": lambda cycles: None,
    }
    for name, function in interface.items():
        patch.setattr(getattr(torch, gpu.kind), name, function, raising=False)
    patch.setattr(active_driver, "_active", gpu.driver)
    patch.setenv("AUTOTUNE_CACHE_DIR", str(folder / "cache"))
    patch.setenv("TRITON_CACHE_DIR", str(folder / "triton"))
    patch.setenv("AUTOTUNE_PROGRESS", "0")
    identity._accelerator.cache_clear()
    with Placement(gpu):
        yield
    identity._accelerator.cache_clear()
    gc.collect()  # Triton's kernels ask for the driver when they go
