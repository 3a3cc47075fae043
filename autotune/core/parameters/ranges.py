"""Parameters that are ranges: PowerOfTwo, Integer, Boolean. Their values are formulas, so a huge one costs nothing."""

from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import force_setattr
from numpy.typing import NDArray

from autotune.core.arguments import plain, short_repr
from autotune.core.config import Value
from autotune.core.errors import SpaceError
from autotune.core.keys import Key, integers
from autotune.core.parameters.protocol import Codes

MAX_SIZE = 2**62
"""The largest absolute value of a number in a range: the sum of two fits 64 bits."""

MOST_VALUES = 2**63
"""A range has fewer values than this, so that each has a rank of 63 bits."""


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def take_plain(parameter: Any, *names: str) -> None:
    """Turn numpy scalars in these fields into Python's; SpaceError for a role that is no text."""
    for name in names:
        force_setattr(parameter, name, plain(getattr(parameter, name)))
    if parameter.role is not None and not isinstance(parameter.role, str):
        kind = type(parameter).__name__
        raise SpaceError(
            f"{kind}: role is {short_repr(parameter.role)}; give a text such as 'block_size', or leave it out"
        )


class OneColumnParameter(Struct, frozen=True):
    """The methods that are the same for parameters of one column whose codes are their ranks.

    Neighbours are within `radius` ranks, and a mutation is a step of one rank in the direction of b - c.
    """

    @property
    def width(self) -> int:
        return 1

    @property
    def size(self) -> int:
        raise NotImplementedError

    @property
    def features(self) -> int:
        return 1

    def column(self, codes: Codes) -> NDArray[np.generic]:
        raise NotImplementedError

    def decode(self, codes: Codes) -> list[Value]:
        values: list[Value] = self.column(codes).tolist()
        return values

    def contains(self, codes: Codes) -> NDArray[np.bool_]:
        return (codes[:, 0] >= 0) & (codes[:, 0] < self.size)

    def rank(self, codes: Codes) -> NDArray[np.int64]:
        return codes[:, 0]

    def unrank(self, ranks: NDArray[np.int64]) -> Codes:
        return ranks[:, None]

    def sample(self, key: Key, n: int) -> Codes:
        return integers(key, self.size, n)[:, None]

    def neighbours(self, codes: Codes, radius: int) -> Codes:
        code = int(codes[0])
        near = np.arange(max(0, code - radius), min(self.size - 1, code + radius) + 1)
        others: Codes = near[near != code][:, None]
        return others

    def mutate(self, a: Codes, b: Codes, c: Codes, key: Key) -> Codes:
        moved: Codes = np.clip(a + np.sign(b - c), 0, self.size - 1)
        return moved


class PowerOfTwo(OneColumnParameter, frozen=True, tag="power_of_two", omit_defaults=True):
    """The powers of two from `low` to `high`, both included and both powers of two.

    role: "block_size", "num_warps" or the like, by which strategies know what the parameter is; None: nothing of that.

    >>> PowerOfTwo(16, 128).describe()
    '16, 32, 64, 128'
    """

    low: int
    high: int
    role: str | None = None

    def __post_init__(self) -> None:
        take_plain(self, "low", "high")
        for bound in (self.low, self.high):
            if not _is_int(bound) or bound < 1 or bound & (bound - 1) or bound > MAX_SIZE:
                whole = f"PowerOfTwo({short_repr(self.low)}, {short_repr(self.high)})"
                raise SpaceError(f"{whole}: {short_repr(bound)} is not a power of two up to 2**62; use 1, 2, 4, 8, …")
        if self.low > self.high:
            raise SpaceError(f"PowerOfTwo({self.low}, {self.high}): low is above high; swap them")

    @property
    def _first(self) -> int:
        return self.low.bit_length() - 1

    @property
    def size(self) -> int:
        return self.high.bit_length() - self.low.bit_length() + 1

    def encode(self, value: Value) -> tuple[int, ...]:
        if not _is_int(value) or not self.low <= value <= self.high or value & (value - 1):
            raise ValueError(f"a power of two from {self.low} to {self.high}")
        return (value.bit_length() - self.low.bit_length(),)

    def column(self, codes: Codes) -> NDArray[np.int64]:
        return np.left_shift(np.int64(1), codes[:, 0] + self._first)

    def encode_features(self, codes: Codes) -> NDArray[np.float64]:
        return (codes + self._first).astype(np.float64)

    def describe(self) -> str:
        if self.size <= 5:
            return ", ".join(str(self.low << i) for i in range(self.size))
        return f"{self.low}, {self.low * 2}, …, {self.high}"


class Integer(OneColumnParameter, frozen=True, tag="integer", omit_defaults=True):
    """The integers low, low + step, … up to `high`. role: as in `PowerOfTwo`.

    >>> Integer(1, 10, step=4).describe()
    '1, 5, 9'
    """

    low: int
    high: int
    step: int = 1
    role: str | None = None

    def __post_init__(self) -> None:
        take_plain(self, "low", "high", "step")
        whole = f"Integer({short_repr(self.low)}, {short_repr(self.high)}, step={short_repr(self.step)})"
        if not all(_is_int(v) and abs(v) <= MAX_SIZE for v in (self.low, self.high, self.step)):
            raise SpaceError(f"{whole}: low, high and step must be integers from -2**62 to 2**62")
        if self.step < 1:
            raise SpaceError(f"{whole}: step must be at least 1")
        if self.low > self.high:
            raise SpaceError(f"{whole}: low is above high; swap them")
        if self.size >= MOST_VALUES:
            raise SpaceError(f"{whole} has {self.size} values, more than 63 bits can number; use a step, or fewer")

    @property
    def size(self) -> int:
        return (self.high - self.low) // self.step + 1

    def encode(self, value: Value) -> tuple[int, ...]:
        if not _is_int(value) or not self.low <= value <= self.high or (value - self.low) % self.step:
            stepped = f" in steps of {self.step}" if self.step > 1 else ""
            raise ValueError(f"an integer from {self.low} to {self.high}{stepped}")
        return ((value - self.low) // self.step,)

    def column(self, codes: Codes) -> NDArray[np.int64]:
        return codes[:, 0] * self.step + self.low

    def encode_features(self, codes: Codes) -> NDArray[np.float64]:
        return (codes * self.step + self.low).astype(np.float64)

    def describe(self) -> str:
        if self.size <= 5:
            return ", ".join(str(self.low + i * self.step) for i in range(self.size))
        last = self.low + (self.size - 1) * self.step
        return f"{self.low}, {self.low + self.step}, …, {last}"


class Boolean(OneColumnParameter, frozen=True, tag="boolean", omit_defaults=True):
    """False or True. role: as in `PowerOfTwo`.

    >>> Boolean().size
    2
    """

    role: str | None = None

    def __post_init__(self) -> None:
        take_plain(self)

    @property
    def size(self) -> int:
        return 2

    def encode(self, value: Value) -> tuple[int, ...]:
        if not isinstance(value, bool):
            raise ValueError("True or False")
        return (int(value),)

    def column(self, codes: Codes) -> NDArray[np.bool_]:
        return codes[:, 0].astype(bool)

    def mutate(self, a: Codes, b: Codes, c: Codes, key: Key) -> Codes:
        return np.where(b != c, 1 - a, a)

    def encode_features(self, codes: Codes) -> NDArray[np.float64]:
        return codes.astype(np.float64)

    def describe(self) -> str:
        return "False, True"
