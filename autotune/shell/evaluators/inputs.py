"""Arguments that every config finds as they were given, whatever the configs before it did to them."""

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any
from zlib import crc32

import numpy as np

from autotune.core.errors import EvaluatorError
from autotune.shell.evaluators import tensors
from autotune.shell.evaluators.outputs import has_equality, leaves
from autotune.shell.evaluators.tensors import is_tensor

ATOMS = (
    *(bool, int, float, complex, str, bytes, range, type, np.generic, np.dtype),
    *(FunctionType, BuiltinFunctionType, ModuleType),
)
"""Kinds of values that nobody changes."""


class Inputs:
    """Working copies of `args`. The originals are never handed to a kernel.

    Arrays, tensors, lists, dicts, sets and buffers, nested in any way, are given their values back where they are, and
    what shares memory shares it in the copies too. Objects of other kinds are copied anew by `restore`. Raises
    EvaluatorError for an argument that cannot be copied, and so not be restored.
    """

    def __init__(self, args: Sequence[Any]) -> None:
        self._pristine = tuple(args)
        self._copier = Copier(self._pristine)
        self.working = tuple(self._copier.copied(value, f"args[{i}]") for i, value in enumerate(self._pristine))
        self.in_place = all(map(_refillable, self._pristine))
        """Whether all arguments can be given their values back where they are."""

    def restore(self) -> None:
        """Make the working arguments equal to the originals again."""
        self.working = tuple(self._copier.restored(value, f"args[{i}]") for i, value in enumerate(self._pristine))

    def changed(self) -> list[int]:
        """The numbers of the arguments that differ from the originals, as far as they can be compared."""
        pairs = enumerate(zip(self.working, self._pristine, strict=True))
        return [i for i, (a, b) in pairs if not same(a, b)]

    def checksum(self) -> int:
        """A checksum of the originals, which no kernel may change."""
        return checksum(self._pristine)


class Copier:
    """Copies values so that what is one thing in `whole`, or shares memory in it, is or does so in the copies."""

    def __init__(self, whole: Sequence[Any]) -> None:
        self._memo: dict[int, Any] = {}
        self._alive: list[Any] = []  # what has an entry must live on, lest another takes its number
        arrays = {id(leaf): leaf for leaf in _arrays_in(whole)}
        self._owners = Counter(_owner(array) for array in arrays.values())
        self._owned: dict[Any, Any] = {}

    def copied(self, value: Any, place: str) -> Any:
        """A copy; raises EvaluatorError, naming the place, for what cannot be copied."""
        if value is None or isinstance(value, ATOMS):
            return value
        if id(value) not in self._memo:
            self._memo[id(value)] = self._anew(value, place)
            self._alive.append(value)
        return self._memo[id(value)]

    def restored(self, value: Any, place: str) -> Any:
        """The copy of a value, equal to it again; where it cannot be refilled, it is copied anew."""
        if value is None or isinstance(value, ATOMS):
            return value
        made = self.copied(value, place)
        if _in_memory(value):
            if made.shape == value.shape:
                return _refilled(made, value)
        elif type(value) is list:
            made[:] = [self.restored(item, f"{place}[{i}]") for i, item in enumerate(value)]
            return made
        elif type(value) is dict:
            items = {key: self.restored(item, f"{place}[{key!r}]") for key, item in value.items()}
            made.clear()
            made.update(items)
            return made
        elif type(value) is set:
            made.clear()
            made.update(value)
            return made
        elif type(value) is bytearray and len(made) == len(value):
            made[:] = value
            return made
        elif isinstance(value, tuple) and (type(value) is tuple or hasattr(value, "_fields")):
            parts = [self.restored(item, f"{place}[{i}]") for i, item in enumerate(value)]
            if all(a is b for a, b in zip(parts, made, strict=True)):
                return made
        del self._memo[id(value)]
        return self.copied(value, place)

    def _anew(self, value: Any, place: str) -> Any:
        if _in_memory(value) and isinstance(value, np.ndarray):
            return self._array(value)
        if is_tensor(value) and str(value.layout) == "torch.strided":
            return self._tensor(value)
        if type(value) is list:
            return [self.copied(item, f"{place}[{i}]") for i, item in enumerate(value)]
        if type(value) is dict:
            return {key: self.copied(item, f"{place}[{key!r}]") for key, item in value.items()}
        if isinstance(value, tuple) and (type(value) is tuple or hasattr(value, "_fields")):
            items = [self.copied(item, f"{place}[{i}]") for i, item in enumerate(value)]
            return tuple(items) if type(value) is tuple else type(value)(*items)
        if isinstance(value, memoryview):
            raw = value.tobytes()
            made: Any = memoryview(raw if value.readonly else bytearray(raw))
            return made.cast(value.format, value.shape)
        try:
            return copy.deepcopy(value)
        except Exception as error:
            raise EvaluatorError(
                f"{place} is a {type(value).__qualname__}, which cannot be copied, and so not be restored between"
                f" configs ({type(error).__name__}: {error}); make it in `build`"
            ) from None

    def _array(self, array: np.ndarray[Any, Any]) -> Any:
        root = _root(array)
        if self._owners[_owner(array)] > 1 and (root.flags.c_contiguous or root.flags.f_contiguous):
            key = _owner(array)
            if key not in self._owned:
                self._owned[key] = root.copy(order="K").ravel(order="K")
            start = array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
            made = np.ndarray(array.shape, array.dtype, self._owned[key].data, start, array.strides)
        else:
            made = array.copy(order="K")
        made.flags.writeable = array.flags.writeable
        return made

    def _tensor(self, tensor: Any) -> Any:
        if self._owners[_owner(tensor)] < 2 or tensor.is_conj() or tensor.is_neg():
            return tensors.copied(tensor)
        import torch

        key = _owner(tensor)
        if key not in self._owned:
            self._owned[key] = tensor.untyped_storage().clone()
        made = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        made.set_(self._owned[key], tensor.storage_offset(), tensor.shape, tensor.stride())
        return made.requires_grad_(tensor.requires_grad)


def checksum(value: Any) -> int:
    """A checksum of the arrays and tensors in `value`, however it is nested."""
    total = 0
    for _, leaf in leaves(value):
        if isinstance(leaf, np.ndarray) and not leaf.dtype.hasobject and leaf.size:
            total = crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data, total)
        elif is_tensor(leaf):
            total = crc32(repr(tensors.checksums({"": leaf})).encode(), total)
        elif isinstance(leaf, bytearray):
            total = crc32(leaf, total)
    return total


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal, NaN to NaN; objects without an == of their own count as equal."""
    if isinstance(b, np.ma.MaskedArray):
        return isinstance(a, np.ma.MaskedArray) and all(
            same(x, y) for (_, x), (_, y) in zip(leaves(a), leaves(b), strict=True)
        )
    if isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and a.shape == b.shape and a.dtype == b.dtype and _equal_arrays(a, b)
    if is_tensor(b):
        return is_tensor(a) and a.shape == b.shape and a.dtype == b.dtype and tensors.equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in b)
    try:
        if has_equality(b) and not hasattr(b, "__dict__"):
            return bool(a == b) or bool(a != a and b != b)
        return same(_parts(a), _parts(b))
    except Exception:  # a foreign == may do anything, and objects may hold one another
        return True


def _parts(value: Any) -> dict[str, Any]:
    """The attributes of an object."""
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    return {**{name: getattr(value, name) for name in slots if hasattr(value, name)}, **getattr(value, "__dict__", {})}


def _equal_arrays(a: Any, b: Any) -> bool:
    if a.dtype.hasobject:
        return all(same(x, y) for x, y in zip(a.reshape(-1).tolist(), b.reshape(-1).tolist(), strict=True))
    return np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


def _in_memory(value: Any) -> bool:
    """Whether a value keeps its place in memory when it is restored."""
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject and not isinstance(value, np.ma.MaskedArray)
    return is_tensor(value) and str(value.layout) == "torch.strided"


def _refillable(value: Any) -> bool:
    """Whether a value, however nested, is given its content back where it is."""
    if value is None or isinstance(value, ATOMS) or _in_memory(value) or type(value) in (set, bytearray):
        return True
    if type(value) is dict:
        return all(map(_refillable, value.values()))
    plain = type(value) in (list, tuple) or (isinstance(value, tuple) and hasattr(value, "_fields"))
    return plain and all(map(_refillable, value))


def _refilled(working: Any, pristine: Any) -> Any:
    if not isinstance(pristine, np.ndarray):
        tensors.restore(working, pristine)
    elif pristine.flags.writeable:
        working.flags.writeable = True
        np.copyto(working, pristine)
    return working


def _arrays_in(value: Any) -> Iterator[Any]:
    return (leaf for _, leaf in leaves(value) if isinstance(leaf, np.ndarray) or is_tensor(leaf))


def _root(array: Any) -> Any:
    """The array that owns an array's memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _owner(array: Any) -> tuple[str, int]:
    """A number for the memory that an array or a tensor lies in."""
    if isinstance(array, np.ndarray):
        return "numpy", id(_root(array))
    return "torch", array.untyped_storage().data_ptr() if str(array.layout) == "torch.strided" else id(array)
