"""Arguments of a kernel: made, described for who compiles without them, and stood in for by tensors without data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autotune.core.errors import EvaluatorError
from autotune.shell.evaluators.tensors import is_tensor
from autotune.shell.evaluators.triton.launching import Grid, Launch
from autotune.shell.evaluators.triton.wire import Described, DescribedArguments, Opaque, Plain, Tensor

GRAIN = 256
"""Addresses are described modulo this many bytes: more than Triton's dispatcher looks at."""
SEED = 0

Arguments = Sequence[Any] | Mapping[str, Any]


class StandIns:
    """Arguments for who compiles, in place of given ones: what the dispatcher can know of them."""

    def __init__(self, arguments: Arguments) -> None:
        self._by_name = isinstance(arguments, Mapping)
        items = arguments.items() if isinstance(arguments, Mapping) else enumerate(arguments)
        self._described = described({str(name): value for name, value in items})

    def __call__(self) -> Arguments:
        """Tensors without memory, and all else as it is."""
        found = stand_ins(self._described)
        return found if self._by_name else tuple(found.values())


@dataclass(frozen=True, eq=False)
class ArgumentSet:
    """One set of arguments that a config is timed with: a shape, usually.

    arguments: a tuple, a dict by name, or a function that makes one. A function is called once for each GPU, in the
        process that times there, and should make its tensors on that GPU (`device="cuda"`).
    weight: how much it counts, relative to the others. name: for the figures of this set. grid: in place of the
        evaluator's.
    """

    arguments: Arguments | Callable[[], Arguments]
    weight: float = 1.0
    name: str = ""
    grid: Grid | None = None


def made(given: ArgumentSet, launch: Launch, taken: Sequence[str] = ()) -> dict[str, Any]:
    """The arguments by name; random ones are the same in every process. taken: names that the config sets."""
    import torch

    torch.manual_seed(SEED)
    arguments = given.arguments() if callable(given.arguments) else given.arguments
    if not isinstance(arguments, Mapping | Sequence) or isinstance(arguments, str):
        raise EvaluatorError(f"`arguments` gave {type(arguments).__name__}; give a tuple, or a dict by name")
    values = arguments.values() if isinstance(arguments, Mapping) else arguments
    return dict(zip(launch.names(arguments, taken), values, strict=True))


def described_sets(sets: Sequence[ArgumentSet]) -> tuple[ArgumentSet, ...]:
    """The sets as compile workers get them: they see no GPU, and need no data."""
    return tuple(one if callable(one.arguments) else replace(one, arguments=StandIns(one.arguments)) for one in sets)


def given_tensors(sets: Sequence[ArgumentSet]) -> list[Any]:
    """The tensors that are given as they are, not made by a function."""
    found = []
    for one in sets:
        if not callable(one.arguments):
            values = one.arguments.values() if isinstance(one.arguments, Mapping) else one.arguments
            found += [value for value in values if is_tensor(value)]
    return found


def described(named: Mapping[str, Any]) -> DescribedArguments:
    """What the dispatcher looks at, without the data."""
    return DescribedArguments(tuple((name, _describe(value)) for name, value in named.items()))


def _describe(value: Any) -> Described:
    if is_tensor(value):
        address = value.data_ptr() % GRAIN
        return Tensor(str(value.dtype).removeprefix("torch."), tuple(value.shape), tuple(value.stride()), address)
    if value is None or isinstance(value, bool | int | float | str):
        return Plain(value) if not isinstance(value, int) or -(2**63) <= value < 2**63 else Opaque("int")
    return Opaque(type(value).__name__)


def stand_ins(arguments: DescribedArguments) -> dict[str, Any]:
    """Arguments that the dispatcher treats as it would the real ones; raises ValueError where one is opaque."""
    return {name: _stand_in(name, one) for name, one in arguments.arguments}


def _stand_in(name: str, one: Described) -> Any:
    import torch

    match one:
        case Plain(value):
            return value
        case Opaque(kind):
            raise ValueError(f"the argument {name!r} ({kind}) has no stand-in")
        case Tensor(dtype, shape, strides, offset):
            kind = getattr(torch, dtype)
            base = torch.empty(0, dtype=kind, device="meta")
            start = offset // base.element_size()
            reach = start + 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
            return torch.empty(max(reach, 0), dtype=kind, device="meta").as_strided(shape, strides, start)
