"""Launches as a compile worker records them, and their replay in a process that has nothing of the user's.

A compile worker runs Triton's dispatcher on a driver that launches nothing (`fake_driver.py`). There the kernel's
binary, its grid and its arguments are known: heuristics have been called, defaults filled in, constants taken out. So a
record of them is all that is needed to launch the binary again, in any process that has the tensors.
"""

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from autotune.backends.triton.messages import ArgumentName, PassedArgument, PlainArgument, RecordedLaunch
from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.shell.evaluators.tensors import is_tensor

_CONSTANT = "constexpr"
"""Triton's type of a parameter whose value is a part of the binary."""
_LONGEST_NAME = 150
"""Characters of a kernel's name in the names of its files, by `triton.compiler.compile`."""


def record_launches(launches: Sequence[Any], named: Mapping[str, Any]) -> tuple[RecordedLaunch, ...]:
    """The launches (`fake_driver.FakeLaunch`) of a config, empty where one of them cannot be recorded.

    named: the arguments by name; a launch must get these very tensors.
    """
    tensors = {id(value): name for name, value in named.items() if is_tensor(value)}
    recorded = [_record(launch, tensors) for launch in launches]
    return tuple(one for one in recorded if one is not None) if all(recorded) else ()


def _record(launch: Any, tensors: Mapping[int, str]) -> RecordedLaunch | None:
    source, signature = launch.source, dict(launch.source.signature)
    if len(signature) != len(launch.arguments) or not all(isinstance(kind, str) for kind in signature.values()):
        return None  # a version of Triton that launches in another way, or tuples of arguments
    passed: list[PassedArgument] = []
    for kind, value in zip(signature.values(), launch.arguments, strict=True):
        if kind == _CONSTANT or value is None:
            passed.append(PlainArgument(None))
        elif id(value) in tensors:
            passed.append(ArgumentName(tensors[id(value)]))
        elif type(value) in (bool, float) or (type(value) is int and -(2**63) <= value < 2**64):
            passed.append(PlainArgument(value))
        else:
            return None
    files = _files_of(source.name, launch.metadata.hash)
    constants = tuple(key for key in getattr(source, "constants", {}) if isinstance(key, tuple))
    if files is None:
        return None
    width, height, depth = (*map(int, launch.grid),)
    return RecordedLaunch(
        hash=launch.metadata.hash,
        files=files,
        grid=(width, height, depth),
        signature=signature,
        constants=constants,
        arguments=tuple(passed),
    )


def _files_of(name: str, key: str) -> dict[str, str] | None:
    """The paths of a kernel's binary and metadata in Triton's cache."""
    from triton.runtime.cache import get_cache_manager

    group = get_cache_manager(key).get_group(f"{name[:_LONGEST_NAME]}.json") or {}
    found = {file: str(path) for file, path in group.items() if file.endswith((".json", ".cubin", ".hsaco"))}
    return found if len(found) > 1 else None


class RecordedKernel:
    """Launches recorded kernels, in the place of `kernel.Launch`.

    kernel, build: None, since there is nothing of the user's.
    """

    kernel = None
    build = None

    def __init__(self) -> None:
        self._launches: dict[Config, tuple[RecordedLaunch, ...]] = {}
        self._kernels: dict[str, Any] = {}

    def names(self, arguments: Mapping[str, Any] | Sequence[Any], config: Sequence[str] = ()) -> tuple[str, ...]:
        """The names of the arguments, which are a mapping."""
        return tuple(map(str, arguments))

    def record(self, config: Config, launches: tuple[RecordedLaunch, ...]) -> None:
        """Keep the launches of a config for `call`."""
        self._launches[config] = launches

    def call(self, config: Config, grid: Any = None) -> Callable[[Mapping[str, Any]], Any]:
        """A function of the arguments by name that launches the config."""
        launches = self._launches.get(config, ())
        if not launches:
            raise EvaluatorError("the launches of the config could not be recorded")

        def launch(named: Mapping[str, Any]) -> None:
            for one in launches:
                self._launch(one, named)

        return launch

    def forget(self) -> None:
        """Drop all binaries."""
        self._launches.clear()
        self._kernels.clear()

    def _launch(self, one: RecordedLaunch, named: Mapping[str, Any]) -> None:
        from triton.runtime.driver import driver

        kernel = self._kernels.get(one.hash) or self._load(one)
        stream = driver.active.get_current_stream(driver.active.get_current_device())
        arguments = [named[a.name] if isinstance(a, ArgumentName) else a.value for a in one.arguments]
        run, hooks = kernel.run, (None, None, None)
        run(*one.grid, stream, kernel.function, kernel.packed_metadata, *hooks, *arguments)

    def _load(self, one: RecordedLaunch) -> Any:
        from triton.compiler import CompiledKernel

        source = SimpleNamespace(
            signature=one.signature,
            constants=dict.fromkeys(one.constants),
            fn=SimpleNamespace(arg_names=list(one.signature)),
        )
        self._kernels[one.hash] = kernel = CompiledKernel(source, one.files, one.hash)
        return kernel
