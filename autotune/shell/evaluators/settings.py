"""The settings that evaluators have in common: their ranges, how they are checked, and how functions are named."""

from collections.abc import Collection, Mapping
from typing import Any

from autotune.core.arguments import short_repr
from autotune.core.errors import EvaluatorError

Ranges = Mapping[str, tuple[Any, float, float]]
"""For each setting its type, and its least and greatest value: so wide that only slips are refused."""

SHARED_RANGES: Ranges = {
    "rtol": (int | float, 0, 1e30),
    "atol": (int | float, 0, 1e30),
    "run_timeout_s": (int | float, 1e-3, 1e7),
    "warmup_ms": (int | float, 0, 1e9),
    "target_ms": (int | float, 0, 1e9),
    "min_repeats": (int, 1, 1e6),
    "max_repeats": (int, 1, 1e6),
}


def check_ranges(evaluator: Any, ranges: Ranges, optional: Collection[str]) -> None:
    """Raises EvaluatorError for a setting of SHARED_RANGES or of these that is out of its range. optional: may be
    None."""
    check_numbers(evaluator, {**SHARED_RANGES, **ranges}, optional)
    if evaluator.max_repeats < evaluator.min_repeats:
        raise EvaluatorError(f"max_repeats is {evaluator.max_repeats}, below min_repeats; raise it or lower that")


def check_numbers(evaluator: Any, ranges: Ranges, optional: Collection[str] = ()) -> None:
    """Raises EvaluatorError for a number outside of its range. optional: settings that may be None."""
    for name, (kind, least, most) in ranges.items():
        value = getattr(evaluator, name)
        unset = value is None and name in optional
        if not unset and not (isinstance(value, kind) and least <= value <= most):
            what = "a whole number" if kind is int else "a number"
            raise EvaluatorError(f"{name} is {short_repr(value)}; give {what} from {least:g} to {most:g}")


def check_functions(evaluator: Any, names: Collection[str]) -> None:
    """Raises EvaluatorError for a setting that is neither a function nor None."""
    for name in names:
        value = getattr(evaluator, name)
        if value is not None and not callable(value):
            raise EvaluatorError(f"{name} is {short_repr(value)}; give a function")


def qualified_name(part: Any) -> str:
    """The name of a function, a kernel or a class; the type of anything else."""
    if callable(part) or hasattr(part, "__qualname__"):
        return f"{getattr(part, '__module__', '?')}.{getattr(part, '__qualname__', type(part).__name__)}"
    return type(part).__name__
