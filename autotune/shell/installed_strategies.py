"""Strategies of installed packages: the entry points of the group `autotune.strategies`, such as

    [project.entry-points."autotune.strategies"]
    my_search = "my_package:MySearch"

They are looked up when a name or a class is asked for that is not registered, and never before. Importing this module
makes the registry ask it.
"""

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from autotune.core.errors import StrategyError
from autotune.core.strategies.registry import add_source

GROUP = "autotune.strategies"


def installed_names() -> list[str]:
    """The names that installed packages declare."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def load_installed(name: str) -> tuple[str, Any] | None:
    """The strategy of an installed package by its name or by the name of its class, with its name; None if there is
    none. StrategyError if two packages declare the name, or if the package cannot be imported."""
    found = [entry for entry in entry_points(group=GROUP) if name in (entry.name, entry.attr)]
    if not found:
        return None
    if len({entry.value for entry in found}) > 1:
        packages = " and ".join(sorted(f"{_package(entry)} ({entry.value})" for entry in found))
        raise StrategyError(f"the strategy {name!r} is declared by {packages}; uninstall one of them")
    return found[0].name, _load(found[0])


def find_installed(kind: type) -> str | None:
    """The name under which an installed package declares a class; None if none does."""
    package = kind.__module__.partition(".")[0]
    for entry in entry_points(group=GROUP):
        if entry.module.partition(".")[0] == package and _load(entry) is kind:
            return entry.name
    return None


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # the package may do anything while it is imported
        raise StrategyError(
            f"the strategy {entry.name!r} of {_package(entry)} cannot be loaded from {entry.value} "
            f"({type(error).__name__}: {error}); mend or uninstall that package"
        ) from None


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an installed package"


add_source(sys.modules[__name__])
