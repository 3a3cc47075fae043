"""The kinds of constraint, as data: an expression, a Python function, membership in a set of rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import Parameter as Argument
from inspect import signature
from math import prod
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.config import Config, Value
from autotune.core.constraints.by_row import RowFunction, row_function, verdict_function
from autotune.core.constraints.syntax import Node, find_names, parse
from autotune.core.constraints.verdicts import NO, RAISES, YES
from autotune.core.errors import SpaceError
from autotune.core.identity import ObjectIdentity, WatchedIdentity
from autotune.core.memo import memo
from autotune.core.parameters import Codes, Parameter
from autotune.core.points import codes_by_name, joint_ranks, sorted_unique

JOINT_LIMIT = 2**63
"""Rows over names with fewer combinations than this have joint ranks that fit int64."""


class Expression(Struct, frozen=True, tag="expression", dict=True):
    """A condition on named parameters in a whitelisted part of Python's own syntax (see `syntax`).

    >>> Expression("BLOCK_M * BLOCK_K * 2 <= 232448").names
    ('BLOCK_M', 'BLOCK_K')
    """

    text: str

    def __post_init__(self) -> None:
        _ = self.tree  # a text that cannot be parsed is an error at once

    @memo
    def tree(self) -> Node:
        """The parsed text."""
        return parse(self.text)

    @memo
    def names(self) -> tuple[str, ...]:
        """The parameters that the expression reads."""
        return find_names(self.tree)

    @memo
    def _value(self) -> RowFunction:
        return row_function(self.tree)

    def describe(self) -> str:
        """The text."""
        return self.text

    def verdict(self, row: Mapping[str, Value]) -> int:
        """The verdict on one row: NO, YES or RAISES."""
        return verdict_function(self._value)(row)

    def evaluate(self, row: Mapping[str, Value]) -> object:
        """The value on one row; raises as Python would."""
        value: object = self._value(row)
        return value


@dataclass(frozen=True, eq=False)
class Function:
    """A Python function as a constraint, which a journal can only describe. whole: it takes one Config rather than the
    named values.

    Its identity is everything that it reaches when the constraint is made (see `identity`). A constraint must be a
    function of its arguments: once a value that it reads has changed, its space answers with an error.
    """

    function: Callable[..., Any]
    names: tuple[str, ...]
    whole: bool = False

    def __post_init__(self) -> None:
        _ = self._watched  # from now on

    @memo
    def _watched(self) -> WatchedIdentity:
        return WatchedIdentity(self.function)

    @property
    def identity(self) -> ObjectIdentity:
        """The identity of the function when the constraint was made."""
        return self._watched.identity

    def check_unchanged(self) -> None:
        """Raises SpaceError if anything else has changed a value that the function reads."""
        changed = self._watched.changed()
        if changed is not None:
            raise SpaceError(
                f"constraint {self.describe()} reads {changed}, which has changed since the space was made; make the "
                "space again, or let the function close over a value of its own"
            )

    def __eq__(self, other: object) -> bool:
        return self._content() == other._content() if isinstance(other, Function) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._content())

    def _content(self) -> tuple[object, ...]:
        return self.names, self.whole, self.identity.digest

    def __reduce__(self) -> tuple[Any, ...]:
        return Function, (self.function, self.names, self.whole)

    def __deepcopy__(self, memo: object) -> "Function":
        return self

    def describe(self) -> str:
        """The function's name and arguments."""
        return f"{_qualified_name(self.function)}({'config' if self.whole else ', '.join(self.names)})"

    def verdict(self, row: Mapping[str, Value]) -> int:
        """The verdict on one row: NO, YES or RAISES."""
        try:
            return YES if self.evaluate(row) else NO
        except Exception:  # whatever a user's function raises becomes an error that names the config
            return RAISES

    def evaluate(self, row: Mapping[str, Value]) -> object:
        """The value on one row; raises as the function does."""
        if self.whole:
            return self.function(Config({name: row[name] for name in self.names}))
        return self.function(**{name: row[name] for name in self.names})


class Members(Struct, frozen=True, tag="members", dict=True):
    """Membership in a set of rows. ranks: joint mixed-radix ranks over the named parameters, the first the slowest."""

    names: tuple[str, ...]
    ranks: tuple[int, ...]

    def __post_init__(self) -> None:
        if any(not isinstance(rank, int) or not 0 <= rank < JOINT_LIMIT for rank in self.ranks):
            raise SpaceError("members: a rank is not an integer from 0 to 2**63 - 1; write ranks with `Members.of`")

    @classmethod
    def of(cls, parameters: Mapping[str, Parameter], names: tuple[str, ...], rows: Codes) -> "Members":
        """The constraint that allows exactly these rows of codes [n, total width]; SpaceError past 63 bits."""
        _joint_size(parameters, names)
        ranks = joint_ranks(parameters, codes_by_name(parameters, names, rows))
        return cls(names, tuple(sorted_unique(ranks).tolist()))

    @memo
    def table(self) -> NDArray[np.int64]:
        """The distinct ranks in ascending order."""
        return sorted_unique(np.array(self.ranks, np.int64))

    def describe(self) -> str:
        """The number of rows and the parameters that they are over."""
        return f"({', '.join(self.names)}) among {len(self.table)} given rows"


Constraint = Expression | Function | Members


def evaluation_error(constraint: Constraint, row: Mapping[str, Value]) -> SpaceError:
    """The error for a row on which the constraint raises; names the config and the remedy."""
    assert not isinstance(constraint, Members), "membership in a set of rows never raises"
    try:
        constraint.evaluate(row)
        why = "it raises, though not every time"
    except Exception as error:  # the user's own function may raise anything
        why = f"{type(error).__name__}: {error}"
    return SpaceError(
        f"constraint {constraint.describe()!r} fails at {Config(row)} ({why}); guard it, "
        "e.g. 'b != 0 and a % b == 0' or 'x is None or x > 1'"
    )


def as_constraint(given: str | Callable[..., Any] | Constraint, parameters: Mapping[str, Parameter]) -> Constraint:
    """The constraint that an expression, a function or a constraint stands for, checked against the parameters.

    Raises SpaceError, one sentence, for anything else, and for names that are no parameters.
    """
    match given:
        case str():
            constraint: Constraint = Expression(given)
        case Expression() | Members() | Function():
            constraint = given
        case _ if callable(given):
            constraint = _function(given, parameters)
        case _:
            raise SpaceError(f"a constraint is an expression in a string or a function, not {given!r}")
    if not constraint.names:
        known = ", ".join(parameters)
        raise SpaceError(f"constraint {constraint.describe()!r} reads no parameter; the parameters are {known}")
    for name in constraint.names:
        if name not in parameters:
            raise _unknown_name(name, constraint.describe(), parameters)
    if isinstance(constraint, Members):
        size = _joint_size(parameters, constraint.names)
        if any(rank >= size for rank in constraint.ranks):
            raise SpaceError(
                f"constraint {constraint.describe()!r} has a rank of {size} or more; it is of another space"
            )
    return constraint


def _joint_size(parameters: Mapping[str, Parameter], names: tuple[str, ...]) -> int:
    size = prod(parameters[name].size for name in names)
    if size >= JOINT_LIMIT:
        raise SpaceError(f"({', '.join(names)}) has {size:.3g} combinations, too many to rank in 63 bits; name fewer")
    return size


def _unknown_name(name: str, where: str, parameters: Mapping[str, Parameter]) -> SpaceError:
    near = get_close_matches(name, parameters, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return SpaceError(
        f"constraint {where!r} reads {name!r}, which is no parameter; {hint}the parameters are {', '.join(parameters)}"
    )


def _function(function: Callable[..., Any], parameters: Mapping[str, Parameter]) -> Function:
    shown = _qualified_name(function)
    try:
        arguments = list(signature(function).parameters.values())
    except (TypeError, ValueError):
        raise SpaceError(f"constraint {shown}: its arguments cannot be read; wrap it: lambda config: …") from None
    if len(arguments) == 1:
        only = arguments[0]
        positional = only.kind in (Argument.POSITIONAL_ONLY, Argument.POSITIONAL_OR_KEYWORD)
        takes_config = only.kind is Argument.POSITIONAL_ONLY or only.name == "config"
        if only.name not in parameters and positional and takes_config:
            return Function(function, tuple(parameters), whole=True)
    read = [a for a in arguments if a.name in parameters or a.default is Argument.empty]
    for argument in read:
        if argument.kind not in (Argument.POSITIONAL_OR_KEYWORD, Argument.KEYWORD_ONLY):
            raise SpaceError(
                f"constraint {shown}: the argument {argument} names no parameter; name the parameters it reads, "
                "or take the single argument 'config'"
            )
    return Function(function, tuple(argument.name for argument in read))


def _qualified_name(function: Callable[..., Any]) -> str:
    """The function's name without its module, which depends on how the file was started."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))
