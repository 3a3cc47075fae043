"""Call a function once a module has been imported. This file imports nothing heavy: it runs when Python starts."""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

AUTOTUNER_MODULE = "triton.runtime.autotuner"
"""The module with the class that `triton.autotune` makes."""


class ImportHook:
    """A finder of modules that lets the others find one, and calls a function when that has been executed."""

    def __init__(self, name: str, imported: Callable[[ModuleType], None]) -> None:
        self._name, self._imported = name, imported

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of the module, as the other finders have it; None for every other module."""
        if name != self._name:
            return None
        self.remove()
        found = (finder.find_spec(name, path, target) for finder in list(sys.meta_path))
        spec = next((one for one in found if one is not None), None)
        if spec is not None and spec.loader is not None:
            self._watch(spec.loader)
        return spec

    def remove(self) -> None:
        """Watch no longer."""
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]

    def _watch(self, loader: object) -> None:
        execute: Callable[[ModuleType], None] = loader.exec_module  # type: ignore[attr-defined]

        def execute_and_tell(module: ModuleType) -> None:
            del loader.exec_module  # type: ignore[attr-defined]  # the class's own is found again
            execute(module)
            self._imported(module)

        loader.exec_module = execute_and_tell  # type: ignore[attr-defined]


def when_imported(name: str, imported: Callable[[ModuleType], None]) -> ImportHook | None:
    """Call a function with a module: now if it has been imported (None is returned), else once it is."""
    module = sys.modules.get(name)
    if module is not None:
        imported(module)
        return None
    hook = ImportHook(name, imported)
    sys.meta_path.insert(0, hook)
    return hook
