"""The fewest configs for all shapes, against trying all sets of configs."""

from itertools import combinations
from math import inf, nan

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autotune.core.cover import complete, minimum_cover

TABLES = st.tuples(st.integers(1, 7), st.integers(1, 7)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.sampled_from([1.0, 1.04, 1.2, 2.0, inf]))
)


def fewest(losses: np.ndarray, within: float) -> int:
    columns = range(losses.shape[1])
    return next(
        size
        for size in range(1, losses.shape[1] + 1)
        for chosen in combinations(columns, size)
        if (losses[:, chosen].min(axis=1) <= within).all()
    )


@given(TABLES, st.sampled_from([0.0, 0.05, 0.25]))
def test_no_smaller_set_serves_all_shapes(times: np.ndarray, within: float) -> None:
    times[~np.isfinite(times).any(axis=1), 0] = 1.0
    losses = complete(times).losses
    cover = minimum_cover(losses, within)
    assert cover.exact
    assert len(cover.configs) == fewest(losses, within)
    assert max(cover.losses) <= within + 1e-8
    assert cover.losses == tuple(losses[i, j] for i, j in enumerate(cover.choice))
    assert set(cover.choice) <= set(cover.configs)
    greedy = minimum_cover(losses, within, most_nodes=0)
    assert not greedy.exact
    assert max(greedy.losses) <= within + 1e-8
    assert len(greedy.configs) >= len(cover.configs)


@given(st.integers(2, 6), st.integers(2, 6), st.randoms(use_true_random=False))
def test_a_table_that_is_additive_is_completed_exactly(rows: int, columns: int, random: object) -> None:
    generator = np.random.default_rng(random.randrange(2**32))  # type: ignore[attr-defined]
    times = np.exp(generator.normal(size=(rows, 1)) + generator.normal(size=(1, columns)))
    unknown = generator.random(times.shape) < 0.5
    unknown[0], unknown[:, 0] = False, False  # all cells are connected
    found = complete(np.where(unknown, nan, times))
    best = np.where(unknown, inf, times).min(axis=1, keepdims=True)
    assert found.spread < 1e-6
    assert (found.estimated == unknown).all()
    np.testing.assert_allclose(found.losses, np.maximum(times / best - 1, 0), atol=1e-5)
