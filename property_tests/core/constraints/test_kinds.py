"""The law of sets of rows: they allow exactly the rows that they were made of."""

import math

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autotune.core.constraints import Members, as_constraint
from autotune.core.feasible.compiled import compile_constraint
from autotune.core.parameters import (
    Boolean,
    OptionalOf,
)
from property_tests.core.constraints.random_expressions import NUMBERS, TUPLES, points


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_members_are_the_rows_they_were_made_of(data: st.DataObject) -> None:
    kinds = st.sampled_from([*(p for p in NUMBERS if p.size < 2**20), *TUPLES, OptionalOf(Boolean())])
    parameters = {name: data.draw(kinds) for name in "xyz"}
    names = tuple(data.draw(st.permutations(list("xyz")))[: data.draw(st.integers(1, 3))])
    assume(math.prod(parameters[name].size for name in names) < 2**63)
    codes = points(parameters, 40)
    rows = np.concatenate([codes[name][:15] for name in names], axis=1)
    made = as_constraint(Members.of(parameters, names, rows), parameters)
    assert isinstance(made, Members)
    kept = {tuple(row) for row in rows.tolist()}
    every = np.concatenate([codes[name] for name in names], axis=1)
    assert compile_constraint(made, parameters).verdicts(codes).tolist() == [
        tuple(row) in kept for row in every.tolist()
    ]
