"""The arguments of a kernel: made, described for compile workers, and replaced there by tensors without data."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autotune.backends.triton.kernel import Grid, Launch
from autotune.backends.triton.launches import RecordedKernel
from autotune.backends.triton.messages import (
    DescribedArgument,
    DescribedArguments,
    OpaqueArgument,
    PlainArgument,
    TensorArgument,
)
from autotune.core.errors import EvaluatorError
from autotune.shell.evaluators.tensors import is_tensor

_ADDRESS_GRAIN = 256
"""Addresses are described modulo this many bytes: more than Triton's dispatcher looks at."""
_SEED = 0
"""The seed for random arguments, so that they are the same in every process."""

Arguments = Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class ArgumentSet:
    """One set of arguments that a config is timed with: one shape of the problem, usually.

    arguments: a tuple, a dict by name, or a function that makes one. The function is called once for each GPU, in the
        process that times there, and should make its tensors on that GPU (`device="cuda"`).
    weight: how much the set counts, relative to the others. name: for the figures of this set. grid: in place of the
        evaluator's.
    """

    arguments: Arguments | Callable[[], Arguments]
    weight: float = 1.0
    name: str = ""
    grid: Grid | None = None


def make_arguments(
    workload: ArgumentSet, launch: Launch | RecordedKernel, config_names: Sequence[str] = ()
) -> dict[str, Any]:
    """The arguments by name. config_names: names that the config sets. Raises EvaluatorError for no tuple or dict."""
    import torch

    if callable(workload.arguments):
        with torch.random.fork_rng():  # the program may go on with its own random numbers
            torch.manual_seed(_SEED)
            arguments = workload.arguments()
    else:
        arguments = workload.arguments
    if not isinstance(arguments, Mapping | Sequence) or isinstance(arguments, str):
        raise EvaluatorError(f"`arguments` gave {type(arguments).__name__}; give a tuple, or a dict by name")
    values = arguments.values() if isinstance(arguments, Mapping) else arguments
    return dict(zip(launch.names(arguments, config_names), values, strict=True))


def passed_tensors(sets: Sequence[ArgumentSet]) -> list[Any]:
    """The tensors that the user has passed, rather than a function that makes them."""
    found = []
    for one in sets:
        if not callable(one.arguments):
            values = one.arguments.values() if isinstance(one.arguments, Mapping) else one.arguments
            found += [value for value in values if is_tensor(value)]
    return found


def without_data(sets: Sequence[ArgumentSet]) -> tuple[ArgumentSet, ...]:
    """The sets as compile workers get them: these see no GPU, and need no data."""
    return tuple(
        one if callable(one.arguments) else replace(one, arguments=_StandInFactory(one.arguments)) for one in sets
    )


class _StandInFactory:
    """Makes stand-ins for arguments that the user has passed."""

    def __init__(self, arguments: Arguments) -> None:
        self._by_name = isinstance(arguments, Mapping)
        items = arguments.items() if isinstance(arguments, Mapping) else enumerate(arguments)
        self._described = describe_arguments({str(name): value for name, value in items})

    def __call__(self) -> Arguments:
        found = make_stand_ins(self._described)
        return found if self._by_name else tuple(found.values())


def describe_arguments(named: Mapping[str, Any]) -> DescribedArguments:
    """Everything that the dispatcher looks at, without the data."""
    return DescribedArguments(tuple((name, _describe(value)) for name, value in named.items()))


def _describe(value: Any) -> DescribedArgument:
    if is_tensor(value):
        dtype, offset = str(value.dtype).removeprefix("torch."), value.data_ptr() % _ADDRESS_GRAIN
        return TensorArgument(dtype=dtype, shape=tuple(value.shape), strides=tuple(value.stride()), offset=offset)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return OpaqueArgument("int")
    if value is None or isinstance(value, bool | int | float | str):
        return PlainArgument(value)
    return OpaqueArgument(type(value).__name__)


def make_stand_ins(arguments: DescribedArguments) -> dict[str, Any]:
    """Arguments that the dispatcher treats like the real ones: tensors without memory, other values as they are.

    Raises ValueError for an opaque argument.
    """
    return {name: _make_stand_in(name, one) for name, one in arguments.arguments}


def _make_stand_in(name: str, one: DescribedArgument) -> Any:
    import torch

    match one:
        case PlainArgument(value):
            return value
        case OpaqueArgument(kind):
            raise ValueError(f"the argument {name!r} ({kind}) has no stand-in")
        case TensorArgument():
            dtype = getattr(torch, one.dtype)
            start = one.offset // torch.empty(0, dtype=dtype, device="meta").element_size()
            reach = start + 1 + sum((n - 1) * s for n, s in zip(one.shape, one.strides, strict=True))
            return torch.empty(max(reach, 0), dtype=dtype, device="meta").as_strided(one.shape, one.strides, start)


def call_with_names(function: Callable[..., Any], named: Mapping[str, Any]) -> Any:
    """Call a function with the arguments that its parameters name; with all, in order, where it names others."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return function(*named.values())
    wanted = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    plain = len(wanted) == len(parameters) and wanted
    if plain and all(p.name in named or p.default is not p.empty for p in parameters):
        return function(**{name: named[name] for name in wanted if name in named})
    return function(*named.values())
