"""How points become inputs of a model: features between 0 and 1, and the parameter that each belongs to.

Numbers count by their value, powers of two by their exponent. A number that need not be a power of two counts a second
time, by how often 2 divides it: memory and threads of a GPU come in powers of two, so that 64 is more like 128 than 72.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from autotune.core.memo import read_only
from autotune.core.models.gp import Blocks, Floats
from autotune.core.parameters import (
    BLOCK_SIZE,
    NUM_WARPS,
    Boolean,
    Choice,
    Codes,
    Integer,
    ListOf,
    OptionalOf,
    Parameter,
    Permutation,
    PowerOfTwo,
)
from autotune.core.parameters.choice import SIGNS
from autotune.core.space import Space


class Term(NamedTuple):
    """A parameter whose values are numbers above 0: its role, its columns, its values by codes, log2 of its ends."""

    role: str | None
    columns: slice
    values: Callable[[Codes], Any]
    low: float
    high: float


class Size(NamedTuple):
    """A product of some terms over others, on a logarithmic scale from 0 to 1."""

    name: str
    over: tuple[Term, ...]
    under: tuple[Term, ...]

    def feature(self, rows: Codes) -> Floats:
        """[n] for points [n, columns]."""
        low = sum(term.low for term in self.over) - sum(term.high for term in self.under)
        high = sum(term.high for term in self.over) - sum(term.low for term in self.under)
        above, below = (sum((_log2(term, rows) for term in terms), np.zeros(len(rows))) for terms in self[1:])
        scaled: Floats = (above - below - low) / (high - low)
        return scaled


def sizes_of(terms: Sequence[Term]) -> tuple[Size, ...]:
    """The sizes that the roles of these terms tell of."""
    blocks = tuple(term for term in terms if term.role == BLOCK_SIZE)
    warps = tuple(term for term in terms if term.role == NUM_WARPS)[:1]
    if not blocks or not warps:
        return ()
    each = Size("elements per warp", blocks, warps)
    return (Size("elements of a block", blocks, ()), each) if len(blocks) > 1 else (each,)


def _log2(term: Term, rows: Codes) -> NDArray[np.float64]:
    return np.log2(np.asarray(term.values(rows[:, term.columns]), np.float64))


WIDE = 64
"""Numbers above 0 that span this factor count by their logarithm."""

ALIGNED, MOST_ALIGNED = 8, 10
"""Alignment matters to numbers above 8, up to a divisor of 2**10."""

ONE_HOT, SIGN = float(np.sqrt(0.5)), float(np.sqrt(2 / SIGNS))
"""The height of a one-hot feature, and of one of the signs of a long choice: two values of a choice are 1 apart, or
about as much."""

COUNTED = 4096
"""Ranges longer than this are judged, for their alignment, by their first so many values."""


class Axis(NamedTuple):
    """One thing that a parameter sets: its name, its columns in a point, and codes [n, width] to features [n, d].

    even: whether the last of its features says how even a number is. exponents: how many, if its values are the powers
    of two of a range; else 0. term: its numbers as a factor of a size, None where they are none.
    """

    name: str
    columns: slice
    features: Callable[[Codes], Floats]
    even: bool
    exponents: int
    term: Term | None


@dataclass(frozen=True)
class Axes:
    """axes: those of the space that vary; sizes: what some of them amount to together.

    blocks [d]: the index of the axis that each feature belongs to, sizes behind axes. even: the indices of the features
    that say how even a number is.
    """

    axes: tuple[Axis, ...]
    sizes: tuple[Size, ...]
    blocks: Blocks
    even: NDArray[np.int64]

    def of(self, rows: Codes) -> Floats:
        """The features [n, d] of points [n, columns]."""
        parts = [axis.features(rows[:, axis.columns]) for axis in self.axes]
        parts += [size.feature(rows)[:, None] for size in self.sizes]
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(rows), 1))

    def extremes(self, features: Floats) -> Floats:
        """How far out points with these features [n, d] lie on their powers of two: [n], of mean 0 over the product.

        The ends of such a range are bounds given generously, the middle is what is expected. For k values it is the
        squared distance from the middle, 1 at either end, less its mean over the values; the sum over these axes is
        divided by the root of the number of all.
        """
        counts = np.array([axis.exponents for axis in self.axes], np.int64)
        firsts = np.searchsorted(self.blocks, np.arange(len(counts)))[counts > 2]
        counts = counts[counts > 2]
        means = (counts + 1) / (3 * (counts - 1))
        away: Floats = (np.square(2 * features[:, firsts] - 1) - means).sum(axis=1) / np.sqrt(max(len(self.axes), 1))
        return away

    @property
    def weight(self) -> int:
        """What a comparison of two points costs, in axes of a feature or a few: a long choice counts for more."""
        counts = np.bincount(self.blocks)
        return len(self.names) + int((counts >= SIGNS).sum()) * (SIGNS // 2 - 1)

    @property
    def names(self) -> tuple[str, ...]:
        return (*(axis.name for axis in self.axes), *(size.name for size in self.sizes))


@lru_cache(maxsize=16)
def axes_of(space: Space) -> Axes:
    """The axes of a space, in its order. A space of one point has no axis, and one feature that is always 0."""
    axes = [
        axis
        for name, parameter in space.parameters.items()
        for axis in _axes(name, parameter, space.slices[name].start, parameter.role)
    ]
    sizes = sizes_of([axis.term for axis in axes if axis.term is not None])
    widths = [_width(axis.features, axis.columns.stop - axis.columns.start) for axis in axes]
    blocks = (
        np.repeat(np.arange(len(axes) + len(sizes)), [*widths, *(1 for _ in sizes)]) if axes else np.zeros(1, np.int64)
    )
    ends = np.cumsum(widths) - 1
    even = np.array([end for end, axis in zip(ends, axes, strict=True) if axis.even], np.int64)
    return Axes(tuple(axes), sizes, read_only(blocks), read_only(even))


def _axes(name: str, parameter: Parameter, start: int, role: str | None) -> Iterator[Axis]:
    if parameter.size < 2:
        return
    if isinstance(parameter, ListOf):
        width = parameter.inner.width
        for i in range(parameter.length):
            yield from _axes(f"{name}[{i}]", parameter.inner, start + i * width, parameter.inner.role or role)
        return
    features, columns = _features(parameter), slice(start, start + parameter.width)
    even = isinstance(parameter, Integer | Choice) and _width(features, parameter.width) == 2
    exponents = parameter.size if isinstance(parameter, PowerOfTwo) else 0
    yield Axis(name, columns, features, even, exponents, _term(parameter, columns, role))


def _numeric(values: tuple[object, ...]) -> bool:
    return all(type(value) in (int, float) for value in values)


def _term(parameter: Parameter, columns: slice, role: str | None) -> Term | None:
    """The parameter as a factor, if its values are numbers above 0."""
    if isinstance(parameter, PowerOfTwo | Integer):
        ends = np.array([[0], [parameter.size - 1]])
    elif isinstance(parameter, Choice) and _numeric(parameter.values):
        values = np.array(parameter.values, np.float64)
        ends = np.array([[values.argmin()], [values.argmax()]])
    else:
        return None
    low, high = np.asarray(parameter.column(ends), np.float64)
    return Term(role, columns, parameter.column, float(np.log2(low)), float(np.log2(high))) if low > 0 else None


def _width(features: Callable[[Codes], Floats], columns: int) -> int:
    return int(features(np.zeros((1, columns), np.int64)).shape[1])


def _features(parameter: Parameter) -> Callable[[Codes], Floats]:
    match parameter:
        case PowerOfTwo() | Boolean():
            return lambda codes: codes / (parameter.size - 1)
        case Integer():
            few = min(parameter.size, COUNTED)
            ends = parameter.column(np.array([[0], [parameter.size - 1]]))
            return _numbers(parameter.column, ends, parameter.column(np.arange(few)[:, None]))
        case Choice():
            return _choice(parameter)
        case Permutation():
            return lambda codes: parameter.encode_features(codes) / (parameter.n - 1)
        case OptionalOf():
            if parameter.inner.size < 2:
                return lambda codes: codes[:, :1].astype(np.float64)
            inner = _features(parameter.inner)
            return lambda codes: np.concatenate([codes[:, :1], inner(codes[:, 1:]) * codes[:, :1]], axis=1)
        case ListOf():
            whole, width = _features(parameter.inner), parameter.inner.width
            parts = [slice(i * width, (i + 1) * width) for i in range(parameter.length)]
            return lambda codes: np.concatenate([whole(codes[:, part]) for part in parts], axis=1)
        case _:
            assert_never(parameter)


def _choice(parameter: Choice) -> Callable[[Codes], Floats]:
    values = parameter.values
    if _numeric(values):
        table = np.array(values, np.float64)
        return _numbers(lambda codes: table[codes[:, 0]], np.array([table.min(), table.max()]), table)
    if parameter.ordered or parameter.size == 2:
        return lambda codes: codes / (parameter.size - 1)
    height = ONE_HOT if parameter.features == parameter.size else SIGN
    return lambda codes: parameter.encode_features(codes) * height


def _numbers(
    column: Callable[[Codes], NDArray[np.generic]], ends: NDArray[np.generic], values: NDArray[np.generic]
) -> Callable[[Codes], Floats]:
    """Features of numbers: on a scale from the lowest to the highest of `ends`, and how even they are if `values` say
    that it may matter."""
    low, high = float(ends.min()), float(ends.max())
    known = np.asarray(values, np.float64)
    powers = low > 0 and bool((np.exp2(np.round(np.log2(known))) == known).all())
    by_log = powers or (low > 0 and high >= WIDE * low)
    low, high = (float(np.log2(low)), float(np.log2(high))) if by_log else (low, high)
    even = _evenness(known)
    span = float(even.max() - even.min()) if not powers and high > (np.log2(ALIGNED) if by_log else ALIGNED) else 0.0

    def features(codes: Codes) -> Floats:
        numbers = np.asarray(column(codes), np.float64)
        scaled = ((np.log2(numbers) if by_log else numbers) - low) / (high - low)
        if not span:
            return scaled[:, None]
        return np.stack([scaled, (_evenness(numbers) - float(even.min())) / span], axis=1)

    return features


def _evenness(numbers: Floats) -> Floats:
    """How often 2 divides each number, 0 for what is no integer."""
    divisors = np.exp2(np.arange(1, MOST_ALIGNED + 1))
    count: Floats = (np.mod(numbers[:, None], divisors) == 0).sum(axis=1).astype(np.float64)
    return count
