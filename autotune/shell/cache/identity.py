"""The key of a tuning problem: the problem that its evaluator describes, the space, this device and this toolchain.

Nothing heavy is imported: torch is asked for the device only where the program has imported it.
"""

import os
import platform
import re
import sys
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct, structs

from autotune.core.arguments import argument_error
from autotune.core.errors import CacheError
from autotune.core.space import Space, as_space
from autotune.shell.cache.keys import (
    Constant,
    Device,
    Key,
    KeyKind,
    LooseKey,
    Specialization,
    StrictKey,
    Versions,
    compute_digest,
)
from autotune.shell.cache.sources import source_digest, specialization_of, value_digest
from autotune.shell.evaluators.callable import CallableEvaluator, as_evaluator
from autotune.shell.evaluators.settings import qualified_name
from autotune.version import __version__

_DRIVERS = ("/proc/driver/nvidia/version", "/sys/module/amdgpu/version", "/sys/module/i915/version")
"""Files in which Linux gives the version of a driver."""


@lru_cache(maxsize=1)
def installed_versions() -> Versions:
    """The versions of torch, triton, the device driver and this library; torch and triton are not imported."""
    return Versions(torch=_version("torch"), triton=_version("triton"), driver=_driver(), autotune=__version__)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _driver() -> str:
    for path in _DRIVERS:
        with suppress(OSError):
            found = re.search(r"\d+(?:\.\d+)+", Path(path).read_text())
            if found:
                return found.group()
    return ""


def current_device(index: int | None = None, kind: str | None = None) -> Device:
    """The accelerator that torch would use (or the one numbered `index`), or the processor without one.

    kind: torch's name for the kind of accelerator ("cuda", also of AMD's GPUs, "xpu", …); None: the first that is
    there. A program that uses an accelerator has imported torch; where it is not imported, the answer is the processor.
    """
    torch: Any = sys.modules.get("torch")
    for name in ("cuda", "xpu") if kind is None else (kind,):
        backend = getattr(torch, name, None)
        if backend is not None and backend.is_available():
            return _accelerator(torch, name, backend.current_device() if index is None else index)
    return processor() if kind in (None, "cpu") else Device(kind=str(kind), name=str(kind))


@lru_cache(maxsize=64)
def _accelerator(torch: Any, kind: str, index: int) -> Device:
    properties: Any = None
    with suppress(AttributeError, RuntimeError):  # some makes tell nothing
        properties = getattr(torch, kind).get_device_properties(index)
    name = str(getattr(properties, "name", kind))
    units = getattr(properties, "multi_processor_count", 0) or getattr(properties, "max_compute_units", 0)
    architecture = ""
    if kind == "cuda" and getattr(torch.version, "hip", None):
        kind, architecture = "hip", str(getattr(properties, "gcnArchName", "")).partition(":")[0]
    elif kind == "cuda":
        architecture = f"sm_{properties.major}{properties.minor}"
    return Device(kind=kind, name=name, architecture=architecture, units=units)


@lru_cache(maxsize=1)
def processor() -> Device:
    """The processor of this machine and the cores that this process may use."""
    name = platform.processor()
    with suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        name = found.group(1).strip() if found else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0
    return Device(kind="cpu", name=name or platform.machine(), architecture=platform.machine(), units=cores)


class Identity(Struct, frozen=True, kw_only=True):
    """The measured problem of an evaluator: the fields of `LooseKey` without the space."""

    kernel: str
    source: str
    specialization: Specialization
    device: Device
    extra: dict[str, str] = {}


@runtime_checkable
class Identified(Protocol):
    """An evaluator that describes its problem, so that it has a cache key."""

    def identity(self) -> Identity: ...


def resolve_key(key: Key | KeyKind | None, space: Space, evaluator: object) -> Key:
    """The key that the argument `key` of `tune` names: a key as it is, "strict" with the installed toolchain, "loose"
    or None without. Raises CacheError for anything else."""
    if isinstance(key, LooseKey | StrictKey):
        return key
    if key is None or (isinstance(key, str) and key == "loose"):
        return key_for(space, evaluator)
    if isinstance(key, str) and key == "strict":
        return StrictKey(key_for(space, evaluator), installed_versions())
    raise argument_error("key", key, 'a LooseKey or a StrictKey, "loose" or "strict", or leave it out', CacheError)


def key_for(space: Space, evaluator: object) -> LooseKey:
    """The loose key of a problem; raises CacheError if the evaluator does not describe its problem."""
    space, evaluator = as_space(space), as_evaluator(evaluator)
    if (reached := space.opaque) is not None:
        raise CacheError(f"{reached}, which is of this process only, so its results have no key in the cache")
    if isinstance(evaluator, Identified):
        found = evaluator.identity()
    elif isinstance(evaluator, CallableEvaluator):
        found = _identity_of_callable(evaluator)
    else:
        raise CacheError(
            f"a {type(evaluator).__name__} does not say what it measures, so its results have no key in the cache; "
            "pass key=LooseKey(…)"
        )
    return LooseKey(**structs.asdict(found), space=space.fingerprint)


def _identity_of_callable(evaluator: CallableEvaluator) -> Identity:
    build, make_args = evaluator.build, evaluator.make_args
    specialization = specialization_of(evaluator.args)
    if make_args is not None:
        specialization = Specialization({"make_args": Constant(source_digest(make_args))})
    check = [evaluator.rtol, evaluator.atol, _digest(evaluator.reference), _digest(evaluator.checker)]
    extra = {
        "check": compute_digest(check),
        "arguments": compute_digest([_argument_kind(arg) for arg in evaluator.args]),
    }
    if evaluator.timer is not None:
        extra["timer"] = _digest(evaluator.timer)
    return Identity(
        kernel=qualified_name(build),
        source=source_digest(build),
        specialization=specialization,
        device=_device(evaluator),
        extra=extra,
    )


def _argument_kind(arg: Any) -> str:
    """The type of an argument and its device: kernels treat an array of numpy and a tensor on a GPU differently."""
    kind, device = type(arg), getattr(getattr(arg, "device", None), "type", "")
    return f"{kind.__module__}.{kind.__qualname__} {device}".rstrip()


def _device(evaluator: CallableEvaluator) -> Device:
    """The device of the tensors. A user's timer is taken to time the accelerator, the wall clock the processor."""
    kinds = {str(getattr(getattr(arg, "device", None), "type", "cpu")) for arg in evaluator.args}
    accelerators = sorted(kinds - {"cpu", "meta"})
    if accelerators:
        return current_device(kind=accelerators[0])
    return current_device() if evaluator.timer is not None else processor()


def _digest(part: Any) -> str:
    """The digest of a function or of an expected output; "" for None."""
    return "" if part is None else source_digest(part) if callable(part) else value_digest(part)
