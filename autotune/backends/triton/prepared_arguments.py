"""One set of arguments on one device: made once, restored for every config, and with the expected output."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from autotune.backends.triton.arguments import ArgumentSet, call_with_names, make_arguments
from autotune.backends.triton.kernel import Hook, Launch
from autotune.backends.triton.launches import RecordedKernel
from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Detail
from autotune.shell.evaluators import tensors
from autotune.shell.evaluators.bench import apply_checker, compute_checksum
from autotune.shell.evaluators.checking import OutputCheck, Tolerance, list_leaves
from autotune.shell.evaluators.tensors import is_tensor

_MOST_COPIES = 64
"""Copies of small arguments that are rotated through at most: more would not make the cache any colder."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CheckSpec:
    """What the user says about arguments and results; see `TritonEvaluator`. names: those that a config sets."""

    reference: Any = None
    outputs: tuple[str | int, ...] = ()
    restore_value: tuple[str | int, ...] = ()
    reset_to_zero: tuple[str | int, ...] = ()
    checker: Callable[[Any, Any], bool | str] | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
    pre_hook: Hook | None = None
    post_hook: Hook | None = None
    names: tuple[str, ...] = ()


class ArgumentsOverwritten(Exception):
    """The inputs or the expected output are no longer as they were."""


class PreparedArguments:
    """The arguments of one workload on one device.

    named: the arguments by name. outputs: the names of those that the kernel writes. compared: how the output is
    checked, for people; empty where it is not. device: "cuda" moves tensors from the CPU to the GPU.

    Raises the errors of `arguments` and `reference`, and EvaluatorError where their results do not fit together.
    """

    def __init__(
        self, workload: ArgumentSet, launch: Launch | RecordedKernel, spec: CheckSpec, device: str = "cpu"
    ) -> None:
        self._spec = spec
        self.named = make_arguments(workload, launch, spec.names)
        if device == "cuda" and not callable(workload.arguments):  # tensors passed on the CPU can only be meant to move
            self.named = {n: tensors.copy_tensor(v, device) if _is_on_cpu(v) else v for n, v in self.named.items()}
        self.outputs = self._resolve_names("outputs", spec.outputs)
        self._zeroed = self._resolve_names("reset_to_zero", spec.reset_to_zero)
        self._restored = self._resolve_names("restore_value", spec.restore_value)
        self._pristine = {name: tensors.copy_to_restore(self.named[name]) for name in self._restored}
        self._check: OutputCheck | None = None
        self._expected: Any = None
        if spec.reference is not None:
            self._prepare_check(workload, launch)
        self.compared = self._describe_check()
        self._watched = self._list_unwritten() if spec.reference is not None or spec.outputs else ()
        self._sums = tensors.compute_checksums({name: self.named[name] for name in self._watched})
        self._expected_sum = compute_checksum(self._expected)

    @property
    def resets(self) -> bool:
        """Whether anything must be done before each run."""
        return bool(self._pristine or self._zeroed)

    def portable_spec(self) -> CheckSpec:
        """The same check with the expected output in the place of the reference, which need not be called again."""
        return replace(self._spec, reference=self._expected, outputs=self.outputs, restore_value=tuple(self._pristine))

    def reset(self) -> None:
        """Restore the arguments that a config may change. Cheap, for it is done before every run."""
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

    def result_of(self, returned: Any) -> Any:
        """The result to check: the outputs among the arguments, or the value that the function returned."""
        return {name: self.named[name] for name in self.outputs} if self.outputs else returned

    def find_fault(self, returned: Any) -> tuple[str, dict[str, Detail]] | None:
        """The fault of a run, with details, from what it wrote and returned; None if it is right.

        Raises ArgumentsOverwritten where that cannot be told.
        """
        found = self._compare(self.result_of(returned))
        if found is not None and compute_checksum(self._expected) != self._expected_sum:
            raise ArgumentsOverwritten("the expected output was overwritten")
        if found is None and (changed := self.find_changed()):
            names = ", ".join(map(repr, changed))
            return f"it changed its argument {names}: name it in outputs, restore_value or reset_to_zero", {}
        return found

    def find_changed(self) -> list[str]:
        """The arguments that must stay as they are, and have not."""
        now = tensors.compute_checksums({name: self.named[name] for name in self._watched})
        return [name for name, total in now.items() if total != self._sums[name]]

    def copies(self, l2_bytes: int) -> list[dict[str, Any]]:
        """So many copies of the arguments that going through them leaves nothing of the first in a cache of so many
        bytes; the arguments themselves come first."""
        given = [value for value in self.named.values() if is_tensor(value)]
        size = max(1, tensors.nbytes(given))
        wanted = min(_MOST_COPIES, 1 + 2 * l2_bytes // size) if given else 1
        more = [
            {n: tensors.copy_tensor(v) if is_tensor(v) else v for n, v in self.named.items()} for _ in range(wanted - 1)
        ]
        return [self.named, *more]

    def _resolve_names(self, what: str, given: Sequence[str | int]) -> tuple[str, ...]:
        """Arguments by name that the user gives by name or position."""
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

    def _prepare_check(self, workload: ArgumentSet, launch: Launch | RecordedKernel) -> None:
        spec = self._spec
        value = self._call_reference(workload, launch) if callable(spec.reference) else spec.reference
        if value is None:
            raise EvaluatorError("the reference returned None and changed no argument; return what must come out")
        self._expected = value
        if not self.outputs:
            self._check = OutputCheck(_unwrap_single(value), spec.tolerance)
        else:
            parts = [part for _, part in list_leaves(value)]
            if len(parts) != len(self.outputs):
                raise EvaluatorError(
                    f"the reference gives {len(parts)} outputs, and outputs names {len(self.outputs)}:"
                    f" {', '.join(self.outputs)}; make them agree"
                )
            self._check = OutputCheck(dict(zip(self.outputs, parts, strict=True)), spec.tolerance, named=True)
        if spec.checker is None:
            self._check.require_elements()

    def _call_reference(self, workload: ArgumentSet, launch: Launch | RecordedKernel) -> Any:
        """The expected output. Where the reference works in place, it is the reference's arguments afterwards."""
        remade = callable(workload.arguments)
        lent, backup = (self.named, None) if remade else self._lend()
        before = tensors.compute_checksums(lent)
        value = call_with_names(self._spec.reference, lent)
        changed = [name for name, total in tensors.compute_checksums(lent).items() if total != before[name]]
        in_place = bool(changed) and value is None
        if in_place:
            kept = self.outputs or tuple(changed)
            value = {name: tensors.copy_to_restore(lent[name]) for name in kept}
            self.outputs = kept
        if changed and remade:
            del lent
            self.named.clear()
            self.named.update(make_arguments(workload, launch, self._spec.names))
        if backup is not None:
            value = _copy_shared(value, lent)
            for name in changed:
                tensors.restore(self.named[name], backup[name])
        if in_place:
            declared = {*self._resolve_names("outputs", self._spec.outputs), *self._zeroed, *self._pristine}
            for name in (name for name in changed if name not in declared):
                self._pristine[name] = tensors.copy_to_restore(self.named[name])
        return value

    def _lend(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Copies of the arguments for the reference. Where there is no memory for copies: the arguments themselves, and
        what to restore them from."""
        import torch

        try:
            return {n: tensors.copy_tensor(v) if is_tensor(v) else v for n, v in self.named.items()}, None
        except torch.OutOfMemoryError:
            return self.named, {n: tensors.copy_tensor(v, "cpu") for n, v in self.named.items() if is_tensor(v)}

    def _describe_check(self) -> str:
        if self._spec.checker is not None:
            return "by the checker"
        return "" if self._check is None else self._check.describe()

    def _compare(self, result: Any) -> tuple[str, dict[str, Detail]] | None:
        if self._spec.checker is not None:
            message = apply_checker(self._spec.checker, _unwrap_single(result), self._expected)
            return None if message is None else (message, {})
        if self._check is None:
            return None
        found = self._check.mismatch(result if self.outputs else _unwrap_single(result))
        return None if found is None else (found.message, {"wrong_fraction": found.share})

    def _list_unwritten(self) -> tuple[str, ...]:
        """The tensors that no config may change."""
        written = {*self.outputs, *self._zeroed, *self._restored}
        return tuple(name for name, value in self.named.items() if is_tensor(value) and name not in written)


def _copy_shared(value: Any, lent: Mapping[str, Any]) -> Any:
    """The result, with copies of the tensors that lie in the memory of these arguments."""
    if isinstance(value, Mapping):
        return {name: _copy_shared(one, lent) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_copy_shared(one, lent) for one in value]
    if not is_tensor(value):
        return value
    where = value.untyped_storage().data_ptr()
    shared = any(is_tensor(one) and one.untyped_storage().data_ptr() == where for one in lent.values())
    return tensors.copy_to_restore(value) if shared else value


def _is_on_cpu(value: Any) -> bool:
    return is_tensor(value) and value.device.type == "cpu"


def _unwrap_single(value: Any) -> Any:
    """A result of one output as that output itself, whether it came in a tuple or not."""
    parts = [part for _, part in list_leaves(value)]
    return parts[0] if len(parts) == 1 else value
