"""The laws of every parameter kind: ranks, codes and values name one set, and every move stays inside it."""

import msgspec
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autotune.core.config import token
from autotune.core.keys import root
from autotune.core.parameters import Parameter
from property_tests.strategies import parameters

SOME = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@SOME
@given(parameters())
def test_ranks_codes_and_values_name_one_set(parameter: Parameter) -> None:
    codes = parameter.unrank(np.arange(parameter.size))
    assert codes.shape == (parameter.size, parameter.width)
    assert parameter.rank(codes).tolist() == list(range(parameter.size))
    values = parameter.decode(codes)
    assert [parameter.encode(value) for value in values] == [tuple(row) for row in codes.tolist()]
    assert len({token(value) for value in values}) == parameter.size


@SOME
@given(parameters(), st.integers(0, 100))
def test_codes_that_no_value_has_are_told_apart(parameter: Parameter, seed: int) -> None:
    codes = parameter.unrank(np.arange(parameter.size))
    known = {tuple(row) for row in codes.tolist()}
    moved = codes + np.random.default_rng(seed).integers(-1, 2, codes.shape)
    assert parameter.contains(codes).all()
    assert parameter.contains(moved).tolist() == [tuple(row) in known for row in moved.tolist()]


@SOME
@given(parameters(), st.integers(0, 100))
def test_samples_and_mutants_are_values(parameter: Parameter, seed: int) -> None:
    drawn = parameter.sample(root(seed), 60)
    assert drawn.shape == (60, parameter.width)
    assert parameter.contains(drawn).all()
    a, b, c = drawn[:20], drawn[20:40], drawn[40:]
    assert parameter.contains(parameter.mutate(a, b, c, root(seed + 1))).all()
    np.testing.assert_array_equal(parameter.mutate(a, b, b, root(seed + 1)), a)


@SOME
@given(parameters(), st.integers(1, 3))
def test_neighbours_are_other_values_and_symmetric(parameter: Parameter, radius: int) -> None:
    codes = parameter.unrank(np.arange(parameter.size))
    near = {tuple(row): {tuple(other) for other in parameter.neighbours(row, radius).tolist()} for row in codes}
    assert set().union(*near.values()) <= near.keys()
    for one, others in near.items():
        assert one not in others
        assert all(one in near[other] for other in others)


@SOME
@given(parameters())
def test_columns_and_features_have_a_row_for_each_value(parameter: Parameter) -> None:
    codes = parameter.unrank(np.arange(parameter.size))
    features = parameter.encode_features(codes)
    assert features.shape == (parameter.size, parameter.features)
    assert np.isfinite(features).all()
    assert len(np.unique(features, axis=0)) == parameter.size
    column = parameter.column(codes)
    if not isinstance(column, tuple):
        assert [token(value) for value in column.tolist()] == [token(value) for value in parameter.decode(codes)]


@SOME
@given(parameters())
def test_a_kind_is_written_and_read_as_json(parameter: Parameter) -> None:
    assert msgspec.json.decode(msgspec.json.encode(parameter), type=Parameter) == parameter
    assert parameter.describe()
