"""The law of expressions: over columns, over rows and in Python itself, the answer is the same."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from autotune.core.constraints import Constraint, Expression, Members, as_constraint, members
from autotune.core.constraints.by_column import compile_columns
from autotune.core.constraints.column_ops import NotVectorisable
from autotune.core.constraints.verdicts import NO, RAISES, decode, verdicts_by_row
from autotune.core.errors import SpaceError
from autotune.core.feasible import Feasible, filters
from autotune.core.feasible.compiled import compile_constraint
from autotune.core.parameters import (
    Boolean,
    Choice,
    Integer,
    ListOf,
    OptionalOf,
    Parameter,
    Permutation,
    PowerOfTwo,
)
from property_tests.expressions_by_chance import NUMBERS, NUMBERS_ONLY, TUPLES, cases, points, python

A_FEW = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))


@A_FEW
@given(cases())
@example(("b != 0 and a % b == 0", {"a": Integer(-4, 4), "b": Integer(-2, 2)}))
@example(("a == b", {"a": Integer(2**53 - 2, 2**53 + 2), "b": Choice((9007199254740992.0,))}))
@example(("a * a > 0", {"a": Integer(-(2**62), 2**62, step=2**50)}))
@example(("a / b == 3", {"a": Integer(2**53, 2**60, step=12345), "b": Integer(0, 3)}))
def test_rows_and_columns_answer_as_python_does(case: tuple[str, dict[str, Parameter]]) -> None:
    text, parameters = case
    expression = Expression(text)
    if not expression.names:
        return
    codes = points({name: parameters[name] for name in expression.names}, 60)
    wanted = np.array([python(text, row) for row in decode(parameters, codes)], np.uint8)
    np.testing.assert_array_equal(verdicts_by_row(expression.verdict, parameters, codes), wanted)
    np.testing.assert_array_equal(compile_constraint(expression, parameters).verdicts(codes), wanted)


def promised(text: str, parameters: dict[str, Parameter]) -> bool:
    made = compile_columns(Expression(text).tree, parameters)
    if made is None:
        return False
    try:
        made.run_on_codes(parameters, points({n: parameters[n] for n in Expression(text).names}, 60))
    except NotVectorisable:
        return False
    return True


def test_columns_serve_what_kernels_need() -> None:
    parameters: dict[str, Parameter] = {
        "M": PowerOfTwo(1, 1024), "N": Integer(1, 10**9), "k": Choice((None, 1, 2)), "o": OptionalOf(Integer(1, 64)),
        "p": Permutation(4), "t": ListOf(Integer(1, 10**6), 3), "s": Choice(("row", "column")), "b": Boolean(),
    }  # fmt: skip
    for text in (
        "M * N * 2 <= 232448", "M % 8 == 0 and N % M == 0", "k is None or k * M <= N", "o is None or M % o == 0",
        "p[0] == 0 or s == 'row'", "sum(t) <= N", "t[0] <= t[1] <= t[2]", "(M if b else 2 * M) < N",
        "b or M in (1, 2, N)",
        "M / N < 0.5", "not b and N // M > 3", "max(M, N) - min(M, N) < 100", "M & (N - 1) == 0",
        "p != (0, 1, 2, 3) or b",
    ):  # fmt: skip
        assert promised(text, parameters), text


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_members_are_the_rows_they_were_made_of(data: st.DataObject) -> None:
    kinds = st.sampled_from([*(p for p in NUMBERS if p.size < 2**20), *TUPLES, OptionalOf(Boolean())])
    parameters = {name: data.draw(kinds) for name in "xyz"}
    names = tuple(data.draw(st.permutations(list("xyz")))[: data.draw(st.integers(1, 3))])
    assume(math.prod(parameters[name].size for name in names) < 2**63)
    codes = points(parameters, 40)
    rows = np.concatenate([codes[name][:15] for name in names], axis=1)
    made = as_constraint(members(parameters, names, rows), parameters)
    assert isinstance(made, Members)
    kept = {tuple(row) for row in rows.tolist()}
    every = np.concatenate([codes[name] for name in names], axis=1)
    assert compile_constraint(made, parameters).verdicts(codes).tolist() == [
        tuple(row) in kept for row in every.tolist()
    ]


SMALL: dict[str, Parameter] = {
    "a": Integer(-3, 4),
    "b": Choice((0, 2, 3, 0.5)),
    "c": PowerOfTwo(1, 16),
    "d": Boolean(),
    "t": ListOf(Integer(0, 2), 2),
}


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(NUMBERS_ONLY, min_size=1, max_size=3), st.booleans(), st.booleans())
def test_the_search_prunes_nothing_that_python_allows(texts: list[str], tables: bool, members_too: bool) -> None:
    """Enumeration, with its tables, intervals and equations, against the verdicts of Python's eval on every point."""
    constraints = [Expression(text) for text in texts if Expression(text).names]
    assume(constraints)
    axes = [np.arange(parameter.size) for parameter in SMALL.values()]
    ranks = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(SMALL))
    codes = {name: parameter.unrank(ranks[:, i]) for i, (name, parameter) in enumerate(SMALL.items())}
    rows = decode(SMALL, codes)
    verdicts = np.array([[python(constraint.text, row) for row in rows] for constraint in constraints], np.uint8)
    given_constraints: list[Constraint] = list(constraints)
    if members_too:
        kept = np.arange(len(rows)) % 3 == 0
        given_constraints.append(
            members(SMALL, ("a", "c", "t"), np.concatenate([codes[n] for n in "act"], axis=1)[kept])
        )
        verdicts = np.vstack([verdicts, compile_constraint(given_constraints[-1], SMALL).verdicts(codes)])
    allowed = (verdicts != NO).all(axis=0)
    with pytest.MonkeyPatch.context() as patch:
        if not tables:
            patch.setattr(filters, "FAST_TABLE", 0)
            patch.setattr(filters, "UNARY_TABLE", 0)
        feasible = Feasible(SMALL, tuple(given_constraints))
        if (verdicts[:, allowed] == RAISES).any() or not allowed.any():
            with pytest.raises(SpaceError, match=r"fails at|no point"):
                feasible.rows()
        else:
            wanted = np.concatenate(list(codes.values()), axis=1)[allowed]
            np.testing.assert_array_equal(feasible.rows(), wanted)
