"""The law of expressions: over columns, over rows and in Python itself, the answer is the same."""

import numpy as np
from hypothesis import HealthCheck, example, given, settings

from autotune.core.constraints import Expression
from autotune.core.constraints.by_column import compile_columns
from autotune.core.constraints.column_ops import NotVectorisable
from autotune.core.constraints.verdicts import decode, verdicts_by_row
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
from property_tests.core.constraints.random_expressions import cases, points, python

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
