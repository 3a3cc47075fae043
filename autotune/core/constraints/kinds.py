"""The kinds of constraint, as data: an expression, a Python function, membership in a set of rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import Parameter as Argument
from inspect import signature
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.config import Config, Value
from autotune.core.constraints.by_column import judged, program
from autotune.core.constraints.by_row import RAISED, Meaning, meaning
from autotune.core.constraints.syntax import Node, names, parse
from autotune.core.constraints.verdicts import NO, RAISES, YES, Verdicts, by_rows, decode, unique
from autotune.core.errors import SpaceError
from autotune.core.identity import Identity, Reach
from autotune.core.parameters import Codes, Parameter

JOINT_LIMIT = 2**63


class Expression(Struct, frozen=True, tag="expression", dict=True):
    """A condition on named parameters in Python's own syntax, whitelisted (see `expressions`).

    >>> Expression("BLOCK_M * BLOCK_K * 2 <= 232448").names
    ('BLOCK_M', 'BLOCK_K')
    """

    text: str

    def __post_init__(self) -> None:
        self.__dict__["tree"] = parse(self.text)
        self.__dict__["names"] = names(self.tree)
        self.__dict__["meaning"] = meaning(self.tree)

    @property
    def tree(self) -> Node:
        """The parsed text."""
        tree: Node = self.__dict__["tree"]
        return tree

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that the expression reads."""
        read: tuple[str, ...] = self.__dict__["names"]
        return read

    def describe(self) -> str:
        """The text."""
        return self.text

    def holds(self, parameters: Mapping[str, Parameter], codes: Mapping[str, Codes]) -> NDArray[np.bool_]:
        """Whether each of n points satisfies it, shape [n]; SpaceError where Python would raise."""
        return settled(self, parameters, codes, self.verdicts(parameters, codes))

    def verdicts(self, parameters: Mapping[str, Parameter], codes: Mapping[str, Codes]) -> Verdicts:
        """What it says of each of n points, shape [n]."""
        return judged(program(self.tree, parameters), self.verdict, parameters, {n: codes[n] for n in self.names})

    def verdict(self, row: Mapping[str, Value]) -> int:
        """What it says of one row."""
        return verdict(self.__dict__["meaning"])(row)

    def attempt(self, row: Mapping[str, Value]) -> object:
        """The value on one row; raises as Python would."""
        value: object = self.__dict__["meaning"](row)
        return value


@dataclass(frozen=True, eq=False)
class Function:
    """A Python function as a constraint, which a journal can only describe. whole: it takes one Config rather than the
    named values.

    Its identity is all that it reaches when it is made (see `identity`). A constraint is a function of its arguments:
    where a value that it reads is changed afterwards, its space can no longer be asked.
    """

    function: Callable[..., Any]
    names: tuple[str, ...]
    whole: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "_reach", Reach(self.function))

    @property
    def identity(self) -> Identity:
        """That of the function when the constraint was made."""
        reach: Reach = self.__dict__["_reach"]
        return reach.identity

    def check_unchanged(self) -> None:
        """Raises SpaceError where a value that the function reads has been changed by others."""
        reach: Reach = self.__dict__["_reach"]
        changed = reach.changed()
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
        """The function's name."""
        return f"{_qualified(self.function)}({'config' if self.whole else ', '.join(self.names)})"

    def holds(self, parameters: Mapping[str, Parameter], codes: Mapping[str, Codes]) -> NDArray[np.bool_]:
        """Whether each of n points satisfies it, shape [n]; SpaceError where the function raises."""
        return settled(self, parameters, codes, self.verdicts(parameters, codes))

    def verdicts(self, parameters: Mapping[str, Parameter], codes: Mapping[str, Codes]) -> Verdicts:
        """What it says of each of n points, shape [n]."""
        return by_rows(self.verdict, parameters, {name: codes[name] for name in self.names})

    def verdict(self, row: Mapping[str, Value]) -> int:
        """What it says of one row."""
        try:
            return YES if self.attempt(row) else NO
        except Exception:  # whatever a user's function raises becomes an error that names the config
            return RAISES

    def attempt(self, row: Mapping[str, Value]) -> object:
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
            raise SpaceError("members: a rank is not an integer from 0 to 2**63 - 1; write ranks with `members`")
        self.__dict__["sorted"] = unique(np.array(self.ranks, np.int64))

    @property
    def table(self) -> NDArray[np.int64]:
        """The ranks in order, each once."""
        table: NDArray[np.int64] = self.__dict__["sorted"]
        return table

    def describe(self) -> str:
        """How many rows of which parameters."""
        return f"({', '.join(self.names)}) among {len(self.table)} given rows"

    def holds(self, parameters: Mapping[str, Parameter], codes: Mapping[str, Codes]) -> NDArray[np.bool_]:
        """Whether each of n points is among the rows, shape [n]."""
        return among(joint_ranks(parameters, {name: codes[name] for name in self.names}), self.table)

    def verdicts(self, parameters: Mapping[str, Parameter], codes: Mapping[str, Codes]) -> Verdicts:
        """What it says of each of n points, shape [n]."""
        return self.holds(parameters, codes).astype(np.uint8)

    def attempt(self, row: Mapping[str, Value]) -> object:
        """What a constraint that raises is asked for, to say why; membership never does."""
        raise AssertionError("membership in a set of rows cannot raise")


Constraint = Expression | Function | Members


def verdict(value_of: Meaning) -> Callable[[Mapping[str, Value]], int]:
    """The verdict on one row, from the meaning of an expression."""

    def judge(row: Mapping[str, Value]) -> int:
        try:
            return YES if value_of(row) else NO
        except RAISED:
            return RAISES

    return judge


def among(ranks: NDArray[np.int64], table: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which ranks are in a sorted table."""
    if not len(table):
        return np.zeros(len(ranks), bool)
    found: NDArray[np.bool_] = table[np.minimum(np.searchsorted(table, ranks), len(table) - 1)] == ranks
    return found


def joint_ranks(parameters: Mapping[str, Parameter], codes: Mapping[str, Codes]) -> NDArray[np.int64]:
    """Mixed-radix ranks of n points over the named parameters, the first most significant; below 2**63."""
    ranks = np.zeros(len(next(iter(codes.values()), ())), np.int64)
    for name, part in codes.items():
        ranks = ranks * parameters[name].size + parameters[name].rank(part)
    return ranks


def settled(
    constraint: Constraint, parameters: Mapping[str, Parameter], codes: Mapping[str, Codes], verdicts: Verdicts
) -> NDArray[np.bool_]:
    """The verdicts as yes or no; SpaceError, naming a config, where evaluating the constraint raises."""
    raised = np.flatnonzero(verdicts == RAISES)
    if len(raised):
        first = {name: codes[name][raised[:1]] for name in constraint.names}
        raise failure(constraint, decode(parameters, first)[0])
    held: NDArray[np.bool_] = verdicts == YES
    return held


def failure(constraint: Constraint, row: Mapping[str, Value]) -> SpaceError:
    """The error for a row on which the constraint raises."""
    try:
        constraint.attempt(row)
        why = "it raises, though not every time"
    except Exception as error:  # the user's own function may raise anything
        why = f"{type(error).__name__}: {error}"
    return SpaceError(
        f"constraint {constraint.describe()!r} fails at {Config(row)} ({why}); guard it, "
        "e.g. 'b != 0 and a % b == 0' or 'x is None or x > 1'"
    )


def as_constraint(given: str | Callable[..., Any] | Constraint, parameters: Mapping[str, Parameter]) -> Constraint:
    """The constraint that the user means, checked against the parameters; SpaceError in one sentence otherwise."""
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
            raise _unknown(name, constraint.describe(), parameters)
    if isinstance(constraint, Members):
        size = _joint_size(parameters, constraint.names)
        if any(rank >= size for rank in constraint.ranks):
            shown = constraint.describe()
            raise SpaceError(f"constraint {shown!r} has a rank of {size} or more; it is of another space")
    return constraint


def members(parameters: Mapping[str, Parameter], names: tuple[str, ...], rows: Codes) -> Members:
    """The constraint that allows exactly these rows of codes [n, total width of the names]; SpaceError past 63 bits."""
    _joint_size(parameters, names)
    ends = np.cumsum([parameters[name].width for name in names])[:-1]
    codes = dict(zip(names, np.split(rows, ends, axis=1), strict=True))
    return Members(names, tuple(unique(joint_ranks(parameters, codes)).tolist()))


def _joint_size(parameters: Mapping[str, Parameter], names: tuple[str, ...]) -> int:
    size = 1
    for name in names:
        size *= parameters[name].size
    if size >= JOINT_LIMIT:
        raise SpaceError(f"({', '.join(names)}) has {size:.3g} combinations, too many to rank in 63 bits; name fewer")
    return size


def _unknown(name: str, where: str, parameters: Mapping[str, Parameter]) -> SpaceError:
    near = get_close_matches(name, parameters, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return SpaceError(
        f"constraint {where!r} reads {name!r}, which is no parameter; {hint}the parameters are {', '.join(parameters)}"
    )


def _function(function: Callable[..., Any], parameters: Mapping[str, Parameter]) -> Function:
    shown = _qualified(function)
    try:
        arguments = list(signature(function).parameters.values())
    except (TypeError, ValueError):
        raise SpaceError(f"constraint {shown}: its arguments cannot be read; wrap it: lambda config: …") from None
    if len(arguments) == 1:
        only = arguments[0]
        positional = only.kind in (Argument.POSITIONAL_ONLY, Argument.POSITIONAL_OR_KEYWORD)
        if (
            only.name not in parameters
            and positional
            and (only.kind is Argument.POSITIONAL_ONLY or only.name == "config")
        ):
            return Function(function, tuple(parameters), whole=True)
    read = [a for a in arguments if a.name in parameters or a.default is Argument.empty]
    for argument in read:
        if argument.kind not in (Argument.POSITIONAL_OR_KEYWORD, Argument.KEYWORD_ONLY):
            raise SpaceError(
                f"constraint {shown}: the argument {argument} names no parameter; name the parameters it reads, "
                "or take the single argument 'config'"
            )
    return Function(function, tuple(argument.name for argument in read))


def _qualified(function: Callable[..., Any]) -> str:
    """The function's name without its module, which depends on how the file was started."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))


__all__ = ["Constraint", "Expression", "Function", "Members", "as_constraint", "members"]
