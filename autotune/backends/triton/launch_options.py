"""The options of a launch that a config may set besides the kernel's parameters: those of Triton's backends."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from autotune._extras import install_command
from autotune.backends.triton.targets import parse_target
from autotune.core.errors import EvaluatorError

CONFIG_OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg", "ir_override")
"""The options for which `triton.Config` has arguments of their own. It leaves out those that are None."""


def launch_options(target: str | None = None) -> frozenset[str]:
    """The names that a launch takes on this target; None: on any that the installed Triton compiles for.

    They are the fields of the options class of Triton's backend, by which Triton itself tells them.
    """
    return _launch_options(None if target is None else parse_target(target).name)


def require_backend(target: str) -> None:
    """Raises EvaluatorError where the installed Triton has no backend that compiles for this target."""
    try:
        from triton.backends import backends
    except ImportError:
        raise EvaluatorError(f"Triton is not installed; {install_command('triton')}") from None
    if not any(_compiles_for(backend.compiler, target) for backend in backends.values()):
        raise EvaluatorError(
            f"the installed Triton does not compile for {target}: it has the backends {', '.join(sorted(backends))};"
            " install one that does"
        )


@cache
def _launch_options(target: str | None) -> frozenset[str]:
    try:
        from triton.backends import backends
    except ImportError:
        return frozenset(CONFIG_OPTIONS)
    found: set[str] = set()
    for backend in backends.values():
        if target is None or _compiles_for(backend.compiler, target):
            found.update(*_options_classes(backend.compiler))
    return frozenset(found) or frozenset(CONFIG_OPTIONS)


def _compiles_for(compiler: Any, target: str) -> bool:
    with suppress(Exception):
        return bool(compiler.supports_target(parse_target(target).as_triton()))
    return False


def _options_classes(compiler: Any) -> Iterator[list[str]]:
    """The fields of the options class: the dataclass beside the compiler that has the number of warps."""
    for one in vars(sys.modules[compiler.__module__]).values():
        if isinstance(one, type) and is_dataclass(one):
            names = [each.name for each in fields(one)]
            if "num_warps" in names:
                yield names
