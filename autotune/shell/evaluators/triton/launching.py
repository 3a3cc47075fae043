"""A config as Triton launches it: what goes to the kernel by name, what are options of the launch, and the grid."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from autotune.core.config import Config
from autotune.core.errors import EvaluatorError

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
