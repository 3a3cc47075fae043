"""A space as plain data: to write, compare, fingerprint and describe it."""

from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct

from autotune.core.constraints import Constraint, Expression, Function, Members
from autotune.core.errors import SpaceError
from autotune.core.parameters import Parameter

_TOKEN_PREFIX = "identity:"


class FunctionSpec(Struct, frozen=True, tag="function", omit_defaults=True):
    """A constraint that is a Python function, as it is written: enough to tell it from another, not to run it.

    token: _TOKEN_PREFIX and the digest of the function. Version 0.1.0 wrote the function's name and source instead.
    opaque: the objects without a stable digest that the function reaches; if there are none, other processes find the
    same token.
    """

    description: str
    token: str
    opaque: tuple[str, ...] = ()


ConstraintSpec = Expression | Members | FunctionSpec


class SpaceSpec(Struct, frozen=True, omit_defaults=True):
    """Parameters by name (in order), constraints, and the default config."""

    parameters: dict[str, Parameter]
    constraints: tuple[ConstraintSpec, ...] = ()
    default: dict[str, Any] | None = None

    def __eq__(self, other: object) -> bool:
        return (
            msgspec.json.encode(self) == msgspec.json.encode(other) if isinstance(other, SpaceSpec) else NotImplemented
        )

    def __hash__(self) -> int:
        return hash(msgspec.json.encode(self))


def constraint_spec(constraint: Constraint) -> ConstraintSpec:
    """The constraint as it is written."""
    if isinstance(constraint, Function):
        found = constraint.identity
        return FunctionSpec(constraint.describe(), f"{_TOKEN_PREFIX}{found.digest}", found.opaque)
    return constraint


def from_constraint_spec(spec: ConstraintSpec) -> Constraint:
    """The constraint that was written; SpaceError for a Python function."""
    if isinstance(spec, FunctionSpec):
        raise SpaceError(
            f"the constraint {spec.description} is a Python function, which is not written down; "
            "name the file that defines the space, or use an expression instead"
        )
    return spec


def fingerprint(spec: SpaceSpec) -> str:
    """A digest of the canonical JSON of the spec."""
    return blake2b(msgspec.json.encode(spec), digest_size=16).hexdigest()


def why_incomparable(spec: SpaceSpec) -> str | None:
    """The reason why no space can be shown to be the written one; None if a fingerprint can decide that."""
    for constraint in spec.constraints:
        if isinstance(constraint, FunctionSpec) and constraint.opaque:
            return (
                f"its constraint {constraint.description} reaches {constraint.opaque[0]}, which is of one process only"
            )
        if isinstance(constraint, FunctionSpec) and not constraint.token.startswith(_TOKEN_PREFIX):
            return f"it knows its constraint {constraint.description} by its source alone, as version 0.1.0 wrote it"
    return None


def describe_space(spec: SpaceSpec, size: int, count: int | None) -> str:
    """A few lines for people: sizes, one line a parameter, the constraints and the default."""
    valid = "" if not spec.constraints else f", {count:,} valid" if count is not None else ", valid ones not counted"
    lines = [f"Space of {len(spec.parameters)} parameters, {_number(size)} points{valid}"]
    width = max(map(len, spec.parameters))
    for name, parameter in spec.parameters.items():
        role = f"  [{parameter.role}]" if parameter.role else ""
        kind = type(parameter).__name__
        lines.append(f"  {name:<{width}}  {kind}: {parameter.describe()}{role}")
    lines += [f"  where {describe_constraint(constraint)}" for constraint in spec.constraints]
    if spec.default is not None:
        lines.append("  default " + ", ".join(f"{name}={value!r}" for name, value in spec.default.items()))
    return "\n".join(lines)


def describe_constraint(constraint: ConstraintSpec) -> str:
    """A constraint on one line, with what makes it not portable."""
    if not isinstance(constraint, FunctionSpec):
        return constraint.describe()
    if not constraint.opaque:
        return constraint.description
    return f"{constraint.description}, which is not portable: it reaches {', '.join(constraint.opaque)}"


def _number(size: int) -> str:
    return f"{size:,}" if size < 10**12 else f"{size:.2e}" if size < 10**300 else f"about 2**{size.bit_length()}"
