"""A config as Triton launches it: what goes to the kernel by name, what are options of the launch, and the grid.

Jitted kernels on their way to the workers: by name where they can be imported there, else with their source.

Triton's own kernel objects hold locks and compiled binaries, which cannot travel; what makes them can: the Python
function, the lines it was written in (Triton reads those, and hashes where they begin), and the decorator's arguments.
"""

import inspect
import io
import linecache
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from itertools import takewhile
from mmap import mmap
from typing import Any

import cloudpickle

from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.shell.cache.sources import is_triton_kernel
from autotune.shell.evaluators.tensors import is_tensor
from autotune.shell.evaluators.workload import is_importable, pickled_by_value

LAUNCH_OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg", "ir_override")
"""Names that a config may have beside those of the kernel's parameters; further options of the backend are given
through `options` of the evaluator."""

Grid = Sequence[int] | Callable[[Mapping[str, Any]], Sequence[int]]
Hook = Callable[[dict[str, Any]], Any]
"""Called with the arguments by name, before or after a launch."""


@dataclass(frozen=True, eq=False)
class Launch:
    """A jitted kernel, or `build`, and how to call it with one set of arguments."""

    kernel: Any = None
    build: Callable[[Config], Callable[..., Any]] | None = None
    options: Mapping[str, Any] | None = None

    def names(self, arguments: Sequence[Any] | Mapping[str, Any], config: Sequence[str] = ()) -> tuple[str, ...]:
        """The names of the arguments: those of a mapping, of the kernel's parameters, or the positions.

        config: the names that a config sets.
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

    def call(self, config: Config, grid: Grid | None) -> Callable[[Mapping[str, Any]], Any]:
        """A function of the arguments by name that launches the config. What `build` raises comes from here."""
        if self.build is not None:
            function = self.build(config)
            if not callable(function):
                raise EvaluatorError(f"build returned {type(function).__name__}; return the function to time")
            return lambda named: _called(function, named)
        kernel, values = self.kernel, dict(config)
        assert kernel is not None, "there is a kernel where there is no build"
        assert grid is not None, "a kernel has a grid"
        options = {**(self.options or {}), **{n: v for n, v in values.items() if n not in kernel.arg_names}}
        given = {name: value for name, value in values.items() if name in kernel.arg_names}
        options = {name: value for name, value in options.items() if not (name == "maxnreg" and value is None)}

        def launch(named: Mapping[str, Any]) -> None:
            chosen = grid({**named, **values}) if callable(grid) else grid
            args, rest = _by_place(kernel.arg_names, named)
            kernel[tuple(map(int, chosen))](*args, **rest, **given, **options)

        return launch


def _by_place(parameters: Sequence[str], named: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments by position as far as they go, then by name: by name Triton takes some for its own, such as grid,
    warmup, stream and debug."""
    rest = dict(named)
    leading = list(takewhile(rest.__contains__, parameters))
    return [rest.pop(name) for name in leading], rest


def _called(function: Callable[..., Any], named: Mapping[str, Any]) -> Any:
    return function(*named.values()) if numbered(named) else function(**named)


def numbered(named: Mapping[str, Any]) -> bool:
    """Whether the names are positions."""
    return all(name.isdigit() for name in named)


def unknown_names(kernel: Any, names: Sequence[str], options: Mapping[str, Any] | None) -> list[str]:
    """Parameters of a space that the kernel has no use for."""
    return [name for name in names if name not in kernel.arg_names and name not in (*LAUNCH_OPTIONS, *(options or {}))]


_OPTIONS = ("version", "do_not_specialize", "do_not_specialize_on_alignment", "debug", "noinline", "repr",
            "launch_metadata")  # fmt: skip


def pack(parts: dict[str, Any]) -> bytes:
    """These values as a pickle for our own workers; raises EvaluatorError naming the one that does not pickle."""
    with pickled_by_value(_functions(parts.values())):
        try:
            return _dump(parts)
        except Exception as error:
            culprit = next((name for name, part in parts.items() if not _travels(part)), "the workload")
            raise EvaluatorError(
                f"`{culprit}` cannot be sent to a worker process ({type(error).__name__}: {error}); make what it holds"
                " in `arguments`, as a function, or in `build`: these run in the workers"
            ) from error


def unpack(blob: "bytes | mmap") -> dict[str, Any]:
    """What `pack` wrote; trusted, because only the parent process writes it."""
    parts = cloudpickle.loads(blob)
    assert isinstance(parts, dict)
    return parts


def _dump(value: Any) -> bytes:
    out = io.BytesIO()
    _Pickler(out).dump(value)
    return out.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """The hook that the standard library has for objects that need another way."""

    def reducer_override(self, value: Any) -> Any:
        if is_triton_kernel(value):
            return _reduced(value)
        if is_tensor(value) and value.is_cuda:
            return _handle(value)
        return super().reducer_override(value)


def _travels(part: Any) -> bool:
    with suppress(Exception):
        return bool(_dump(part))
    return False


def _handle(tensor: Any) -> Any:
    """Not a copy: who unpickles it opens the same memory, on the only GPU that it sees.

    torch keeps memory that it has sent until every receiver says that it is done, which one that is killed never does.
    The session holds the tensor for as long as there are receivers, so torch need not wait for any.
    """
    import torch
    from torch.multiprocessing.reductions import reduce_tensor

    rebuild, given = reduce_tensor(tensor.detach())
    names = list(inspect.signature(rebuild).parameters)
    told = dict(zip(names, given, strict=True))
    with suppress(AttributeError, KeyError):  # a version of torch that does it otherwise
        torch.UntypedStorage._release_ipc_counter(
            told["ref_counter_handle"], told["ref_counter_offset"], device=told["storage_device"]
        )
    at = names.index("storage_device")
    return rebuild, (*given[:at], 0, *given[at + 1 :])


def _reduced(kernel: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    function = kernel.fn
    module = sys.modules.get(function.__module__)
    if module is not None and getattr(module, function.__qualname__, None) is kernel and is_importable(module):
        return getattr, (module, function.__qualname__)
    given = getattr(kernel, "kwargs", None) or {n: getattr(kernel, n) for n in _OPTIONS[:-2] if hasattr(kernel, n)}
    if getattr(kernel, "_repr", None) is not None:
        given["repr"] = kernel._repr
    if getattr(kernel, "launch_metadata", None) is not None:
        given["launch_metadata"] = kernel.launch_metadata
    options = {name: value for name, value in given.items() if name in _OPTIONS and value is not None}
    path = function.__code__.co_filename
    lines = linecache.getlines(path) or inspect.findsource(function)[0]
    return _jitted, (function, options, path, "".join(lines), is_gluon(kernel))


def is_gluon(kernel: Any) -> bool:
    """Whether a kernel is written in Gluon."""
    ask = getattr(kernel, "is_gluon", None)
    return ask is not None and bool(ask())


def _jitted(function: Any, options: dict[str, Any], path: str, source: str, gluon: bool) -> Any:
    """The kernel made again; its file need not exist here, and may have changed since."""
    function.__code__ = function.__code__.replace(co_filename=path)  # cloudpickle 3.1.3 leaves "<dynamic-code>" there
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    if gluon:
        from triton.experimental.gluon import jit
    else:
        from triton import jit
    return jit(**options)(function) if options else jit(function)


def _functions(parts: Iterable[Any]) -> list[Any]:
    """All functions among these, for whose modules it must be known whether a worker can import them."""
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
