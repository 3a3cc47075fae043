"""The tensors of a call while it is tuned: the kernel writes to copies, and reads its other tensors where they are.

Where there is no memory for copies, the kernel writes to the tensors themselves, which get their values back from the
host.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from typing import Any, NamedTuple

from autotune.backends.triton_decorator.written_arguments import Effects, Names
from autotune.shell.evaluators.tensors import copy_tensor, copy_to_restore, is_tensor, nbytes
from autotune.shell.warn import warn_user

_HEADROOM_BYTES = 1 << 30
"""Bytes of a GPU that are left free: another process needs them for its context, and kernels for their scratch."""

_ALIGNMENT = 256
"""The alignment in bytes that copies keep: more than Triton looks at."""


class WrittenTensors(NamedTuple):
    """Names of the arguments that a kernel writes. outputs: written and not read. restored: also read, so that every
    run must find them as they were. wrapped: no tensors themselves, but holding some: descriptors, tuples.
    """

    outputs: tuple[str, ...]
    restored: tuple[str, ...]
    wrapped: tuple[str, ...] = ()


def find_written(
    effects: Effects | None, named: Mapping[str, Any], declared: Sequence[str], restored: Sequence[str]
) -> WrittenTensors:
    """The arguments that a call writes. effects: by the kernel's source, None where it does not tell. declared,
    restored: by its user.

    A tensor that shares memory with another argument is restored, as it may be read through the other. Where the source
    does not tell, and where an address comes from no tensor of the call, every tensor may be written.
    """
    tensors = [name for name, value in named.items() if is_tensor(value)]
    wrapped = [name for name, value in named.items() if holds_tensor(value)]
    anything = frozenset((*tensors, *wrapped))
    if effects is None or _lead_anywhere(effects.stores, named):
        effects = Effects(anything, anything)
    elif _lead_anywhere(effects.loads, named):
        effects = effects._replace(read=anything)
    by_user = frozenset((*declared, *restored))
    names = [name for name in tensors if name in effects.written or name in by_user]
    shared = {name for group in _overlapping(named, tensors) if len(group) > 1 for name in group}
    again = [name for name in names if name in effects.read or name in restored or name in shared]
    return WrittenTensors(
        tuple(name for name in names if name not in again), tuple(again),
        tuple(name for name in wrapped if name in effects.written or name in by_user),
    )  # fmt: skip


def _lead_anywhere(addresses: Iterable[Names], named: Mapping[str, Any]) -> bool:
    """Whether one of these addresses comes from no tensor. An argument that is None is an optional one, not used."""
    given = [[named.get(name) for name in address] for address in addresses]
    return any(
        not any(value is None or is_tensor(value) or holds_tensor(value) for value in values) for values in given
    )


def holds_tensor(value: Any) -> bool:
    """Whether this is a tensor descriptor, a tensor in a wrapper of Triton's, or a tuple with tensors."""
    return not is_tensor(value) and bool(_held_tensors(value))


def _held_tensors(value: Any) -> list[Any]:
    if isinstance(value, tuple):
        return [tensor for one in value for tensor in _held_tensors(one)]
    inner = value if is_tensor(value) else getattr(value, "base", None)
    return [inner] if is_tensor(inner) else []


def _copy_wrapped(value: Any) -> Any:
    """The same wrapper around copies of its tensors."""
    if isinstance(value, tuple):
        copies = [_copy_wrapped(one) for one in value]
        return type(value)(*copies) if hasattr(value, "_fields") else tuple(copies)
    if is_tensor(value):
        return copy_tensor(value)
    if holds_tensor(value):
        value, base = copy(value), value.base
        value.base = copy_tensor(base)
    return value


@contextmanager
def protect(named: Mapping[str, Any], written: WrittenTensors, zeroed: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """The arguments to tune with. At the end, the caller's tensors hold what they held before.

    zeroed: names among `written.restored` whose values no run needs.
    """
    names = [*written.outputs, *written.restored]
    tensors = [name for name, value in named.items() if is_tensor(value)]
    groups = [group for group in _overlapping(named, tensors) if {*group} & {*names}]
    again = [name for name in written.restored if name not in zeroed]  # the evaluator keeps another copy of these
    bases = {f"{name}.{i}": one for name in written.wrapped for i, one in enumerate(_held_tensors(named[name]))}
    once = [named[name] for group in groups for name in group] + list(bases.values())
    if _fits(once, [named[name] for name in again]):
        copies: dict[str, Any] = {}
        for group in groups:
            copies |= _copy_together({name: named[name] for name in group})
        yield {**named, **copies, **{name: _copy_wrapped(named[name]) for name in written.wrapped}}
        return
    warn_user(
        f"there is no memory for copies of {', '.join([*names, *bases])}, which the kernel writes: it is tuned on the"
        " tensors themselves, which get their values back from the host when that is over",
    )
    touched = {**{name: named[name] for name in names}, **bases}
    held = {name: _memory(tensor).to("cpu", copy=True) for name, tensor in touched.items()}
    try:
        yield {name: value.detach() if name in names else value for name, value in named.items()}
    finally:
        for name, value in held.items():
            _memory(touched[name]).copy_(value)


def make_restorer(named: Mapping[str, Any], written: WrittenTensors, zeroed: Sequence[str] = ()) -> Callable[[], None]:
    """A function that gives the tensors within descriptors and tuples the values that every run must find."""
    zeros = [tensor for name in written.wrapped if name in zeroed for tensor in _held_tensors(named[name])]
    again = [tensor for name in written.wrapped if name not in zeroed for tensor in _held_tensors(named[name])]
    values = [copy_to_restore(tensor) for tensor in again]

    def restore() -> None:
        for tensor, value in zip(again, values, strict=True):
            _memory(tensor).copy_(_memory(value))
        for tensor in zeros:
            tensor.detach().zero_()

    return restore


def _overlapping(named: Mapping[str, Any], tensors: Sequence[str]) -> list[list[str]]:
    """The names of these tensors in groups whose memory overlaps."""
    spans = sorted((*_span(named[name]), name) for name in tensors if named[name].numel())
    groups: list[list[str]] = []
    reached = -1
    for begin, end, name in spans:
        if begin < reached:
            groups[-1].append(name)
        else:
            groups.append([name])
        reached = max(reached, end)
    return groups


def _reach(tensor: Any) -> int:
    """The number of elements from its first to its last one in memory."""
    return 1 + sum((int(n) - 1) * int(s) for n, s in zip(tensor.shape, tensor.stride(), strict=True))


def _span(tensor: Any) -> tuple[int, int]:
    """The addresses of the bytes between which its elements lie."""
    begin = int(tensor.data_ptr())
    return begin, begin + _reach(tensor) * int(tensor.element_size())


def _memory(tensor: Any) -> Any:
    """Everything between its first and its last element, as a vector."""
    reach = _reach(tensor) if tensor.numel() else 0
    return tensor.detach().as_strided((reach,), (1,), tensor.storage_offset())


def _copy_together(group: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of tensors over one piece of memory: they overlap as before, and are aligned as before."""
    import torch

    spans = {name: _span(tensor) for name, tensor in group.items()}
    begin, end = min(span[0] for span in spans.values()), max(span[1] for span in spans.values())
    some = next(iter(group.values()))
    shift = begin % _ALIGNMENT
    room = torch.empty(shift + end - begin + _ALIGNMENT, dtype=torch.uint8, device=some.device)
    shift += -room.data_ptr() % _ALIGNMENT
    copies = {}
    for name, tensor in group.items():
        at, size = shift + spans[name][0] - begin, tensor.element_size()
        reach = (spans[name][1] - spans[name][0]) // size
        flat = room[at : at + reach * size].view(tensor.dtype)
        flat.copy_(_memory(tensor))
        copies[name] = flat.as_strided(tensor.shape, tensor.stride(), flat.storage_offset())
    return copies


def _fits(once: Sequence[Any], again: Sequence[Any]) -> bool:
    """Whether there is memory for a copy of the first tensors, and one more of the second ones."""
    import torch

    on_gpu = [tensor for tensor in once if tensor.device.type != "cpu"]
    if not on_gpu:
        return True
    device = on_gpu[0].device
    needed = nbytes(on_gpu) + nbytes([tensor for tensor in again if tensor.device.type != "cpu"]) + _HEADROOM_BYTES
    with suppress(Exception):  # of some makes, torch does not tell
        memory: Any = torch.get_device_module(device)
        if memory.mem_get_info(device)[0] < needed:
            memory.empty_cache()
        return bool(memory.mem_get_info(device)[0] >= needed)
    return True
