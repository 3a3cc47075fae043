"""Whether what a user has given to a Triton evaluator makes sense together."""

import os
from math import inf
from typing import TYPE_CHECKING, Any

from autotune.core.arguments import shown
from autotune.core.errors import EvaluatorError
from autotune.shell.evaluators.outputs import require_comparable
from autotune.shell.evaluators.triton.arguments import ArgumentSet
from autotune.shell.evaluators.triton.limits import arch_of
from autotune.shell.evaluators.triton.shipping import is_kernel

if TYPE_CHECKING:
    from autotune.shell.evaluators.triton.evaluator import TritonEvaluator

_CHOICES: dict[str, tuple[Any, ...]] = {
    "objective": ("geomean", "worst"),
    "device": ("cuda", "interpreter"),
    "l2": ("flush", "rotate", "warm"),
}
_RANGES: tuple[tuple[str, Any, float, float], ...] = (
    ("rtol", int | float, 0, 1e30),
    ("atol", int | float, 0, 1e30),
    ("allowed_mismatch", int | float, 0, 0.999999),
    ("reduction", int, 1, 1e12),
    ("compile_workers", int, 1, 4096),
    ("ahead", int, 1, 10**9),
    ("compile_timeout_s", int | float, 1e-3, 1e7),
    ("run_timeout_s", int | float, 1e-3, 1e7),
    ("warmup_ms", int | float, 0, 1e9),
    ("target_ms", int | float, 0, 1e9),
    ("min_repeats", int, 1, 1e6),
    ("max_repeats", int, 1, 1e6),
)


def check(given: "TritonEvaluator") -> None:
    """Raises EvaluatorError, one sentence that names the setting and what to give instead."""
    _check_workloads(given)
    _check_kernel(given)
    for name, allowed in _CHOICES.items():
        if not isinstance(getattr(given, name), str) or getattr(given, name) not in allowed:
            raise EvaluatorError(f"{name} is {shown(getattr(given, name))}; use one of {', '.join(map(repr, allowed))}")
    for name, kind, least, most in _RANGES:
        value = getattr(given, name)
        if value is not None and not (isinstance(value, kind) and least <= value <= most):
            what = "a whole number" if kind is int else "a number"
            raise EvaluatorError(f"{name} is {value!r}; give {what} from {least:g} to {most:g}")
    if given.max_repeats < given.min_repeats:
        raise EvaluatorError(f"max_repeats is {given.max_repeats}, below min_repeats; raise it or lower that")
    for name in ("outputs", "restore_value", "reset_to_zero"):
        value = getattr(given, name)
        if isinstance(value, str) or not all(isinstance(one, str | int) for one in value):
            raise EvaluatorError(f"{name} is {value!r}; give a tuple of argument names")
    for name in ("build", "pre_hook", "post_hook", "checker"):
        if getattr(given, name) is not None and not callable(getattr(given, name)):
            raise EvaluatorError(f"{name} is {getattr(given, name)!r:.60}; give a function")
    if given.target is not None:
        arch_of(given.target)
    if os.name != "posix":
        raise EvaluatorError("TritonEvaluator needs a POSIX system")


def _check_kernel(given: "TritonEvaluator") -> None:
    if (given.kernel is None) == (given.build is None):
        raise EvaluatorError("give either kernel= with grid=, or build=")
    if given.kernel is not None and not is_kernel(given.kernel):
        raise EvaluatorError(
            f"kernel is {name_of(given.kernel)}, not a @triton.jit function; take the decorators above @triton.jit"
            " away, or use build="
        )
    gridless = not given.workloads or any(one.grid is None for one in given.workloads)
    if given.kernel is not None and given.grid is None and gridless:
        raise EvaluatorError("a kernel needs a grid; give grid= a tuple, or a function of the arguments by name")
    if given.checker is None:
        require_comparable(given.reference)
    produces = callable(given.reference) or given.reference is not None
    if given.kernel is not None and produces and not callable(given.reference) and not given.outputs:
        raise EvaluatorError("say which arguments the kernel writes: outputs=('c',), for example")


def _check_workloads(given: "TritonEvaluator") -> None:
    if given.workloads and given.arguments is not None:
        raise EvaluatorError("arguments and workloads are both given; give one of them")
    for one in given.workloads:
        if not isinstance(one, ArgumentSet):
            raise EvaluatorError(f"workloads has {name_of(one)}; give ArgumentSet(arguments, weight, name)")
        if not (isinstance(one.weight, int | float) and 0 <= one.weight < inf):
            raise EvaluatorError(f"a workload has weight {one.weight!r}; give a number of at least 0")
    if given.workloads and not sum(one.weight for one in given.workloads):
        raise EvaluatorError("all workloads have weight 0; give one of them more")
    names = [one.name for one in given.argument_sets]
    if len(set(names)) < len(names):
        raise EvaluatorError(f"two workloads have the same name, of {', '.join(names)}; name them apart")


def name_of(part: Any) -> str:
    """A function, kernel or class by name; anything else by its type."""
    if callable(part) or is_kernel(part):
        return f"{getattr(part, '__module__', '?')}.{getattr(part, '__qualname__', type(part).__name__)}"
    return type(part).__name__
