"""The law of expressions: over columns, over rows and in Python itself, the answer is the same."""

import math
import warnings
from functools import cache
from types import CodeType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from autotune.core.columnops import Unpromised
from autotune.core.columnwise import inputs, program
from autotune.core.constraints import Constraint, Expression, Members, as_constraint, members
from autotune.core.errors import SpaceError
from autotune.core.feasible import Feasible
from autotune.core.keys import fold, root
from autotune.core.parameters import (
    Boolean,
    Choice,
    Codes,
    Integer,
    ListOf,
    OptionalOf,
    Parameter,
    Permutation,
    PowerOfTwo,
)
from autotune.core.solving import filters
from autotune.core.verdicts import NO, RAISES, YES, by_rows, decode

NUMBERS: list[Parameter] = [
    Integer(-4, 4),
    Integer(0, 3),
    Integer(-(10**6), 10**6),
    Integer(2**53 - 2, 2**53 + 2),
    Integer(-(2**62), 2**62, step=2**50),
    PowerOfTwo(1, 64),
    PowerOfTwo(2**50, 2**62),
    Boolean(),
    Choice((0.0, 0.5, -2.5, 1e308, 9007199254740993.0)),
    Choice((1, 2.5, True, 0)),
    Choice((2**70, -3, 2**53 + 1)),
]
OTHERS: list[Parameter] = [
    Choice((None, 1, 7)),
    Choice(("a", "b", 3)),
    OptionalOf(PowerOfTwo(1, 16)),
    OptionalOf(Integer(1, 10**6)),
]
TUPLES: list[Parameter] = [
    Permutation(3),
    Permutation(6),
    ListOf(Integer(-2, 2), 2),
    ListOf(Integer(1, 1000), 3),
    ListOf(OptionalOf(Boolean()), 2),
]


class Text(str):
    """A string on which arithmetic is a TypeError, as it is in constraints."""

    def _refuse(self, other: Any) -> Any:
        raise TypeError

    __add__ = __radd__ = __mul__ = __rmul__ = __mod__ = __rmod__ = _refuse
    __hash__ = str.__hash__


class Items(tuple[Any, ...]):
    """A tuple on which arithmetic is a TypeError, as it is in constraints."""

    def _refuse(self, other: Any) -> Any:
        raise TypeError

    __add__ = __radd__ = __mul__ = __rmul__ = _refuse
    __hash__ = tuple.__hash__


def guarded(value: Any) -> Any:
    """A value for Python's eval."""
    if isinstance(value, tuple):
        return Items(map(guarded, value))
    return Text(value) if isinstance(value, str) else value


def ceildiv(a: Any, b: Any) -> Any:
    return -(-a // b)


FUNCTIONS: dict[str, Any] = {
    "ceil": math.ceil,
    "floor": math.floor,
    "log2": math.log2,
    "gcd": math.gcd,
    "ceildiv": ceildiv,
}


@cache
def compiled(text: str) -> CodeType:
    """The code for Python's eval."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile(text, "<constraint>", "eval")


def python(text: str, row: dict[str, Any]) -> int:
    """The verdict by Python's own eval."""
    try:
        return YES if eval(compiled(text), FUNCTIONS, {n: guarded(v) for n, v in row.items()}) else NO
    except (ZeroDivisionError, TypeError, ValueError, OverflowError, IndexError):
        return RAISES


LITERALS = st.sampled_from(
    ["0", "1", "2", "-1", "3", "7", "64", "0.5", "-2.0", "True", "False", "4611686018427387904", "1e16"]
)


ARITHMETIC = ["+", "-", "*", "/", "//", "%", "&", "|", "^"]
ONE_ARGUMENT = ["abs", "int", "float", "bool", "ceil", "floor", "log2", "round"]


def numeric(names: list[str], tuples: list[str]) -> st.SearchStrategy[str]:
    """Expressions whose value is meant to be a number, over names of any type."""
    leaves = st.one_of(st.sampled_from(names), st.sampled_from(names), LITERALS)
    if tuples:
        one = st.sampled_from(tuples)
        leaves |= st.builds("{}[{}]".format, one, st.sampled_from([0, 1, -1, 5])) | st.builds("sum({})".format, one)
        leaves |= st.builds("{}({})".format, st.sampled_from(["min", "max", "len", "any", "all"]), one)

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        two = st.tuples(inner, inner)
        return st.one_of(
            st.builds(
                lambda op, ab: f"({ab[0]} {op} {ab[1]})",
                st.sampled_from(ARITHMETIC),
                two,
            ),
            st.builds(lambda a, e: f"({a} {e})", inner, st.sampled_from(["** 2", "** 3", "<< 3", ">> 2"])),
            st.builds(lambda op, a: f"({op}{a})", st.sampled_from(["-", "+", "~"]), inner),
            st.builds(
                lambda f, a: f"{f}({a})",
                st.sampled_from(ONE_ARGUMENT),
                inner,
            ),
            st.builds(lambda f, ab: f"{f}({ab[0]}, {ab[1]})", st.sampled_from(["min", "max", "gcd", "ceildiv"]), two),
            st.builds(lambda c, ab: f"({ab[0]} if {c} else {ab[1]})", truth(inner), two),
            st.builds(lambda op, ab: f"({ab[0]} {op} {ab[1]})", st.sampled_from(["and", "or"]), two),
        )

    return st.recursive(leaves, grow, max_leaves=6)


def truth(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Conditions on such numbers."""
    order = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    return st.one_of(
        st.builds("{} {} {}".format, inner, order, inner),
        st.builds("{} {} {}".format, inner, order, inner),
        st.builds("({} {} {} {} {})".format, inner, order, inner, order, inner),
        st.builds("{} is {}".format, inner, st.sampled_from(["None", "not None", "True", "not False"])),
        st.builds(
            "{} {} {}".format,
            inner,
            st.sampled_from(["in", "not in"]),
            st.sampled_from(["(1, 2, 'a')", "[0, 0.5]", "{1, 64}"]),
        ),
        st.builds("{} in ({}, {})".format, inner, inner, inner),
        st.builds("{} == {}".format, inner, st.sampled_from(["None", "'a'", "2.0"])),
        inner,
    )


def conditions(names: list[str], tuples: list[str]) -> st.SearchStrategy[str]:
    one = truth(numeric(names, tuples)).map("({})".format)
    several = st.builds(
        lambda op, parts: op.join(parts), st.sampled_from([" and ", " or "]), st.lists(one, min_size=2, max_size=3)
    )
    return st.one_of(one, several, several.map("not ({})".format))


ANY_TYPE = conditions(["a", "b", "o"], ["t"])  # built once: building it costs more than drawing from it
NUMBERS_ONLY = conditions(["a", "b", "c", "d"], ["t"])


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, dict[str, Parameter]]:
    """An expression and the parameters that it reads."""
    parameters = {"a": draw(st.sampled_from(NUMBERS)), "b": draw(st.sampled_from(NUMBERS))}
    parameters["o"] = draw(st.sampled_from(OTHERS + NUMBERS))
    parameters["t"] = draw(st.sampled_from(TUPLES))
    return draw(ANY_TYPE), parameters


def points(parameters: dict[str, Parameter], n: int) -> dict[str, Codes]:
    return {name: parameter.sample(fold(root(3), name), n) for name, parameter in parameters.items()}


A_FEW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


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
    np.testing.assert_array_equal(by_rows(expression.verdict, parameters, codes), wanted)
    np.testing.assert_array_equal(expression.verdicts(parameters, codes), wanted)


def promised(text: str, parameters: dict[str, Parameter]) -> bool:
    made = program(Expression(text).tree, parameters)
    if made is None:
        return False
    try:
        made.run(60, *inputs(made, parameters, points({n: parameters[n] for n in Expression(text).names}, 60)))
    except Unpromised:
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
    assert made.holds(parameters, codes).tolist() == [tuple(row) in kept for row in every.tolist()]


SMALL: dict[str, Parameter] = {
    "a": Integer(-3, 4),
    "b": Choice((0, 2, 3, 0.5)),
    "c": PowerOfTwo(1, 16),
    "d": Boolean(),
    "t": ListOf(Integer(0, 2), 2),
}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
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
        verdicts = np.vstack([verdicts, given_constraints[-1].holds(SMALL, codes).astype(np.uint8)])
    allowed = (verdicts != NO).all(axis=0)
    with pytest.MonkeyPatch.context() as patch:
        if not tables:
            patch.setattr(filters, "FAST_GRID", 0)
            patch.setattr(filters, "UNARY_GRID", 0)
        feasible = Feasible(SMALL, tuple(given_constraints))
        if (verdicts[:, allowed] == RAISES).any() or not allowed.any():
            with pytest.raises(SpaceError, match=r"fails at|no point"):
                feasible.rows()
        else:
            wanted = np.concatenate(list(codes.values()), axis=1)[allowed]
            np.testing.assert_array_equal(feasible.rows(), wanted)
