"""Choice: one of a list of values."""

from collections.abc import Iterable, Mapping, Set
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from autotune.core.arguments import short_repr
from autotune.core.config import Value, freeze, token
from autotune.core.errors import SpaceError
from autotune.core.keys import Key, fold, root, words
from autotune.core.memo import memo
from autotune.core.parameters.protocol import Codes
from autotune.core.parameters.ranges import MAX_SIZE, OneColumnParameter, take_plain

ONE_HOT_VALUES, SIGNS = 64, 40
"""Up to 64 values are told apart by a feature each; more of them by 40 features, half of which differ between any two
values or nearly so: a random projection of the one-hot features, which keeps their distances (Achlioptas, "Database-
friendly random projections", J. Computer and System Sciences 66, 2003). Two of 5,000 values are the same in all 40 with
a probability of one in 100,000."""


class Choice(OneColumnParameter, frozen=True, tag="choice", omit_defaults=True, dict=True):
    """One of the given hashable JSON values (None included; 1, 1.0 and True are three values).

    ordered: the values lie on a scale in the given order, so that neighbours are those close by.
    role: as in `PowerOfTwo`.

    >>> Choice((None, "first", "last")).describe()
    "None, 'first', 'last'"
    """

    values: tuple[Any, ...]
    ordered: bool = False
    role: str | None = None

    def __post_init__(self) -> None:
        take_plain(self, "ordered")
        if not isinstance(self.ordered, bool):
            raise SpaceError(f"Choice: ordered is {short_repr(self.ordered)}; give True or False")
        if isinstance(self.values, str | bytes | Mapping | Set) or not isinstance(self.values, Iterable):
            raise SpaceError(f"Choice: the values are {short_repr(self.values)}; give a list, whose order is kept")
        try:
            frozen = tuple(freeze(value) for value in self.values)
        except TypeError as error:
            raise SpaceError(f"Choice: {error}") from None
        if not frozen:
            raise SpaceError("Choice() has no values; give it at least one")
        msgspec.structs.force_setattr(self, "values", frozen)
        if len(self._codes) < len(frozen):
            raise SpaceError(f"Choice({list(frozen)}) names a value twice; keep one of them")

    @memo
    def _codes(self) -> dict[bytes, int]:
        """The code of each value, by its token."""
        return {token(value): code for code, value in enumerate(self.values)}

    @memo
    def _column(self) -> NDArray[np.generic]:
        """All values, as an array of one exact type or of objects: numpy must not turn 1 to 1.0 or True to 1."""
        for kind, dtype in ((bool, np.bool_), (int, np.int64), (float, np.float64)):
            if all(type(value) is kind for value in self.values):
                if kind is int and any(abs(value) > MAX_SIZE for value in self.values):
                    break
                return np.array(self.values, dtype)
        column = np.empty(len(self.values), object)
        for i, value in enumerate(self.values):
            column[i] = value
        return column

    def __eq__(self, other: object) -> bool:
        """By the types of the values too: 1, 1.0 and True are three values."""
        return self._content() == other._content() if isinstance(other, Choice) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._content())

    def _content(self) -> tuple[object, ...]:
        return tuple(self._codes), self.ordered, self.role

    @property
    def size(self) -> int:
        return len(self.values)

    def decode(self, codes: Codes) -> list[Value]:
        values = self.values
        return [values[code] for code in codes[:, 0].tolist()]

    def encode(self, value: Value) -> tuple[int, ...]:
        code = self._codes.get(token(value))
        if code is None:
            raise ValueError(f"one of {self.describe()}")
        return (code,)

    def column(self, codes: Codes) -> NDArray[np.generic]:
        column: NDArray[np.generic] = self._column[codes[:, 0]]
        return column

    def neighbours(self, codes: Codes, radius: int) -> Codes:
        return super().neighbours(codes, radius if self.ordered or radius <= 0 else self.size)

    def mutate(self, a: Codes, b: Codes, c: Codes, key: Key) -> Codes:
        either = np.where((words(key, len(a)) >> np.uint64(63)).astype(bool)[:, None], b, c)
        return np.where(b != c, either, a)

    @property
    def features(self) -> int:
        return 1 if self.ordered else self.size if self.size <= ONE_HOT_VALUES else SIGNS

    def encode_features(self, codes: Codes) -> NDArray[np.float64]:
        if self.ordered:
            return codes.astype(np.float64)
        if self.size > ONE_HOT_VALUES:
            signs: NDArray[np.float64] = _signs(self.size)[codes[:, 0]].astype(np.float64)
            return signs
        hot: NDArray[np.float64] = np.equal(codes, np.arange(self.size)).astype(np.float64)
        return hot

    def describe(self) -> str:
        shown = [repr(value) for value in self.values]
        return ", ".join(shown if len(shown) <= 8 else [*shown[:4], "…", shown[-1]])


@lru_cache(maxsize=16)
def _signs(size: int) -> NDArray[np.bool_]:
    """The features [size, SIGNS] of the values of a long choice: the same for every choice of that length."""
    drawn = words(fold(root(0), "choice"), size)
    signs = (drawn[:, None] >> np.arange(SIGNS, dtype=np.uint64) & np.uint64(1)).astype(np.bool_)
    signs.flags.writeable = False
    return signs
