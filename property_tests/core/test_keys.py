"""Keys: the streams are those of the day they were fixed, on any machine; and they are as random as they must be."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.core.keys import big_integer, fold, integers, permutation, permutations, root, uniform, words

SEEDS = st.integers(-(2**70), 2**70)
PATHS = st.lists(st.integers(-9, 9) | st.text(max_size=3) | st.binary(max_size=3), max_size=3).map(tuple)
START = root(0)


def test_the_streams_never_change():
    """Golden values: a change of any of them changes every search, and every journal stops replaying."""
    assert START == 51979498894965778219594469658376564489
    assert root(-1) == 172735289416325378082045626754592656790
    assert root(2**70) == 245439893639167513517182277394626653341
    assert fold(START, "a") == 218940497990103838741136490429362318727
    assert fold(START, 1) == 253046049553293422330760382767976066545
    assert fold(START, "1") == 118255128899710750692323705026646636488
    assert fold(START, b"1") == 86261498115108441600349234812031305310
    assert fold(START, "a", "b") == 46173820993051207147062488885436175947
    assert fold(START, "ab") == 335435523604524762102303604059072986179
    assert words(START, 4).tolist() == [
        6800316701454787449, 12721443801302399009, 9231507668339969554, 8054635073919090900,
    ]  # fmt: skip
    assert uniform(START, 3).tolist() == [0.36864590706533695, 0.6896308503262157, 0.5004410334665393]
    assert integers(START, 10, 6).tolist() == [9, 9, 4, 0, 5, 4]
    assert integers(START, np.array([2, 3, 1000])).tolist() == [1, 2, 554]
    assert big_integer(START, 10**30) == 398650931092032209368041546617
    assert permutation(START, 7).tolist() == [4, 0, 3, 2, 5, 1, 6]
    assert permutations(START, 2, 4).tolist() == [[0, 3, 2, 1], [0, 3, 1, 2]]


@given(SEEDS, PATHS, PATHS)
def test_different_paths_give_different_keys(seed, one, other):
    key = root(seed)
    assert 0 <= key < 2**128
    same = [(type(part), part) for part in one] == [(type(part), part) for part in other]
    assert (fold(key, *one) == fold(key, *other)) == same


@given(SEEDS, SEEDS)
def test_different_seeds_give_different_roots(one, other):
    assert (root(one) == root(other)) == (one == other)


@given(SEEDS, st.integers(0, 40), st.integers(0, 40))
def test_a_longer_draw_begins_like_a_shorter_one(seed, n, more):
    assert words(root(seed), n + more)[:n].tolist() == words(root(seed), n).tolist()


@given(SEEDS, st.lists(st.integers(0, 5), min_size=1, max_size=3))
def test_floats_lie_in_the_unit_interval_and_have_their_shape(seed, shape):
    drawn = uniform(root(seed), *shape)
    assert drawn.shape == tuple(shape)
    assert ((drawn >= 0) & (drawn < 1)).all()


@given(SEEDS, st.lists(st.integers(1, 2**62), min_size=1, max_size=9))
def test_integers_lie_below_their_bounds(seed, bounds):
    drawn = integers(root(seed), np.array(bounds, np.int64))
    assert all(0 <= value < bound for value, bound in zip(drawn.tolist(), bounds, strict=True))


@given(SEEDS, st.integers(1, 2**300))
def test_a_big_integer_lies_below_its_bound(seed, bound):
    assert 0 <= big_integer(root(seed), bound) < bound


@given(SEEDS, st.integers(0, 9), st.integers(0, 5))
def test_orders_are_orders(seed, n, rows):
    assert sorted(permutation(root(seed), n).tolist()) == list(range(n))
    drawn = permutations(root(seed), rows, n)
    assert drawn.shape == (rows, n)
    assert all(sorted(row) == list(range(n)) for row in drawn.tolist())


def chi_square(counts):
    """How far counts are from equal, in standard deviations of the chi-square distribution."""
    expected = counts.sum() / len(counts)
    return float((((counts - expected) ** 2 / expected).sum() - (len(counts) - 1)) / (2 * (len(counts) - 1)) ** 0.5)


@pytest.mark.parametrize("bound", [2, 7, 64, 1000])
def test_integers_are_uniform(bound):
    drawn = integers(fold(START, "uniform"), bound, 200 * bound)
    assert abs(chi_square(np.bincount(drawn, minlength=bound))) < 5


def test_first_draws_of_sibling_keys_are_uniform():
    """One draw from each of many keys, as a search takes them: these must be independent, too."""
    drawn = np.array([int(words(key, 1)[0] % np.uint64(16)) for key in (fold(START, i) for i in range(8_000))])
    assert abs(chi_square(np.bincount(drawn, minlength=16))) < 5
    pairs = np.bincount(drawn[:-1] * 16 + drawn[1:], minlength=256)
    assert abs(chi_square(pairs)) < 5


def test_floats_are_uniform():
    drawn = uniform(fold(START, "floats"), 50_000)
    assert abs(chi_square(np.bincount((drawn * 50).astype(int), minlength=50))) < 5


def test_orders_are_uniform():
    drawn = permutations(fold(START, "orders"), 24_000, 4) @ np.array([64, 16, 4, 1])
    _, counts = np.unique(drawn, return_counts=True)
    assert len(counts) == 24
    assert abs(chi_square(counts)) < 5


def test_threads_that_draw_at_once_do_not_disturb_one_another():
    keys = [root(seed) for seed in range(400)]
    alone = [np.random.Philox(key=int(key)).random_raw(50) for key in keys]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda key: words(key, 50), keys * 5))
    assert all(np.array_equal(drawn, alone[i % 400]) for i, drawn in enumerate(together))
