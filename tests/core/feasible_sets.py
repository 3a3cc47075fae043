"""Feasible sets over a few parameters of every kind."""

from typing import Any

from autotune.core.constraints import as_constraint
from autotune.core.feasible import Feasible
from autotune.core.parameters import Boolean, Choice, Integer, ListOf, OptionalOf, Parameter, Permutation, PowerOfTwo

PARAMETERS: dict[str, Parameter] = {
    "BLOCK_M": PowerOfTwo(16, 256),
    "BLOCK_N": PowerOfTwo(16, 256),
    "stages": Integer(0, 4),
    "split": OptionalOf(Integer(1, 8)),
    "order": Permutation(3),
    "tiles": ListOf(PowerOfTwo(1, 8), 2),
    "layout": Choice(("row", "column", None)),
    "fast": Boolean(),
}


def feasible(*given: Any, **parameters: Parameter) -> Feasible:
    known = parameters or PARAMETERS
    return Feasible(known, tuple(as_constraint(each, known) for each in given))
