"""Parameters made of several columns: Permutation, ListOf, and OptionalOf (a special value, or one of another kind)."""

from math import factorial
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.arguments import short_repr
from autotune.core.config import Value, freeze, token
from autotune.core.errors import SpaceError
from autotune.core.keys import Key, big_integer, fold, permutations, words
from autotune.core.parameters.choice import Choice
from autotune.core.parameters.protocol import Codes, Column
from autotune.core.parameters.ranges import Boolean, Integer, PowerOfTwo, take_plain

SPECIAL_NEIGHBOURS = 32
"""At most this many values of the inner parameter are neighbours of the special value."""

MOST_ITEMS = 256
"""The list of a longer permutation's neighbours takes over 100 MB."""

MOST_COLUMNS = 10_000
"""A longer list is no setting of a kernel; a population of such points does not fit into memory."""


class Permutation(Struct, frozen=True, tag="permutation", omit_defaults=True):
    """An order of range(n), as a tuple. role: as in `PowerOfTwo`.

    >>> Permutation(3).size
    6
    """

    n: int
    role: str | None = None

    def __post_init__(self) -> None:
        take_plain(self, "n")
        if not isinstance(self.n, int) or isinstance(self.n, bool) or not 1 <= self.n <= MOST_ITEMS:
            raise SpaceError(f"Permutation({short_repr(self.n)}): n must be an integer from 1 to {MOST_ITEMS}")

    @property
    def width(self) -> int:
        return self.n

    @property
    def size(self) -> int:
        return factorial(self.n)

    def decode(self, codes: Codes) -> list[Value]:
        return [tuple(row) for row in codes.tolist()]

    def encode(self, value: Value) -> tuple[int, ...]:
        items = tuple(value) if isinstance(value, list | tuple) else ()
        if any(type(item) is not int for item in items) or sorted(items) != list(range(self.n)):
            raise ValueError(f"an order of 0 to {self.n - 1}")
        return items

    def contains(self, codes: Codes) -> NDArray[np.bool_]:
        held: NDArray[np.bool_] = (np.sort(codes, axis=1) == np.arange(self.n)).all(axis=1)
        return held

    def column(self, codes: Codes) -> Column:
        return tuple(codes[:, i] for i in range(self.n))

    def rank(self, codes: Codes) -> NDArray[np.int64]:
        ranks = np.zeros(len(codes), np.int64)
        for i in range(self.n):
            smaller = (codes[:, i + 1 :] < codes[:, i : i + 1]).sum(axis=1)
            ranks = ranks * (self.n - i) + smaller
        return ranks

    def unrank(self, ranks: NDArray[np.int64]) -> Codes:
        rest, digits = np.array(ranks, np.int64), np.empty((len(ranks), self.n), np.int64)
        for i in reversed(range(self.n)):
            rest, digits[:, i] = np.divmod(rest, self.n - i)
        codes = digits.copy()
        for i in reversed(range(self.n)):  # later items make room for the earlier item of the same rank
            codes[:, i + 1 :] += codes[:, i + 1 :] >= codes[:, i : i + 1]
        return codes

    def sample(self, key: Key, n: int) -> Codes:
        return permutations(key, n, self.n)

    def neighbours(self, codes: Codes, radius: int) -> Codes:
        first, second = np.triu_indices(self.n, 1) if radius > 0 else (np.empty(0, np.int64), np.empty(0, np.int64))
        rows, each = np.tile(codes, (len(first), 1)), np.arange(len(first))
        rows[each, first], rows[each, second] = codes[second], codes[first]
        return rows

    def mutate(self, a: Codes, b: Codes, c: Codes, key: Key) -> Codes:
        return np.where((b != c).any(axis=1, keepdims=True), self.sample(key, len(a)), a)

    @property
    def features(self) -> int:
        return self.n

    def encode_features(self, codes: Codes) -> NDArray[np.float64]:
        return np.argsort(codes, axis=1, kind="stable").astype(np.float64)

    def describe(self) -> str:
        return f"orders of 0 to {self.n - 1}"


class ListOf(Struct, frozen=True, tag="list_of", omit_defaults=True):
    """A tuple of `length` values of another parameter, `inner`. role: as in `PowerOfTwo`.

    >>> ListOf(PowerOfTwo(16, 64), 2).size
    9
    """

    inner: "Parameter"
    length: int
    role: str | None = None

    def __post_init__(self) -> None:
        take_plain(self, "length")
        _check_inner(self)
        if not isinstance(self.length, int) or isinstance(self.length, bool) or self.length < 1:
            raise SpaceError(f"ListOf(…, {short_repr(self.length)}): length must be an integer of at least 1")
        if self.width > MOST_COLUMNS:
            raise SpaceError(
                f"ListOf(…, {short_repr(self.length)}) takes {self.width} columns; use at most {MOST_COLUMNS}"
            )

    def _parts(self, codes: Codes) -> list[Codes]:
        w = self.inner.width
        return [codes[..., i * w : (i + 1) * w] for i in range(self.length)]

    @property
    def width(self) -> int:
        return self.inner.width * self.length

    @property
    def size(self) -> int:
        return int(self.inner.size**self.length)

    def decode(self, codes: Codes) -> list[Value]:
        return list(zip(*(self.inner.decode(part) for part in self._parts(codes)), strict=True))

    def encode(self, value: Value) -> tuple[int, ...]:
        items = value if isinstance(value, list | tuple) else ()
        try:
            if len(items) == self.length:
                return tuple(code for item in items for code in self.inner.encode(item))
        except ValueError:
            pass
        raise ValueError(f"a list of {self.length}, each from {self.inner.describe()}")

    def contains(self, codes: Codes) -> NDArray[np.bool_]:
        held: NDArray[np.bool_] = np.all([self.inner.contains(part) for part in self._parts(codes)], axis=0)
        return held

    def column(self, codes: Codes) -> Column:
        return tuple(self.inner.column(part) for part in self._parts(codes))

    def rank(self, codes: Codes) -> NDArray[np.int64]:
        ranks = np.zeros(len(codes), np.int64)
        for part in self._parts(codes):
            ranks = ranks * self.inner.size + self.inner.rank(part)
        return ranks

    def unrank(self, ranks: NDArray[np.int64]) -> Codes:
        rest, parts = np.array(ranks, np.int64), []
        for _ in range(self.length):
            rest, digit = np.divmod(rest, self.inner.size)
            parts.append(self.inner.unrank(digit))
        return np.concatenate(parts[::-1], axis=1)

    def sample(self, key: Key, n: int) -> Codes:
        return self.inner.sample(key, n * self.length).reshape(n, self.width)

    def neighbours(self, codes: Codes, radius: int) -> Codes:
        rows = []
        for i, part in enumerate(self._parts(codes)):
            near = self.inner.neighbours(part, radius)
            block = np.tile(codes, (len(near), 1))
            block[:, i * self.inner.width : (i + 1) * self.inner.width] = near
            rows.append(block)
        return np.concatenate(rows)

    def mutate(self, a: Codes, b: Codes, c: Codes, key: Key) -> Codes:
        parts = zip(self._parts(a), self._parts(b), self._parts(c), strict=True)
        return np.concatenate([self.inner.mutate(*part, fold(key, i)) for i, part in enumerate(parts)], axis=1)

    @property
    def features(self) -> int:
        return self.inner.features * self.length

    def encode_features(self, codes: Codes) -> NDArray[np.float64]:
        return np.concatenate([self.inner.encode_features(part) for part in self._parts(codes)], axis=1)

    def describe(self) -> str:
        return f"{self.length} of ({self.inner.describe()})"


class OptionalOf(Struct, frozen=True, tag="optional_of", omit_defaults=True):
    """A special value (None, "auto", …), or a value of another parameter, `inner`.

    special: has rank 0. role: as in `PowerOfTwo`.

    >>> OptionalOf(PowerOfTwo(16, 64)).size
    4
    """

    inner: "Parameter"
    special: Any = None
    role: str | None = None

    def __post_init__(self) -> None:
        take_plain(self)
        _check_inner(self)
        try:
            msgspec.structs.force_setattr(self, "special", freeze(self.special))
            self.inner.encode(self.special)
        except TypeError as error:
            raise SpaceError(f"OptionalOf: {error}") from None
        except ValueError:
            return
        raise SpaceError(f"OptionalOf: the special value {self.special!r} is also a value of the inner parameter")

    def __eq__(self, other: object) -> bool:
        """By the type of the special value too: 0, 0.0 and False are three."""
        return self._content() == other._content() if isinstance(other, OptionalOf) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._content())

    def _content(self) -> tuple[object, ...]:
        return self.inner, token(self.special), self.role

    @property
    def width(self) -> int:
        return 1 + self.inner.width

    @property
    def size(self) -> int:
        return 1 + int(self.inner.size)

    def _join(self, active: NDArray[np.bool_], inner: Codes) -> Codes:
        """Codes [n, width]: the flag (0 for the special value), then the inner codes, 0 for the special value."""
        flag = active.astype(np.int64)[:, None]
        return np.concatenate([flag, inner * flag], axis=1)

    def decode(self, codes: Codes) -> list[Value]:
        values = self.inner.decode(self._usable(codes))
        return [v if active else self.special for v, active in zip(values, codes[:, 0].tolist(), strict=True)]

    def _usable(self, codes: Codes) -> Codes:
        """Inner codes that can be decoded: the first value's in place of the special value."""
        first = self.inner.unrank(np.zeros(1, np.int64))
        return np.where(codes[:, :1] == 1, codes[:, 1:], first)

    def encode(self, value: Value) -> tuple[int, ...]:
        if token(freeze(value)) == token(self.special):
            return (0,) * self.width
        try:
            return (1, *self.inner.encode(value))
        except ValueError as error:
            raise ValueError(f"{self.special!r}, or {error}") from None

    def contains(self, codes: Codes) -> NDArray[np.bool_]:
        special = (codes == 0).all(axis=1)
        held: NDArray[np.bool_] = special | ((codes[:, 0] == 1) & self.inner.contains(codes[:, 1:]))
        return held

    def column(self, codes: Codes) -> Column:
        column = np.empty(len(codes), object)
        for i, value in enumerate(self.decode(codes)):
            column[i] = value
        return column

    def rank(self, codes: Codes) -> NDArray[np.int64]:
        return np.where(codes[:, 0] == 1, 1 + self.inner.rank(self._usable(codes)), 0)

    def unrank(self, ranks: NDArray[np.int64]) -> Codes:
        return self._join(ranks > 0, self.inner.unrank(np.maximum(ranks - 1, 0)))

    def sample(self, key: Key, n: int) -> Codes:
        if self.size < 2**32:
            special = words(fold(key, "special"), n) % np.uint64(self.size) == 0
        else:  # rarer than any sample can show, yet possible
            special = np.array([big_integer(fold(key, "special", i), self.size) == 0 for i in range(n)], bool)
        return self._join(~special, self.inner.sample(fold(key, "inner"), n))

    def _beside_special(self) -> Codes:
        """The inner codes that neighbour the special value: all of a few, evenly spread ones of many."""
        if self.inner.size <= SPECIAL_NEIGHBOURS:
            return self.inner.unrank(np.arange(self.inner.size))
        if self.inner.size >= 2**63:
            return self.inner.unrank(np.zeros(1, np.int64))
        spread = [i * (self.inner.size - 1) // (SPECIAL_NEIGHBOURS - 1) for i in range(SPECIAL_NEIGHBOURS)]
        return self.inner.unrank(np.array(spread))

    def neighbours(self, codes: Codes, radius: int) -> Codes:
        if radius <= 0:
            return np.empty((0, self.width), np.int64)
        beside = self._beside_special()
        if codes[0] == 0:
            return self._join(np.ones(len(beside), bool), beside)
        near = self.inner.neighbours(codes[1:], radius)
        rows = self._join(np.ones(len(near), bool), near)
        if (beside == codes[1:]).all(axis=1).any():
            rows = np.concatenate([np.zeros((1, self.width), np.int64), rows])
        return rows

    def mutate(self, a: Codes, b: Codes, c: Codes, key: Key) -> Codes:
        mutated = self.inner.mutate(self._usable(a), self._usable(b), self._usable(c), fold(key, "inner"))
        within = self._join(a[:, 0] == 1, mutated)
        mixed = (b[:, :1] != c[:, :1]) | ((a[:, :1] == 0) & (b[:, :1] == 1) & (b != c).any(axis=1, keepdims=True))
        return np.where(mixed, self.sample(fold(key, "across"), len(a)), within)

    @property
    def features(self) -> int:
        return 1 + self.inner.features

    def encode_features(self, codes: Codes) -> NDArray[np.float64]:
        flag = codes[:, :1].astype(np.float64)
        return np.concatenate([flag, self.inner.encode_features(self._usable(codes))], axis=1)

    def describe(self) -> str:
        return f"{self.special!r}, or {self.inner.describe()}"


Parameter = PowerOfTwo | Integer | Choice | Boolean | Permutation | ListOf | OptionalOf


def _check_inner(parameter: ListOf | OptionalOf) -> None:
    if not isinstance(parameter.inner, Parameter):
        kind = type(parameter).__name__
        raise SpaceError(
            f"{kind}: the inner parameter is {short_repr(parameter.inner)}; use PowerOfTwo, Integer, Choice, …"
        )
