"""The parameter kinds. Each is a frozen Struct with the methods of `ParameterKind`; a new kind joins `Parameter`."""

from typing import get_args

from autotune.core.parameters.choice import Choice
from autotune.core.parameters.composite import ListOf, OptionalOf, Parameter, Permutation
from autotune.core.parameters.protocol import BLOCK_SIZE, NUM_WARPS, Codes, Column, ParameterKind
from autotune.core.parameters.ranges import Boolean, Integer, PowerOfTwo

PARAMETER_KINDS: tuple[type[Parameter], ...] = get_args(Parameter)

__all__ = [
    "BLOCK_SIZE",
    "NUM_WARPS",
    "PARAMETER_KINDS",
    "Boolean",
    "Choice",
    "Codes",
    "Column",
    "Integer",
    "ListOf",
    "OptionalOf",
    "Parameter",
    "ParameterKind",
    "Permutation",
    "PowerOfTwo",
]
