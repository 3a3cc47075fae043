"""Spaces over every parameter kind: drawn by Hypothesis, and a few fixed ones.

The kinds come from the registry of the library, so that a new kind joins every drawn space. `_EXAMPLES` only makes the
examples small: a kind without an entry is drawn by the annotations of its fields.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import assume
from hypothesis import strategies as st

from autotune.core.constraints import Members
from autotune.core.errors import SpaceError
from autotune.core.parameters import (
    PARAMETER_KINDS,
    Boolean,
    Choice,
    Integer,
    ListOf,
    OptionalOf,
    Parameter,
    Permutation,
    PowerOfTwo,
)
from autotune.core.space import Space

_ROLES = st.none() | st.sampled_from(["block_size", "num_warps"])
_JSON_VALUES = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.5, -0.0, 1e300, 1.0]) | st.text(max_size=3)
)


@st.composite
def _powers_of_two(draw: st.DrawFn) -> Parameter:
    low = draw(st.integers(0, 5))
    return PowerOfTwo(2**low, 2 ** (low + draw(st.integers(0, 4))), role=draw(_ROLES))


@st.composite
def _integers(draw: st.DrawFn) -> Parameter:
    low, step = draw(st.integers(-5, 5)), draw(st.integers(1, 3))
    return Integer(low, low + step * draw(st.integers(0, 6)), step, role=draw(_ROLES))


@st.composite
def _choices(draw: st.DrawFn) -> Parameter:
    values = draw(st.lists(_JSON_VALUES | st.lists(_JSON_VALUES, max_size=2).map(tuple), min_size=1, max_size=4))
    distinct = {msgspec.json.encode(value): value for value in values}
    return Choice(tuple(distinct.values()), ordered=draw(st.booleans()), role=draw(_ROLES))


@st.composite
def _optionals(draw: st.DrawFn) -> Parameter:
    try:
        return OptionalOf(draw(st.deferred(_simple_parameters)), special=draw(st.none() | st.just("auto")))
    except SpaceError:
        assume(False)
        raise


def _simple_parameters() -> st.SearchStrategy[Parameter]:
    return _powers_of_two() | _integers() | _choices() | st.builds(Boolean, role=_ROLES)


_EXAMPLES: dict[type, st.SearchStrategy[Parameter]] = {
    PowerOfTwo: _powers_of_two(),
    Integer: _integers(),
    Choice: _choices(),
    Boolean: st.builds(Boolean, role=_ROLES),
    Permutation: st.builds(Permutation, st.integers(1, 4), role=_ROLES),
    ListOf: st.builds(ListOf, st.deferred(_simple_parameters) | _optionals(), st.integers(1, 3), role=_ROLES),
    OptionalOf: _optionals(),
}
"""Small examples of each kind."""


@st.composite
def _by_annotations(draw: st.DrawFn, kind: type[Parameter]) -> Parameter:
    """A parameter of a kind that has no entry in _EXAMPLES, by its annotations."""
    try:
        built: Parameter = draw(st.builds(kind))  # type: ignore[assignment]
        return built
    except SpaceError:
        assume(False)
        raise


def parameters_of_kind(kind: type[Parameter]) -> st.SearchStrategy[Parameter]:
    return _EXAMPLES[kind] if kind in _EXAMPLES else _by_annotations(kind)


def parameters() -> st.SearchStrategy[Parameter]:
    return st.one_of([parameters_of_kind(kind) for kind in PARAMETER_KINDS])


LISTABLE = 5_000
"""So many points at most, so that a space can be listed."""


@st.composite
def spaces(draw: st.DrawFn, most: int = LISTABLE, default: bool | None = None) -> Space:
    """Spaces of one to four parameters of any kinds, with or without constraints, and a default in them or none."""
    chosen: dict[str, Parameter] = {}
    size = 1
    for name in ("a", "b", "c", "d")[: draw(st.integers(1, 4))]:
        parameter = draw(parameters())
        if size * parameter.size <= most:
            chosen[name] = parameter
            size *= parameter.size
    assume(chosen)
    plain = Space(chosen)
    rows = plain.rows()
    constraints: list[Any] = []
    match draw(st.sampled_from(["none", "rows", "expression"])):
        case "rows":
            count = draw(st.integers(1, len(rows)))
            first = draw(st.integers(0, len(rows) - count))
            constraints = [Members.of(chosen, tuple(chosen), rows[first : first + count])]
        case "expression":
            names = list(chosen)
            a, z = names[0], names[-1]
            constraints = [f"{a} == {a} and ({a} != {z} or {a} == {z})", f"not ({a} == 1)"]
    with_default = draw(st.booleans()) if default is None else default
    try:
        space = Space(chosen, constraints)
        valid = space.rows()
    except SpaceError:  # not one point is left
        assume(False)
        raise
    if not with_default:
        return space
    return Space(chosen, constraints, space.decode(valid[draw(st.integers(0, len(valid) - 1)), None])[0])


def mixed_space(default: bool = True) -> Space:
    """Every kind with an entry above at once, with constraints: 1,000 points or so."""
    return Space(
        {
            "BLOCK": PowerOfTwo(16, 128, role="block_size"),
            "TILE": PowerOfTwo(8, 32, role="block_size"),
            "unroll": Integer(1, 7, 2),
            "layout": Choice(("row", "col", None)),
            "order": Permutation(3),
            "fast": Boolean(),
            "stages": OptionalOf(Integer(1, 3), special="auto"),
            "pads": ListOf(Boolean(), 2),
        },
        ["BLOCK >= 2 * TILE", "unroll < 7 or fast", "stages == 'auto' or stages <= 2"],
        {
            "BLOCK": 64, "TILE": 16, "unroll": 1, "layout": "row", "order": (0, 1, 2), "fast": False,
            "stages": "auto", "pads": (False, False),
        }
        if default
        else None,
    )  # fmt: skip


def gemm_space(default: bool = True) -> Space:
    return Space(
        {
            "M": PowerOfTwo(16, 128, role="block_size"),
            "N": PowerOfTwo(16, 128, role="block_size"),
            "K": PowerOfTwo(16, 64),
            "warps": PowerOfTwo(1, 8, role="num_warps"),
        },
        ["M * N <= 8192", "M * K >= 32 * warps * 4"],
        {"M": 64, "N": 64, "K": 32, "warps": 4} if default else None,
    )


SPACES: dict[str, Callable[[], Space]] = {
    "gemm": gemm_space,
    "gemm without a default": lambda: gemm_space(default=False),
    "mixed": mixed_space,
    "few points": lambda: Space({"a": Integer(0, 2), "b": Boolean()}, ["a > 0 or b"], {"a": 1, "b": True}),
    "one point": lambda: Space({"a": Integer(3, 3)}, (), {"a": 3}),
    "one point without a default": lambda: Space({"a": Boolean()}, ["a"]),
}
