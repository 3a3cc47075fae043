"""What the laws are tried on: spaces over every parameter kind, every registered strategy, outcomes of every sort.

Nothing here names all kinds or strategies: they come from the registries, so that what is added inherits the laws. The
tables only make the examples small; what has no entry is tried with what its own annotations and defaults allow.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from autotune import (
    STRATEGIES,
    Boolean,
    Choice,
    Failed,
    Integer,
    ListOf,
    OptionalOf,
    Outcome,
    Permutation,
    PowerOfTwo,
    Space,
    SpaceError,
    Timed,
)
from autotune.core.constraints import Members
from autotune.core.outcomes import FAILURE_KINDS
from autotune.core.parameters import PARAMETER_KINDS, Parameter
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import make_strategy

ROLES = st.none() | st.sampled_from(["block_size", "num_warps"])
JSON_VALUES = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.5, -0.0, 1e300, 1.0]) | st.text(max_size=3)
)


# Parameters


@st.composite
def powers(draw: st.DrawFn) -> Parameter:
    low = draw(st.integers(0, 5))
    return PowerOfTwo(2**low, 2 ** (low + draw(st.integers(0, 4))), role=draw(ROLES))


@st.composite
def integers(draw: st.DrawFn) -> Parameter:
    low, step = draw(st.integers(-5, 5)), draw(st.integers(1, 3))
    return Integer(low, low + step * draw(st.integers(0, 6)), step, role=draw(ROLES))


@st.composite
def choices(draw: st.DrawFn) -> Parameter:
    values = draw(st.lists(JSON_VALUES | st.lists(JSON_VALUES, max_size=2).map(tuple), min_size=1, max_size=4))
    distinct = {msgspec.json.encode(value): value for value in values}
    return Choice(tuple(distinct.values()), ordered=draw(st.booleans()), role=draw(ROLES))


@st.composite
def optionals(draw: st.DrawFn) -> Parameter:
    try:
        return OptionalOf(draw(st.deferred(simple_parameters)), special=draw(st.none() | st.just("auto")))
    except SpaceError:
        assume(False)
        raise


def simple_parameters() -> st.SearchStrategy[Parameter]:
    return powers() | integers() | choices() | st.builds(Boolean, role=ROLES)


EXAMPLES: dict[type, st.SearchStrategy[Parameter]] = {
    PowerOfTwo: powers(),
    Integer: integers(),
    Choice: choices(),
    Boolean: st.builds(Boolean, role=ROLES),
    Permutation: st.builds(Permutation, st.integers(1, 4), role=ROLES),
    ListOf: st.builds(ListOf, st.deferred(simple_parameters) | optionals(), st.integers(1, 3), role=ROLES),
    OptionalOf: optionals(),
}
"""Small examples of each kind."""


@st.composite
def guessed(draw: st.DrawFn, kind: type[Parameter]) -> Parameter:
    """A parameter of a kind that has no entry in EXAMPLES, by its annotations."""
    try:
        return draw(st.builds(kind))
    except SpaceError:
        assume(False)
        raise


def of_kind(kind: type[Parameter]) -> st.SearchStrategy[Parameter]:
    return EXAMPLES[kind] if kind in EXAMPLES else guessed(kind)


def parameters() -> st.SearchStrategy[Parameter]:
    return st.one_of([of_kind(kind) for kind in PARAMETER_KINDS])


# Spaces

TINY = 5_000
"""So many points at most, so that a space can be listed."""


@st.composite
def spaces(draw: st.DrawFn, most: int = TINY, default: bool | None = None) -> Space:
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
            first, last = names[0], names[-1]
            constraints = [f"{first} == {first} and ({first} != {last} or {first} == {last})", f"not ({first} == 1)"]
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


def mixed(default: bool = True) -> Space:
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


def gemm(default: bool = True) -> Space:
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
    "gemm": gemm,
    "gemm without a default": lambda: gemm(default=False),
    "mixed": mixed,
    "few points": lambda: Space({"a": Integer(0, 2), "b": Boolean()}, ["a > 0 or b"], {"a": 1, "b": True}),
    "one point": lambda: Space({"a": Integer(3, 3)}, (), {"a": 3}),
    "one point without a default": lambda: Space({"a": Boolean()}, ["a"]),
}


# Strategies

Make = Callable[[Space], Mapping[str, Any]]


def some_configs(space: Space) -> Mapping[str, Any]:
    rows = space.rows()
    chosen = rows[np.linspace(0, len(rows) - 1, 9).astype(int)]
    return {"configs": tuple(dict(config) for config in space.decode(chosen))}


SMALL: dict[str, tuple[Make, ...]] = {
    "random_search": (lambda space: {"count": 14},),
    "finite_search": (some_configs,),
    "pattern_search": (
        lambda space: {"initial_population": 6, "copies": 2, "max_generations": 3},
        lambda space: {"initial_population": 4, "copies": 3, "max_generations": 2, "num_neighbors_cap": 3},
    ),
    "lfbo_pattern_search": (
        lambda space: {"initial_population": 6, "copies": 2, "max_generations": 3, "num_neighbors": 12},
    ),
    "lfbo_tree_search": (
        lambda space: {"initial_population": 8, "copies": 2, "max_generations": 4, "num_neighbors": 9, "quantile": 0.4},
    ),
    "de_surrogate_hybrid": (
        lambda space: {
            "population_size": 4,
            "max_generations": 4,
            "surrogate_threshold": 9,
            "refit_frequency": 2,
            "n_estimators": 5,
        },
    ),
    "gaussian_process": (lambda space: {"initial_points": 4, "candidates": 12, "neighbourhoods": 1, "count": 12},),
    "differential_evolution": (
        lambda space: {"population_size": 4, "max_generations": 3},
        lambda space: {"population_size": 4, "max_generations": 2, "immediate_update": True},
        lambda space: {"population_size": 5, "max_generations": 4, "min_improvement_delta": 0.01, "patience": 1},
    ),
}
"""Settings that make a search small, for the strategies whose defaults do not. Any other is tried with its defaults."""

INSTANCES = [(name, i) for name in STRATEGIES for i in range(len(SMALL.get(name, (dict,))))]
"""(registered name, index of its settings): what to parametrise by."""


def instance(which: tuple[str, int], space: Space) -> AnyStrategy:
    """A strategy for a space."""
    name, i = which
    settings = SMALL[name][i](space) if name in SMALL else {}
    return make_strategy(name, dict(settings))


def called(which: tuple[str, int]) -> str:
    return f"{which[0]}-{which[1]}"


TOPPING_UP: set[str] = set()
"""Strategies with `max_generations` that may propose before a generation is in, so that completion order matters."""


def generational(strategy: AnyStrategy, name: str) -> bool:
    """Whether a strategy must ask for the same trials under any completion order and any room."""
    return hasattr(strategy, "max_generations") and name not in TOPPING_UP


# Outcomes

EXTREMES = st.sampled_from([1e300, 1e-300, 5e-324, 1.7976931348623157e308, 1.0, 1.0 + 2**-52])
TIMES = st.floats(1e-3, 1e3) | EXTREMES
SECONDS = st.sampled_from([0.0, 0.1, 3.0, 1e6, 1e300])


@st.composite
def timed(draw: st.DrawFn) -> Outcome:
    match draw(st.integers(0, 3)):
        case 0:  # ties
            samples = (1.0,) * draw(st.integers(1, 3))
        case 1:
            samples = tuple(draw(st.lists(TIMES, min_size=1, max_size=5)))
        case _:
            middle = draw(st.floats(0.5, 2.0))
            samples = tuple(middle * factor for factor in (1.0, 1.02, 0.99, 1.05, 1.01))
    return Timed(samples, draw(SECONDS), draw(SECONDS), cut=draw(st.booleans()))


def failed() -> st.SearchStrategy[Outcome]:
    return st.builds(Failed, st.sampled_from(FAILURE_KINDS), st.text(max_size=5), SECONDS, SECONDS)


@st.composite
def scripts(draw: st.DrawFn) -> list[Outcome]:
    """Outcomes for trials by number, begun again at the end: mixed, or all failures, or all ties."""
    match draw(st.sampled_from(["mixed", "mixed", "mixed", "failures", "ties"])):
        case "failures":
            return draw(st.lists(failed(), min_size=1, max_size=3))
        case "ties":
            return [Timed((2.0, 2.0, 2.0))]
        case _:
            return draw(st.lists(timed() | timed() | failed(), min_size=1, max_size=12))
