"""Arguments that every config finds as they were given, whatever the configs before it wrote into them."""

import copy
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np


class Inputs:
    """Working copies of `args`: numpy arrays are copied back in place, built-in containers copied anew.

    Anything else is passed as it is. The originals are never handed to a kernel.
    """

    def __init__(self, args: Sequence[Any]) -> None:
        self._pristine = tuple(args)
        # By identity: a kernel that gets one array twice must get one copy twice.
        copies = {id(a): a.copy(order="K") for a in self._pristine if isinstance(a, np.ndarray)}
        self.working = tuple(copies[id(a)] if id(a) in copies else _fresh(a) for a in self._pristine)

    @property
    def arrays(self) -> tuple[Any, ...]:
        """The arrays among the working arguments, in order."""
        return tuple(a for a in self.working if isinstance(a, np.ndarray))

    def restore(self) -> None:
        """Make the working arguments equal to the originals again."""
        self.restore_arrays()
        pairs = zip(self.working, self._pristine, strict=True)
        self.working = tuple(a if isinstance(a, np.ndarray) else _fresh(b) for a, b in pairs)

    def restore_arrays(self) -> None:
        """`restore` for arrays alone: cheap enough to be done before every sample."""
        for a, b in zip(self.working, self._pristine, strict=True):
            if isinstance(a, np.ndarray) and a.flags.writeable:
                np.copyto(a, b)

    def changed(self) -> bool:
        """Whether an array differs from its original."""
        pairs = zip(self.working, self._pristine, strict=True)
        return any(not _same(a, b) for a, b in pairs if isinstance(a, np.ndarray))

    def checksum(self) -> int:
        """A checksum of the originals, which no kernel may change."""
        return checksum(self._pristine)


def checksum(value: Any) -> int:
    """A checksum of the arrays in `value` (an array, or a tuple, list or dict of them)."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        total = 0
        for item in value:
            total = crc32(checksum(item).to_bytes(4, "big"), total)
        return total
    if isinstance(value, np.ndarray) and not value.dtype.hasobject and value.size:
        return crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    return 0


def _fresh(arg: Any) -> Any:
    return copy.deepcopy(arg) if isinstance(arg, list | dict | set | bytearray) else arg


def _same(a: Any, b: Any) -> bool:
    equal = a == b
    if a.dtype.kind in "fc":
        equal |= (a != a) & (b != b)
    return bool(np.all(equal))
