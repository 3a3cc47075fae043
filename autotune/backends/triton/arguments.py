"""Arguments of a kernel: made, described for who compiles without them, and stood in for by tensors without data.

One set of arguments on one device: made once, kept as every config must find them, and what must come out.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from autotune.backends.triton.kernel import Grid, Launch
from autotune.backends.triton.messages import (
    DescribedArgument,
    DescribedArguments,
    OpaqueArgument,
    PlainArgument,
    TensorArgument,
)
from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Detail
from autotune.shell.evaluators import tensors
from autotune.shell.evaluators.bench import apply_checker, compute_checksum
from autotune.shell.evaluators.checking import OutputCheck, Tolerance, list_leaves
from autotune.shell.evaluators.tensors import is_tensor

GRAIN = 256
"""Addresses are described modulo this many bytes: more than Triton's dispatcher looks at."""
SEED = 0

Arguments = Sequence[Any] | Mapping[str, Any]


class StandInFactory:
    """Arguments for who compiles, in place of given ones: what the dispatcher can know of them."""

    def __init__(self, arguments: Arguments) -> None:
        self._by_name = isinstance(arguments, Mapping)
        items = arguments.items() if isinstance(arguments, Mapping) else enumerate(arguments)
        self._described = described({str(name): value for name, value in items})

    def __call__(self) -> Arguments:
        """Tensors without memory, and all else as it is."""
        found = make_stand_ins(self._described)
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


def without_data(sets: Sequence[ArgumentSet]) -> tuple[ArgumentSet, ...]:
    """The sets as compile workers get them: they see no GPU, and need no data."""
    return tuple(
        one if callable(one.arguments) else replace(one, arguments=StandInFactory(one.arguments)) for one in sets
    )


def passed_tensors(sets: Sequence[ArgumentSet]) -> list[Any]:
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


def _describe(value: Any) -> DescribedArgument:
    if is_tensor(value):
        address = value.data_ptr() % GRAIN
        return TensorArgument(
            str(value.dtype).removeprefix("torch."), tuple(value.shape), tuple(value.stride()), address
        )
    if value is None or isinstance(value, bool | int | float | str):
        return (
            PlainArgument(value) if not isinstance(value, int) or -(2**63) <= value < 2**63 else OpaqueArgument("int")
        )
    return OpaqueArgument(type(value).__name__)


def make_stand_ins(arguments: DescribedArguments) -> dict[str, Any]:
    """Arguments that the dispatcher treats as it would the real ones; raises ValueError where one is opaque."""
    return {name: _stand_in(name, one) for name, one in arguments.arguments}


def _stand_in(name: str, one: DescribedArgument) -> Any:
    import torch

    match one:
        case PlainArgument(value):
            return value
        case OpaqueArgument(kind):
            raise ValueError(f"the argument {name!r} ({kind}) has no stand-in")
        case TensorArgument(dtype, shape, strides, offset):
            kind = getattr(torch, dtype)
            base = torch.empty(0, dtype=kind, device="meta")
            start = offset // base.element_size()
            reach = start + 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
            return torch.empty(max(reach, 0), dtype=kind, device="meta").as_strided(shape, strides, start)


MOST_COPIES = 64


@dataclass(frozen=True, eq=False)
class CheckSpec:
    """What the user says about arguments and results; see `TritonEvaluator`."""

    reference: Any = None
    outputs: tuple[str | int, ...] = ()
    restore_value: tuple[str | int, ...] = ()
    reset_to_zero: tuple[str | int, ...] = ()
    checker: Callable[[Any, Any], bool | str] | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
    pre_hook: Callable[[dict[str, Any]], Any] | None = None
    post_hook: Callable[[dict[str, Any]], Any] | None = None
    names: tuple[str, ...] = ()


class ArgumentsOverwritten(Exception):
    """The inputs or the expected output are no longer what they were."""


class PreparedArguments:
    """Raises what `arguments` and `reference` raise, and EvaluatorError where what they give does not fit together."""

    def __init__(self, given: ArgumentSet, launch: Launch, terms: CheckSpec, device: str = "cpu") -> None:
        self._terms = terms
        self.named = made(given, launch, terms.names)
        if device == "cuda" and not callable(given.arguments):  # what was given on the CPU can only be meant to move
            self.named = {n: tensors.copy_tensor(v, device) if _on_cpu(v) else v for n, v in self.named.items()}
        self.outputs = self._names("outputs", terms.outputs)
        self._zeroed = self._names("reset_to_zero", terms.reset_to_zero)
        self._restored = self._names("restore_value", terms.restore_value)
        self._pristine = {name: tensors.copy_to_restore(self.named[name]) for name in self._restored}
        self._check: OutputCheck | None = None
        self._expected_value: Any = None
        if terms.reference is not None:
            self._expect(given, launch)
        self.compared = self._compared()
        self._watched = self._unwritten() if terms.reference is not None or terms.outputs else ()
        self._sums = tensors.compute_checksums({name: self.named[name] for name in self._watched})
        self._expected_sums = self._sum_expected()

    def reset(self) -> None:
        """Give what a config may change its value back: as cheap as can be, for it is done before every run."""
        for name, kept in self._pristine.items():
            tensors.restore(self.named[name], kept)
        for name in self._zeroed:
            self.named[name].detach().zero_()

    def clear(self) -> None:
        """Leave nothing of earlier outputs in memory, then `reset`."""
        for name in self.outputs:
            if name not in self._pristine:
                tensors.poison(self.named[name])
        self.reset()

    @property
    def resets(self) -> bool:
        """Whether there is anything to be done before each run."""
        return bool(self._pristine or self._zeroed)

    def result_of(self, returned: Any) -> Any:
        """What is to be checked: the outputs among the arguments, or what the function returned."""
        return {name: self.named[name] for name in self.outputs} if self.outputs else returned

    def _compared(self) -> str:
        if self._terms.checker is not None:
            return "by the checker"
        return "" if self._check is None else self._check.describe()

    def verdict(self, returned: Any) -> tuple[str, dict[str, Detail]] | None:
        """What is wrong with a run, None where nothing is; raises ArgumentsOverwritten where that cannot be told."""
        found = self._compare(self.result_of(returned))
        if found is not None and self._sum_expected() != self._expected_sums:
            raise ArgumentsOverwritten("the expected output was overwritten")
        if found is None and (changed := self.changed()):
            names = ", ".join(map(repr, changed))
            return f"it changed its argument {names}: name it in outputs, restore_value or reset_to_zero", {}
        return found

    def changed(self) -> list[str]:
        """The arguments that must stay as they are and have not."""
        now = tensors.compute_checksums({name: self.named[name] for name in self._watched})
        return [name for name, total in now.items() if total != self._sums[name]]

    def copies(self, l2_bytes: int) -> list[dict[str, Any]]:
        """So many sets of the arguments that going through them leaves nothing of the first in the cache."""
        given = [value for value in self.named.values() if is_tensor(value)]
        size = max(1, tensors.nbytes(given))
        wanted = min(MOST_COPIES, 1 + 2 * l2_bytes // size) if given else 1
        more = [
            {n: tensors.copy_tensor(v) if is_tensor(v) else v for n, v in self.named.items()} for _ in range(wanted - 1)
        ]
        return [self.named, *more]

    def _compare(self, result: Any) -> tuple[str, dict[str, Detail]] | None:
        terms = self._terms
        if terms.checker is not None:
            message = apply_checker(terms.checker, _alone(result), self._expected_value)
            return None if message is None else (message, {})
        if self._check is None:
            return None
        found = self._check.mismatch(result if self.outputs else _alone(result))
        return None if found is None else (found.message, {"wrong_fraction": found.share})

    def _expect(self, given: ArgumentSet, launch: Launch) -> None:
        terms, reference = self._terms, self._terms.reference
        value = reference
        if callable(reference):
            value = self._referred(given, launch)
        if value is None:
            raise EvaluatorError("the reference returned None and changed no argument; return what must come out")
        self._expected_value = value
        if not self.outputs:
            self._check = OutputCheck(_alone(value), terms.tolerance)
        else:
            parts = [part for _, part in list_leaves(value)]
            if len(parts) != len(self.outputs):
                raise EvaluatorError(
                    f"the reference gives {len(parts)} outputs, and outputs names {len(self.outputs)}:"
                    f" {', '.join(self.outputs)}; make them agree"
                )
            self._check = OutputCheck(dict(zip(self.outputs, parts, strict=True)), terms.tolerance, named=True)
        if terms.checker is None:
            self._check.required()

    def _referred(self, given: ArgumentSet, launch: Launch) -> Any:
        """Call the reference; where it works in place, what it changed is what must come out."""
        remade = callable(given.arguments)
        own, backup = (self.named, None) if remade else self._lent()
        before = tensors.compute_checksums(own)
        value = call_reference(self._terms.reference, own)
        changed = [name for name, total in tensors.compute_checksums(own).items() if total != before[name]]
        in_place = bool(changed) and value is None
        if in_place:
            kept = self.outputs or tuple(changed)
            value = {name: tensors.copy_to_restore(own[name]) for name in kept}
            self.outputs = kept
        if changed and remade:
            del own
            self.named.clear()
            self.named.update(made(given, launch, self._terms.names))
        if backup is not None:
            value = _apart(value, own)
            for name in changed:
                tensors.restore(self.named[name], backup[name])
        if in_place:
            own_account = {*self._names("outputs", self._terms.outputs), *self._zeroed, *self._pristine}
            for name in (name for name in changed if name not in own_account):
                self._pristine[name] = tensors.copy_to_restore(self.named[name])
        return value

    def _lent(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """What the reference is called with: copies; or, where there is no memory for those, the arguments themselves,
        and what to restore them from."""
        import torch

        try:
            return {n: tensors.copy_tensor(v) if is_tensor(v) else v for n, v in self.named.items()}, None
        except torch.OutOfMemoryError:
            return self.named, {n: tensors.copy_tensor(v, "cpu") for n, v in self.named.items() if is_tensor(v)}

    def _unwritten(self) -> tuple[str, ...]:
        written = {*self.outputs, *self._zeroed, *self._restored}
        return tuple(name for name, value in self.named.items() if is_tensor(value) and name not in written)

    def _sum_expected(self) -> int:
        return compute_checksum(self._expected_value)

    def _names(self, what: str, given: Sequence[str | int]) -> tuple[str, ...]:
        names = list(self.named)
        for one in given:
            known = one in names if isinstance(one, str) else -len(names) <= one < len(names)
            if not known:
                raise EvaluatorError(f"{what} has {one!r}, and the arguments are {', '.join(names)}; name one of these")
        found = tuple(one if isinstance(one, str) else names[one] for one in given)
        for name in found:
            if not is_tensor(self.named[name]):
                raise EvaluatorError(f"{what} has {name!r}, which is no tensor; leave it out")
        return found


def _apart(value: Any, lent: Mapping[str, Any]) -> Any:
    """The result, with copies of what lies in the memory of these arguments."""
    if isinstance(value, Mapping):
        return {name: _apart(one, lent) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_apart(one, lent) for one in value]
    if not is_tensor(value):
        return value
    where = value.untyped_storage().data_ptr()
    shared = any(is_tensor(one) and one.untyped_storage().data_ptr() == where for one in lent.values())
    return tensors.copy_to_restore(value) if shared else value


def _on_cpu(value: Any) -> bool:
    return is_tensor(value) and value.device.type == "cpu"


def call_reference(function: Callable[..., Any], named: Mapping[str, Any]) -> Any:
    """Call with the arguments that the function's parameters name; with all, in order, where they name others."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return function(*named.values())
    wanted = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    plain = len(wanted) == len(parameters) and wanted
    if plain and all(p.name in named or p.default is not p.empty for p in parameters):
        return function(**{name: named[name] for name in wanted if name in named})
    return function(*named.values())


def _alone(value: Any) -> Any:
    """A result of one output as that output itself, whether it came in a tuple or not."""
    parts = [part for _, part in list_leaves(value)]
    return parts[0] if len(parts) == 1 else value
