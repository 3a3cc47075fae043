"""A Triton kernel: how a config is launched, and how the kernel travels to worker processes.

A config's values go to the kernel by name, to the options of the launch, and to the grid.

Triton's kernel objects hold locks and compiled binaries, which cannot travel. A kernel travels by name where a worker
can import it, else as the Python function, the lines that it was written in (Triton reads those, and hashes where they
begin), and the arguments of the decorator.
"""

import gc
import inspect
import io
import linecache
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from itertools import takewhile
from mmap import mmap
from typing import IO, Any

import cloudpickle

from autotune.backends.triton.device_memory import borrow, lend
from autotune.backends.triton.launch_options import launch_options
from autotune.backends.triton.messages import RecordedLaunch
from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.shell.cache.sources import is_triton_kernel
from autotune.shell.evaluators.tensors import is_tensor
from autotune.shell.evaluators.workload import is_importable, pickled_by_value

Grid = Sequence[int] | Callable[[Mapping[str, Any]], Sequence[int]]
Hook = Callable[[dict[str, Any]], Any]
"""Called with the arguments by name, before or after a launch."""


@dataclass(frozen=True, eq=False)
class Launch:
    """A jitted kernel, or a `build` function in its place, and how to call it with one set of arguments."""

    kernel: Any = None
    build: Callable[[Config], Callable[..., Any]] | None = None
    options: Mapping[str, Any] | None = None

    def names(self, arguments: Sequence[Any] | Mapping[str, Any], config: Sequence[str] = ()) -> tuple[str, ...]:
        """The names of the arguments: the keys of a mapping, the kernel's parameters, or the positions.

        config: the names that a config sets. Raises EvaluatorError for more arguments than there are parameters.
        """
        if isinstance(arguments, Mapping):
            return tuple(map(str, arguments))
        if self.kernel is None:
            return tuple(map(str, range(len(arguments))))
        taken = frozenset(config)
        free = [name for name in self.kernel.arg_names if name not in taken]
        if len(arguments) > len(free):
            raise EvaluatorError(
                f"there are {len(arguments)} arguments, and the kernel {self.kernel.__name__!r} has"
                f" {len(free)} parameters that the config does not set; give them by name, as a dict"
            )
        return tuple(free[: len(arguments)])

    def record(self, config: Config, launches: tuple[RecordedLaunch, ...]) -> None:
        """Nothing: the kernel is here, and need not be replayed."""

    def forget(self) -> None:
        """Drop the binaries of the config that was launched last, and everything that its function held."""
        caches = getattr(self.kernel, "device_caches", None)
        if caches is not None:
            for cache in caches.values():
                cache[0].clear()
        elif self.build is not None:
            gc.collect()

    def call(self, config: Config, grid: Grid | None) -> Callable[[Mapping[str, Any]], Any]:
        """A function of the arguments by name that launches the config. Errors of `build` are raised here."""
        if self.build is not None:
            function = self.build(config)
            if not callable(function):
                raise EvaluatorError(f"build returned {type(function).__name__}; return the function to time")
            return lambda named: function(*named.values()) if _are_positions(named) else function(**named)
        kernel, values = self.kernel, dict(config)
        assert kernel is not None, "there is a kernel where there is no build"
        assert grid is not None, "a kernel has a grid"
        options = {**(self.options or {}), **{n: v for n, v in values.items() if n not in kernel.arg_names}}
        constants = {name: value for name, value in values.items() if name in kernel.arg_names}
        options = {name: value for name, value in options.items() if not (name == "maxnreg" and value is None)}

        def launch(named: Mapping[str, Any]) -> None:
            size = grid({**named, **values}) if callable(grid) else grid
            # By position as far as that goes: by name Triton takes some for its own, such as grid, warmup and debug.
            rest = dict(named)
            args = [rest.pop(name) for name in list(takewhile(rest.__contains__, kernel.arg_names))]
            kernel[tuple(map(int, size))](*args, **rest, **constants, **options)

        return launch


def _are_positions(named: Mapping[str, Any]) -> bool:
    return all(name.isdigit() for name in named)


def unknown_names(
    kernel: Any, names: Sequence[str], options: Mapping[str, Any] | None, target: str | None
) -> list[str]:
    """The parameters of a space for which neither the kernel nor a launch on the target has a use."""
    known = {*kernel.arg_names, *(options or {}), *launch_options(target)}
    return [name for name in names if name not in known]


def is_gluon(kernel: Any) -> bool:
    """Whether a kernel is written in Gluon."""
    ask = getattr(kernel, "is_gluon", None)
    return ask is not None and bool(ask())


def pack_payload(parts: dict[str, Any], owners: list[Any] | None = None) -> bytes:
    """These values as a pickle for our own workers; raises EvaluatorError naming one that does not pickle.

    owners: receives the owners of the GPU memory that the pickle lends; they must live as long as a worker uses it.
    """
    with pickled_by_value(_functions(parts.values())):
        try:
            return _dump(parts, owners)
        except Exception as error:
            culprit = next((name for name, part in parts.items() if not _pickles(part)), "the workload")
            raise EvaluatorError(
                f"`{culprit}` cannot be sent to a worker process ({type(error).__name__}: {error}); make what it holds"
                " in `arguments`, as a function, or in `build`: these run in the workers"
            ) from error


def unpack_payload(blob: "bytes | mmap") -> dict[str, Any]:
    """The values that `pack_payload` wrote; trusted, because only the parent process writes them."""
    parts = cloudpickle.loads(blob)
    assert isinstance(parts, dict)
    return parts


def _dump(value: Any, owners: list[Any] | None = None) -> bytes:
    out = io.BytesIO()
    pickler = _Pickler(out)
    pickler.dump(value)
    if owners is not None:
        owners += pickler.owners
    return out.getvalue()


def _pickles(part: Any) -> bool:
    with suppress(Exception):
        return bool(_dump(part))
    return False


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """owners: of the memory that the pickle lends to other processes."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.owners: list[Any] = []

    def reducer_override(self, value: Any) -> Any:
        if is_triton_kernel(value):
            return _reduce_kernel(value)
        if is_tensor(value) and value.is_cuda:
            lent, owner = lend(value)
            self.owners.append(owner)
            return borrow, (lent,)
        runtime = sys.modules.get("triton.runtime")
        if runtime is not None and value is runtime.driver:  # of the worker, not a copy of the program's
            return getattr, (runtime, "driver")
        return super().reducer_override(value)


_JIT_OPTIONS = ("version", "do_not_specialize", "do_not_specialize_on_alignment", "debug", "noinline", "repr",
                "launch_metadata")  # fmt: skip
"""Arguments of `@triton.jit`."""


def _reduce_kernel(kernel: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    function = kernel.fn
    module = sys.modules.get(function.__module__)
    if module is not None and getattr(module, function.__qualname__, None) is kernel and is_importable(module):
        return getattr, (module, function.__qualname__)
    found = getattr(kernel, "kwargs", None) or {n: getattr(kernel, n) for n in _JIT_OPTIONS[:-2] if hasattr(kernel, n)}
    if getattr(kernel, "_repr", None) is not None:
        found["repr"] = kernel._repr
    if getattr(kernel, "launch_metadata", None) is not None:
        found["launch_metadata"] = kernel.launch_metadata
    options = {name: value for name, value in found.items() if name in _JIT_OPTIONS and value is not None}
    path = function.__code__.co_filename
    lines = linecache.getlines(path) or inspect.findsource(function)[0]
    return _rebuild_kernel, (function, options, path, "".join(lines), is_gluon(kernel))


def _rebuild_kernel(function: Any, options: dict[str, Any], path: str, source: str, gluon: bool) -> Any:
    """The kernel from its parts; its file need not exist here, and may have changed since."""
    function.__code__ = function.__code__.replace(co_filename=path)  # cloudpickle 3.1.3 leaves "<dynamic-code>" there
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    if gluon:
        from triton.experimental.gluon import jit
    else:
        from triton import jit
    return jit(**options)(function) if options else jit(function)


def _functions(parts: Iterable[Any]) -> list[Any]:
    """All functions among these values, for whose modules it must be known whether a worker can import them."""
    found = []
    for part in parts:
        if isinstance(part, dict):
            found += _functions(part.values())
        elif isinstance(part, tuple | list):
            found += _functions(part)
        elif is_dataclass(part):
            found += _functions(vars(part).values())
        elif is_triton_kernel(part):
            found.append(part.fn)
        elif callable(part):
            found.append(part)
    return found
