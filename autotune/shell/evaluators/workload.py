"""The workload of an evaluator (how to build, arguments, reference), and how it is pickled for worker processes."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from mmap import mmap
from types import ModuleType
from typing import Any

import cloudpickle

from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.shell.evaluators.timing import Schedule, Timer


@dataclass(frozen=True, eq=False, kw_only=True)
class Workload:
    """The functions and arguments of the user, for all configs. The fields: see `CallableEvaluator`."""

    build: Callable[[Config], Callable[..., Any]]
    args: tuple[Any, ...]
    make_args: Callable[[], Any] | None
    reference: Any
    checker: Callable[[Any, Any], bool | str] | None
    rtol: float | None
    atol: float | None
    timer: Timer | None
    schedule: Schedule


def pack(work: Workload) -> bytes:
    """A workload as a pickle; raises EvaluatorError, which names the part that does not pickle."""
    with pickled_by_value((work.build, work.make_args, work.reference, work.checker, work.timer)):
        try:
            return bytes(cloudpickle.dumps(work))
        except Exception as error:
            raise EvaluatorError(
                f"{_culprit(work)} cannot be sent to a worker process ({type(error).__name__}: {error}); make it in"
                ' `build` or `make_args`, which run in the worker, or use isolation="in_process"'
            ) from error


def unpack(blob: "bytes | mmap") -> Workload:
    """The workload of a pickle by `pack`; trusted, because only the parent process writes it."""
    work = cloudpickle.loads(blob)
    assert isinstance(work, Workload)
    return work


def _culprit(work: Workload) -> str:
    for field in fields(work):
        value = getattr(work, field.name)
        for name, part in enumerate(value) if field.name == "args" else [(None, value)]:
            try:
                cloudpickle.dumps(part)
            except Exception:
                return f"`{field.name}`" if name is None else f"`args[{name}]`"
    return "the workload"


@contextmanager
def pickled_by_value(parts: Iterable[Any]) -> Iterator[None]:
    """Pickle functions of modules that a worker cannot import (files loaded by path, say) with their code."""
    modules = {module.__name__: module for part in parts if (module := _module_of(part)) and not is_importable(module)}
    already = cloudpickle.list_registry_pickle_by_value()
    added = [module for name, module in modules.items() if name not in already]
    for module in added:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in added:
            cloudpickle.unregister_pickle_by_value(module)


def _module_of(part: Any) -> ModuleType | None:
    while isinstance(part, partial):
        part = part.func
    name = getattr(part, "__module__", None) or type(part).__module__
    return None if name == "__main__" else sys.modules.get(name)


def is_importable(module: ModuleType) -> bool:
    """Whether a new process with this sys.path would find the same file by the module's name."""
    parent, _, _ = module.__name__.rpartition(".")
    path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    if parent and path is None:
        return False
    for finder in sys.meta_path:
        spec = finder.find_spec(module.__name__, path)
        if spec is not None:
            file = getattr(module, "__file__", None)
            return file is None or spec.origin == file
    return False
