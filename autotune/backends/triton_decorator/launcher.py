"""How a config of a call is launched, with the grid and everything constant; and what lies below a decorator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from autotune.backends.triton_decorator.configs import launch_values
from autotune.core.config import Config


@dataclass(frozen=True, eq=False, kw_only=True)
class Launcher:
    """Makes the function that launches a config.

    kernel: a jitted kernel, or `@triton.heuristics` of one. constants: arguments that are neither tensors nor plain
    values, and options of the launch. listed: the `triton.Config` of each config of a list. placed: the arguments that
    go by position, as in the call that is tuned: by name, Triton would take some for its own (grid, warmup, stream, …).
    given: the names of all arguments that go to a launch; the kernel itself knows its defaults.
    """

    kernel: Any
    grid: Any
    constants: Mapping[str, Any]
    listed: Mapping[Config, Any]
    placed: tuple[str, ...] = ()
    given: frozenset[str] | None = None

    def __call__(self, config: Config) -> Callable[..., Any]:
        """A function of the arguments by name that launches the config."""
        values, hook = self.values(config), getattr(self.listed.get(config), "pre_hook", None)

        def launch(**named: Any) -> None:
            named |= self.constants
            if hook is not None:
                hook({**named, **values})
            if self.given is not None:
                named = {name: value for name, value in named.items() if name in self.given}
            args = [named.pop(name) for name in self.placed]
            self.kernel.run(*args, grid=self.grid, warmup=False, **named, **values)

        return launch

    def values(self, config: Config) -> dict[str, Any]:
        """The values of a config, by the names under which they go to the launch."""
        return launch_values(self.listed, config)


def python_function(fn: Any) -> FunctionType:
    """The Python function below all decorators."""
    while not isinstance(fn, FunctionType):
        fn = fn.fn
    return fn


def jitted_kernel(fn: Any) -> Any:
    """The kernel of `@triton.jit`, below any heuristics."""
    while not isinstance(fn.fn, FunctionType):
        fn = fn.fn
    return fn


def unspecialised_parameters(fn: Any) -> tuple[str, ...]:
    """The parameters that `@triton.jit(do_not_specialize=…)` lists by name or position."""
    kernel = jitted_kernel(fn)
    given = getattr(kernel, "do_not_specialize", None) or getattr(kernel, "kwargs", {}).get("do_not_specialize") or ()
    return tuple(kernel.arg_names[one] if isinstance(one, int) else one for one in given)


def heuristic_names(fn: Any) -> frozenset[str]:
    """The parameters whose values come from `@triton.heuristics`."""
    found: set[str] = set()
    while not isinstance(fn, FunctionType):
        found |= (getattr(fn, "values", None) or {}).keys()
        fn = fn.fn
    return frozenset(found)


def list_functions(kernel: Any) -> tuple[Any, ...]:
    """The Python functions in a kernel and the heuristics around it; the kernel's own comes last."""
    found: list[Any] = []
    while kernel is not None and not isinstance(kernel, FunctionType):
        found += [one for one in (getattr(kernel, "values", None) or {}).values() if callable(one)]
        kernel = getattr(kernel, "fn", None)
    return (*found, kernel) if kernel is not None else tuple(found)
