"""The public names of the package: where each is defined, and under which path the reference shows it."""

import ast
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

MODULES = ("autotune", "autotune.strategies", "autotune.evaluators", "autotune.studies", "autotune.testing")
"""The public modules that import nothing heavy."""

INTEGRATIONS = ("autotune.helion", "autotune.kernel_tuner", "autotune.optuna", "autotune.ray", "autotune.viewer")
"""Public modules that need an extra; one that does not exist is left out."""


@dataclass(frozen=True, kw_only=True)
class PublicName:
    """A public name. path: under which it is shown. home, own: the module that defines it, and its name there."""

    path: str
    home: str
    own: str

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def value(self) -> Any:
        return getattr(import_module(self.home), self.own)

    @property
    def kind(self) -> str:
        """One of class, exception, function, data and decorator."""
        value = self.value
        if isinstance(value, type):
            return "exception" if issubclass(value, BaseException) else "class"
        if type(value).__name__ == "TritonDecorator":
            return "decorator"
        return "function" if callable(value) and hasattr(value, "__name__") else "data"


def source_of(module: str) -> ast.Module:
    file = import_module(module).__file__
    return ast.parse(Path(str(file)).read_text())


@cache
def names_of(module: str) -> tuple[PublicName, ...]:
    """The names that a public module has: those that it imports lazily, or lists in `__all__`."""
    body = source_of(module).body
    lazy = [node for node in body if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")]
    public = dir(import_module(module)) if lazy else import_module(module).__all__
    found = {
        alias.asname or alias.name: PublicName(
            path=f"{module}.{alias.asname or alias.name}", home=str(node.module), own=alias.name
        )
        for node in (lazy[0].body if lazy else body)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return tuple(found[name] for name in sorted(public, key=str.lower) if name in found and not name.startswith("_"))


@cache
def public_names() -> dict[str, PublicName]:
    """Every public name by its path; one that several modules list is shown where the first of them lists it."""
    shown: dict[tuple[str, str], PublicName] = {}
    for module in (*MODULES, *(module for module in INTEGRATIONS if exists(module))):
        for name in names_of(module):
            shown.setdefault((name.home, name.own), name)
    return {name.path: name for name in shown.values()}


@cache
def exists(module: str) -> bool:
    """Whether a module is there, with the libraries that its names need."""
    try:
        found = import_module(module)
        return all(hasattr(found, name) for name in dir(found))
    except ImportError:
        return False


@cache
def by_last_name() -> dict[str, str]:
    """The path of each name that is shown once, by the name alone."""
    found: dict[str, list[str]] = {}
    for path, name in public_names().items():
        found.setdefault(name.name, []).append(path)
    return {name: paths[0] for name, paths in found.items()}
