"""Which device and which toolchain this process has, as far as a key wants to know. Nothing heavy is imported."""

import os
import platform
import re
import sys
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from autotune.shell.cache.keys import Device, Versions
from autotune.version import __version__

DRIVERS = ("/proc/driver/nvidia/version", "/sys/module/amdgpu/version", "/sys/module/i915/version")
"""Where Linux tells the version of a driver."""


@lru_cache(maxsize=1)
def installed_versions() -> Versions:
    """The versions of torch, triton, the device driver and this library; torch and triton are not imported for it."""
    return Versions(_version("torch"), _version("triton"), _driver(), __version__)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _driver() -> str:
    for path in DRIVERS:
        with suppress(OSError):
            found = re.search(r"\d+(?:\.\d+)+", Path(path).read_text())
            if found:
                return found.group()
    return ""


def current_device(index: int | None = None) -> Device:
    """The accelerator that torch would use (or the one numbered `index`), or the processor without one.

    A program that uses an accelerator has imported torch; where it is not imported, the answer is the processor.
    """
    torch: Any = sys.modules.get("torch")
    for kind in ("cuda", "xpu"):
        backend = getattr(torch, kind, None)
        if backend is not None and backend.is_available():
            return _accelerator(torch, kind, backend.current_device() if index is None else index)
    return processor()


@lru_cache(maxsize=64)
def _accelerator(torch: Any, kind: str, index: int) -> Device:
    properties = getattr(torch, kind).get_device_properties(index)
    units = getattr(properties, "multi_processor_count", 0) or getattr(properties, "max_compute_units", 0)
    if kind == "cuda" and getattr(torch.version, "hip", None):
        return Device("hip", properties.name, str(getattr(properties, "gcnArchName", "")).partition(":")[0], units)
    architecture = f"sm_{properties.major}{properties.minor}" if kind == "cuda" else ""
    return Device(kind, properties.name, architecture, units)


@lru_cache(maxsize=1)
def processor() -> Device:
    """The processor of this machine and the cores that this process may use."""
    name = platform.processor()
    with suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        name = found.group(1).strip() if found else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0
    return Device("cpu", name or platform.machine(), platform.machine(), cores)
