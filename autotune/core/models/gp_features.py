"""The inputs of the Gaussian process: features between 0 and 1 of the points of a space, and the axis of each feature.

An axis is one parameter that varies (each item of a list by itself), or a quantity derived from several. Numbers count
by their value, powers of two by their exponent. A number that need not be a power of two has a second feature, how
often 2 divides it: memory and threads of a GPU come in powers of two, so 64 is more like 128 than like 72.

Where blocks are tiles of data, worked on by a number of warps chosen apart, a GPU feels the product of the block sizes
and the elements per warp (registers, shared memory, work in flight) as much as the factors. As axes of their own a
model sees them from a dozen points. Blocks without warps are blocks of threads, for which such axes did not help.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from autotune.core.memo import read_only
from autotune.core.models.gp import AxisIndex, Floats
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

WIDE_FACTOR = 64
"""Numbers above 0 whose largest is at least this factor above the smallest count by their logarithm: a convention."""

ALIGNED_ABOVE, MOST_DIVISIONS = 8, 10
"""Alignment matters to numbers above 8 (the 16-byte accesses of a GPU are 8 half-precision numbers), up to 2**10."""

ONE_HOT_HEIGHT, SIGN_HEIGHT = float(np.sqrt(0.5)), float(np.sqrt(2 / SIGNS))
"""The height of a one-hot feature, and of one random sign of a long choice: so two values of a choice are at distance
1, or about 1."""

ALIGNMENT_SAMPLE = 4096
"""The alignment of a longer range is judged by this number of its first values."""

Features = Callable[[Codes], Floats]
"""Codes [n, width] of one parameter to its features [n, d]."""


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A parameter whose values are numbers above 0, as a factor of a derived quantity.

    role: of the parameter. columns: its columns in a point. values: codes [n, width] to values [n]. low, high: log2 of
    its least and its largest value.
    """

    role: str | None
    columns: slice
    values: Callable[[Codes], Any]
    low: float
    high: float

    def log2(self, points: Codes) -> Floats:
        """[n] for points [n, columns]."""
        return np.log2(np.asarray(self.values(points[:, self.columns]), np.float64))


@dataclass(frozen=True, kw_only=True)
class ParameterAxis:
    """One parameter, or one item of a list.

    columns: its columns in a point. features: its features by its codes. has_alignment: whether the last of its
    features says how often 2 divides its value. exponents: the number of its values if they are powers of two, else 0.
    factor: its part in derived quantities, None unless its values are numbers above 0.
    """

    name: str
    columns: slice
    features: Features
    has_alignment: bool
    exponents: int
    factor: Factor | None


@dataclass(frozen=True)
class DerivedAxis:
    """The product of some factors, divided by that of others, on a logarithmic scale from 0 to 1."""

    name: str
    over: tuple[Factor, ...]
    under: tuple[Factor, ...]

    def feature(self, points: Codes) -> Floats:
        """[n] for points [n, columns]."""
        low = sum(factor.low for factor in self.over) - sum(factor.high for factor in self.under)
        high = sum(factor.high for factor in self.over) - sum(factor.low for factor in self.under)
        above, below = (
            sum((factor.log2(points) for factor in factors), np.zeros(len(points)))
            for factors in (self.over, self.under)
        )
        scaled: Floats = (above - below - low) / (high - low)
        return scaled


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """From points to inputs of the Gaussian process.

    parameters: an axis for each parameter that varies. derived: the axes of quantities derived from several, behind
    them.
    axis_of [d]: the axis of each feature. alignment: the indices of the features that say how often 2 divides a number.
    """

    parameters: tuple[ParameterAxis, ...]
    derived: tuple[DerivedAxis, ...]
    axis_of: AxisIndex
    alignment: NDArray[np.int64]

    def features(self, points: Codes) -> Floats:
        """The features [n, d] of points [n, columns]."""
        parts = [axis.features(points[:, axis.columns]) for axis in self.parameters]
        parts += [axis.feature(points)[:, None] for axis in self.derived]
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(points), 1))

    def extremeness(self, features: Floats) -> Floats:
        """How far out points with these features [n, d] lie on their powers of two: [n], of mean 0 over the whole
        product.

        Users give the ends of such a range generously and expect the best in the middle. For k values it is the squared
        distance from the middle, 1 at either end, less its mean over the values; the sum over these axes is divided by
        the root of the number of all parameters.
        """
        counts = np.array([axis.exponents for axis in self.parameters], np.int64)
        firsts = np.searchsorted(self.axis_of, np.arange(len(counts)))[counts > 2]
        counts = counts[counts > 2]
        means = (counts + 1) / (3 * (counts - 1))
        away: Floats = (np.square(2 * features[:, firsts] - 1) - means).sum(axis=1)
        away = away / np.sqrt(max(len(self.parameters), 1))
        return away

    @property
    def comparison_cost(self) -> int:
        """The cost of comparing two points, in axes of a feature or two: a long choice counts for more."""
        counts = np.bincount(self.axis_of)
        return len(self.names) + int((counts >= SIGNS).sum()) * (SIGNS // 2 - 1)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each axis."""
        return (*(axis.name for axis in self.parameters), *(axis.name for axis in self.derived))


@lru_cache(maxsize=16)
def feature_map(space: Space) -> FeatureMap:
    """The axes of a space, in its order. A space of one point has no axis, and one feature that is always 0."""
    axes = [
        axis
        for name, parameter in space.parameters.items()
        for axis in _parameter_axes(name, parameter, space.slices[name].start, parameter.role)
    ]
    derived = _derived_axes([axis.factor for axis in axes if axis.factor is not None])
    widths = [_width(axis.features, axis.columns.stop - axis.columns.start) for axis in axes]
    every = [*widths, *(1 for _ in derived)]
    axis_of = np.repeat(np.arange(len(every)), every) if axes else np.zeros(1, np.int64)
    last_features = np.cumsum(widths) - 1
    alignment = np.array([last for last, axis in zip(last_features, axes, strict=True) if axis.has_alignment], np.int64)
    return FeatureMap(
        parameters=tuple(axes), derived=derived, axis_of=read_only(axis_of), alignment=read_only(alignment)
    )


def _parameter_axes(name: str, parameter: Parameter, start: int, role: str | None) -> Iterator[ParameterAxis]:
    if parameter.size < 2:
        return
    if isinstance(parameter, ListOf):
        width = parameter.inner.width
        for i in range(parameter.length):
            inner_role = parameter.inner.role or role
            yield from _parameter_axes(f"{name}[{i}]", parameter.inner, start + i * width, inner_role)
        return
    features, columns = _features(parameter), slice(start, start + parameter.width)
    yield ParameterAxis(
        name=name,
        columns=columns,
        features=features,
        has_alignment=isinstance(parameter, Integer | Choice) and _width(features, parameter.width) == 2,
        exponents=parameter.size if isinstance(parameter, PowerOfTwo) else 0,
        factor=_factor(parameter, columns, role),
    )


def _derived_axes(factors: Sequence[Factor]) -> tuple[DerivedAxis, ...]:
    """The elements of a block, where it has several sizes, and the elements per warp."""
    blocks = tuple(factor for factor in factors if factor.role == BLOCK_SIZE)
    warps = tuple(factor for factor in factors if factor.role == NUM_WARPS)[:1]
    if not blocks or not warps:
        return ()
    per_warp = DerivedAxis("elements per warp", blocks, warps)
    return (DerivedAxis("elements of a block", blocks, ()), per_warp) if len(blocks) > 1 else (per_warp,)


def _factor(parameter: Parameter, columns: slice, role: str | None) -> Factor | None:
    if isinstance(parameter, PowerOfTwo | Integer):
        ends = np.array([[0], [parameter.size - 1]])
    elif isinstance(parameter, Choice) and _numeric(parameter.values):
        values = np.array(parameter.values, np.float64)
        ends = np.array([[values.argmin()], [values.argmax()]])
    else:
        return None
    low, high = np.asarray(parameter.column(ends), np.float64)
    if low <= 0:
        return None
    return Factor(
        role=role, columns=columns, values=parameter.column, low=float(np.log2(low)), high=float(np.log2(high))
    )


def _width(features: Features, columns: int) -> int:
    return int(features(np.zeros((1, columns), np.int64)).shape[1])


def _features(parameter: Parameter) -> Features:
    match parameter:
        case PowerOfTwo() | Boolean():
            return lambda codes: codes / (parameter.size - 1)
        case Integer():
            few = min(parameter.size, ALIGNMENT_SAMPLE)
            ends = parameter.column(np.array([[0], [parameter.size - 1]]))
            return _number_features(parameter.column, ends, parameter.column(np.arange(few)[:, None]))
        case Choice():
            return _choice_features(parameter)
        case Permutation():
            return lambda codes: parameter.encode_features(codes) / (parameter.n - 1)
        case OptionalOf():
            if parameter.inner.size < 2:
                return lambda codes: codes[:, :1].astype(np.float64)
            inner = _features(parameter.inner)
            return lambda codes: np.concatenate([codes[:, :1], inner(codes[:, 1:]) * codes[:, :1]], axis=1)
        case ListOf():
            item, width = _features(parameter.inner), parameter.inner.width
            parts = [slice(i * width, (i + 1) * width) for i in range(parameter.length)]
            return lambda codes: np.concatenate([item(codes[:, part]) for part in parts], axis=1)
        case _:
            assert_never(parameter)


def _choice_features(parameter: Choice) -> Features:
    values = parameter.values
    if _numeric(values):
        table = np.array(values, np.float64)
        return _number_features(lambda codes: table[codes[:, 0]], np.array([table.min(), table.max()]), table)
    if parameter.ordered or parameter.size == 2:
        return lambda codes: codes / (parameter.size - 1)
    height = ONE_HOT_HEIGHT if parameter.features == parameter.size else SIGN_HEIGHT
    return lambda codes: parameter.encode_features(codes) * height


def _numeric(values: tuple[object, ...]) -> bool:
    return all(type(value) in (int, float) for value in values)


def _number_features(
    column: Callable[[Codes], NDArray[np.generic]], ends: NDArray[np.generic], values: NDArray[np.generic]
) -> Features:
    """Features of numbers: their place on a scale from the lowest to the highest of `ends`, and how often 2 divides
    them where `values`, all of them or the first, show that it may matter.

    column: codes to numbers.
    """
    low, high = float(ends.min()), float(ends.max())
    sample = np.asarray(values, np.float64)
    powers = low > 0 and bool((np.exp2(np.round(np.log2(sample))) == sample).all())
    by_log = powers or (low > 0 and high >= WIDE_FACTOR * low)
    low, high = (float(np.log2(low)), float(np.log2(high))) if by_log else (low, high)
    divisions = _divisions_by_2(sample)
    aligned = not powers and high > (np.log2(ALIGNED_ABOVE) if by_log else ALIGNED_ABOVE)
    span = float(divisions.max() - divisions.min()) if aligned else 0.0

    def features(codes: Codes) -> Floats:
        numbers = np.asarray(column(codes), np.float64)
        scaled = ((np.log2(numbers) if by_log else numbers) - low) / (high - low)
        if not span:
            return scaled[:, None]
        return np.stack([scaled, (_divisions_by_2(numbers) - float(divisions.min())) / span], axis=1)

    return features


def _divisions_by_2(numbers: Floats) -> Floats:
    """How often 2 divides each number, at most MOST_DIVISIONS times; 0 for a number that is no integer."""
    divisors = np.exp2(np.arange(1, MOST_DIVISIONS + 1))
    count: Floats = (np.mod(numbers[:, None], divisors) == 0).sum(axis=1).astype(np.float64)
    return count
