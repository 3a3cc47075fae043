"""A space as plain data, to be written, compared, fingerprinted and shown."""

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct

from autotune.core.constraints import Constraint, Expression, Function, Members
from autotune.core.errors import SpaceError
from autotune.core.parameters import Parameter


class Opaque(Struct, frozen=True, tag="function", omit_defaults=True):
    """What is written of a constraint that is a Python function: enough to tell it from another, not to run it."""

    description: str
    token: str


ConstraintSpec = Expression | Members | Opaque


class SpaceSpec(Struct, frozen=True, omit_defaults=True):
    """Parameters by name (in order), constraints, and the default config."""

    parameters: dict[str, Parameter]
    constraints: tuple[ConstraintSpec, ...] = ()
    default: dict[str, Any] | None = None


def constraint_spec(constraint: Constraint) -> ConstraintSpec:
    if isinstance(constraint, Function):
        return Opaque(constraint.describe(), constraint.token())
    return constraint


def from_constraint_spec(spec: ConstraintSpec) -> str | Callable[..., object] | Constraint:
    if isinstance(spec, Opaque):
        raise SpaceError(
            f"the constraint {spec.description} is a Python function, which is not written down; "
            "name the file that defines the space, or use an expression instead"
        )
    return spec


def fingerprint(spec: SpaceSpec) -> str:
    """A digest of the canonical JSON of the spec."""
    return blake2b(msgspec.json.encode(spec), digest_size=16).hexdigest()


def describe_space(spec: SpaceSpec, size: int, count: int | None) -> str:
    """A few lines for people: sizes, one line a parameter, the constraints and the default."""
    valid = "" if not spec.constraints else f", {count:,} valid" if count is not None else ", valid ones not counted"
    lines = [f"Space of {len(spec.parameters)} parameters, {_number(size)} points{valid}"]
    width = max(map(len, spec.parameters))
    for name, parameter in spec.parameters.items():
        role = f"  [{parameter.role}]" if parameter.role else ""
        kind = type(parameter).__name__
        lines.append(f"  {name:<{width}}  {kind}: {parameter.describe()}{role}")
    for constraint in spec.constraints:
        text = constraint.description if isinstance(constraint, Opaque) else constraint.describe()
        lines.append(f"  where {text}")
    if spec.default is not None:
        lines.append("  default " + ", ".join(f"{name}={value!r}" for name, value in spec.default.items()))
    return "\n".join(lines)


def _number(size: int) -> str:
    return f"{size:,}" if size < 10**12 else f"{size:.2e}" if size < 10**300 else f"about 2**{size.bit_length()}"
