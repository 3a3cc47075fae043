"""The laws of spaces: a space written down is the same space; ranks, rows and configs name one set of points."""

import msgspec
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autotune import Space
from autotune.core.keys import root
from autotune.core.space_spec import SpaceSpec
from autotune.testing.spaces import spaces

SOME = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


@SOME
@given(spaces())
def test_a_written_space_is_the_same_space(space: Space) -> None:
    written = msgspec.json.decode(msgspec.json.encode(space.spec), type=SpaceSpec)
    again = Space.from_spec(written)
    assert again == space
    assert again.fingerprint == space.fingerprint
    np.testing.assert_array_equal(again.rows(), space.rows())


@SOME
@given(spaces())
def test_ranks_rows_and_configs_name_one_set_of_points(space: Space) -> None:
    every = space.unrank(np.arange(space.size))
    assert space.rank(every).tolist() == list(range(space.size))
    assert space.contains(every).all()
    rows = space.rows()
    np.testing.assert_array_equal(rows, every[space.valid(every)])
    assert space.count() == len(rows)
    configs = space.enumerate()
    np.testing.assert_array_equal(space.encode(configs), rows)
    assert [space.complete(config.minimize(space)) for config in configs] == configs


@SOME
@given(spaces(), st.integers(0, 100))
def test_populations_stay_in_the_space(space: Space, seed: int) -> None:
    drawn = space.sample(root(seed), 30)
    assert space.valid(drawn).all()
    distinct = space.sample_distinct(root(seed), 30)
    assert len(np.unique(distinct, axis=0)) == len(distinct) == min(30, len(space.rows()))
    assert space.valid(space.neighbours(drawn[0])).all()
    assert space.contains(space.moves(drawn[0])).all()
    mutants = space.mutate(drawn[:10], drawn[10:20], drawn[20:], root(seed))
    assert space.contains(mutants).all()
    assert space.contains(space.crossover(drawn[:10], mutants, 0.5, root(seed))).all()
    assert space.features(drawn).shape == (30, len(space.feature_names))
