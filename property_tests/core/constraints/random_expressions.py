"""Random expressions over random parameters, and the verdict of Python's own eval on them."""

import math
import warnings
from functools import cache
from types import CodeType
from typing import Any

from hypothesis import strategies as st

from autotune.core.constraints.verdicts import NO, RAISES, YES
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
