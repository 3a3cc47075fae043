"""A space in Helion's words: one fragment for each parameter, of the kind that moves as the parameter does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from helion.autotuner.config_fragment import (
    BlockSizeFragment,
    BooleanFragment,
    ConfigSpecFragment,
    EnumFragment,
    IntegerFragment,
    NumWarpsFragment,
    PermutationFragment,
    PowerOfTwoFragment,
)

from autotune.core.config import Value
from autotune.core.errors import StrategyError
from autotune.core.parameters import Boolean, Choice, Integer, Parameter, Permutation, PowerOfTwo
from autotune.core.space import Space

POWERS: dict[str | None, type[PowerOfTwoFragment]] = {"block_size": BlockSizeFragment, "num_warps": NumWarpsFragment}

WIDEST = 1_000
"""A parameter of a kind that Helion does not have becomes a list of at most so many values."""


@dataclass(frozen=True)
class Field:
    """One parameter: its name in the space, its fragment, and the two ways between their values."""

    name: str
    fragment: ConfigSpecFragment
    encode: Callable[[Value], Any]
    decode: Callable[[Any], Value]


def fields_of(space: Space) -> dict[str, Field]:
    """The parameters by the names they have for Helion, which takes some names for its own; StrategyError for a
    parameter that it cannot have."""
    return {f"p{i}": _field(name, parameter) for i, (name, parameter) in enumerate(space.parameters.items())}


def _field(name: str, parameter: Parameter) -> Field:
    match parameter:
        case Boolean():
            return Field(name, BooleanFragment(), _same, _same)
        case PowerOfTwo(low=low, high=high, role=role):
            return Field(name, POWERS.get(role, PowerOfTwoFragment)(low, high), _same, _same)
        case Permutation(n=n):
            return Field(name, PermutationFragment(n), list, tuple)
        case Integer() | Choice(ordered=True):
            return _ranked(name, parameter, IntegerFragment(0, parameter.size - 1))
    if parameter.size > WIDEST:
        raise StrategyError(f"Helion has no fragment for the parameter {name!r}: {parameter.describe()}; leave it out")
    return _ranked(name, parameter, EnumFragment(tuple(range(parameter.size))))


def _same(value: Any) -> Any:
    return value


def _ranked(name: str, parameter: Parameter, fragment: ConfigSpecFragment) -> Field:
    """Values stand for themselves by their ranks: 0, 1, 2, …"""
    values = parameter.decode(parameter.unrank(np.arange(parameter.size)))

    def rank(value: Value) -> int:
        return int(parameter.rank(np.array([parameter.encode(value)]))[0])

    return Field(name, fragment, rank, values.__getitem__)
