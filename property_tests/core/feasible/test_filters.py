"""The law of filters: they exclude no point that Python allows."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from autotune.core.constraints import Constraint, Expression, Members
from autotune.core.constraints.verdicts import NO, RAISES, decode
from autotune.core.errors import SpaceError
from autotune.core.feasible import Feasible, filters
from autotune.core.feasible.compiled import compile_constraint
from autotune.core.parameters import (
    Boolean,
    Choice,
    Integer,
    ListOf,
    Parameter,
    PowerOfTwo,
)
from property_tests.core.constraints.random_expressions import NUMBERS_ONLY, python

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
            Members.of(SMALL, ("a", "c", "t"), np.concatenate([codes[n] for n in "act"], axis=1)[kept])
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
