"""Intervals of medians and ratios: right about the truth about as often as they say, and finite whatever comes in."""

from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.core.keys import fold, root, uniform
from autotune.core.statistics import LARGEST, median_interval, paired_ratio, quantile, unpaired_ratio

ANY = st.floats(5e-324, LARGEST) | st.sampled_from([1e300, 1e-300, 5e-324, LARGEST, 1.0])
SAMPLES = st.lists(ANY, min_size=1, max_size=12)
USUAL = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12)
KEY = root(3)


@given(SAMPLES)
def test_an_interval_holds_its_median_and_is_finite(samples):
    low, high = median_interval(samples)
    assert 0 <= low <= quantile(sorted(samples), 0.5) <= high <= LARGEST
    assert high > 0


@given(USUAL, st.floats(0, 1))
def test_a_quantile_is_that_of_numpy(samples, share):
    assert quantile(sorted(samples), share) == pytest.approx(float(np.quantile(samples, share)), rel=1e-12)
    assert quantile(sorted(samples), 0.5) == pytest.approx(median(samples), rel=1e-12)


@given(USUAL, st.floats(0.1, 10))
def test_an_interval_scales_and_forgets_the_order(samples, factor):
    low, high = median_interval(samples)
    assert median_interval(samples[::-1]) == (low, high)
    scaled = median_interval([sample * factor for sample in samples])
    assert scaled == pytest.approx((low * factor, high * factor), rel=1e-9, abs=1e-9)


@pytest.mark.filterwarnings("error")
@given(SAMPLES, SAMPLES)
def test_ratios_are_ordered_and_finite(one, other):
    for ratio in (unpaired_ratio(one, other), paired_ratio(one, other, KEY, draws=50)):
        assert 0 <= ratio.low <= ratio.value <= ratio.high <= LARGEST


@given(USUAL)
def test_a_series_is_once_as_slow_as_itself(samples):
    ratio = paired_ratio(samples, samples, KEY, draws=50)
    assert (ratio.low, ratio.value, ratio.high) == (1, 1, 1)
    assert unpaired_ratio(samples, samples).low <= 1 <= unpaired_ratio(samples, samples).high


@given(USUAL, USUAL)
def test_a_ratio_is_a_function_of_its_samples_and_key(one, other):
    assert paired_ratio(one, other, KEY, 50) == paired_ratio(list(one), list(other), KEY, 50)


def normal(purpose, *shape):
    """Numbers of mean 0 and deviation 1: twelve uniform ones, less six."""
    return uniform(fold(KEY, purpose), *shape, 12).sum(axis=-1) - 6


def test_the_notch_of_a_median_covers_the_truth_about_as_often_as_it_says():
    """About 95 % for two medians to differ, that is, somewhat less for one to cover: McGill, Tukey and Larsen."""
    draws = 10 + normal("notch", 600, 21)
    covered = np.mean([low <= 10 <= high for low, high in map(median_interval, draws.tolist())])
    assert 0.85 <= covered <= 0.99
    one, other = (10 + normal(name, 600, 21) for name in ("one", "other"))
    meet = [unpaired_ratio(a, b) for a, b in zip(one.tolist(), other.tolist(), strict=True)]
    assert np.mean([ratio.low <= 1 <= ratio.high for ratio in meet]) >= 0.9


def test_pairs_take_out_the_drift_that_both_share():
    """Two per cent between two kernels, under a drift of thirty: the pairs see it, the medians cannot."""
    drift = 1 + 0.3 * np.linspace(0, 1, 21)
    seen = []
    for i in range(100):
        slow = 1.02 * drift * (1 + 0.003 * normal(f"slow {i}", 21))
        fast = drift * (1 + 0.003 * normal(f"fast {i}", 21))
        ratio = paired_ratio(slow.tolist(), fast.tolist(), fold(KEY, i))
        seen.append(ratio.low > 1)
        assert ratio.value == pytest.approx(1.02, abs=0.01)
        assert unpaired_ratio(slow.tolist(), fast.tolist()).low < 1
    assert np.mean(seen) >= 0.95


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says():
    covered = []
    for i in range(200):
        slow, fast = 1.1 + 0.02 * normal(f"a{i}", 21), 1 + 0.02 * normal(f"b{i}", 21)
        ratio = paired_ratio(slow.tolist(), fast.tolist(), fold(KEY, "cover", i))
        covered.append(ratio.low <= 1.1 <= ratio.high)
    assert 0.87 <= np.mean(covered) <= 1.0
