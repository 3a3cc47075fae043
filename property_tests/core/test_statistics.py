"""Intervals of medians and ratios: right about the truth as often as they say, and finite whatever comes in."""

from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.core.keys import fold, root, uniform
from autotune.core.statistics import (
    LARGEST,
    LEVEL,
    STRICT,
    finite_median,
    interval_level,
    median_interval,
    notch,
    paired_ratio,
    quantile,
    student_t,
    unpaired_ratio,
)

ANY = st.floats(5e-324, LARGEST) | st.sampled_from([1e300, 1e-300, 5e-324, LARGEST, 1.0])
SAMPLES = st.lists(ANY, min_size=1, max_size=12)
USUAL = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12)
KEY = root(3)


@given(SAMPLES, st.sampled_from([LEVEL, STRICT]))
def test_an_interval_holds_its_median_and_lies_within_its_samples(samples, level):
    low, high = median_interval(samples, level)
    assert min(samples) <= low <= finite_median(samples) <= high <= max(samples)
    assert low in samples
    assert high in samples


@given(SAMPLES)
def test_a_notch_holds_its_median_and_is_finite(samples):
    low, high = notch(samples)
    assert 0 <= low <= quantile(sorted(samples), 0.5) <= high <= LARGEST
    assert high > 0


@given(USUAL, st.floats(0, 1))
def test_a_quantile_is_that_of_numpy(samples, share):
    assert quantile(sorted(samples), share) == pytest.approx(float(np.quantile(samples, share)), rel=1e-12)
    assert quantile(sorted(samples), 0.5) == pytest.approx(median(samples), rel=1e-12)


@given(USUAL, st.floats(0.1, 10))
def test_an_interval_scales_and_forgets_the_order(samples, factor):
    for interval in (median_interval, notch):
        low, high = interval(samples)
        assert interval(samples[::-1]) == (low, high)
        scaled = interval([sample * factor for sample in samples])
        assert scaled == pytest.approx((low * factor, high * factor), rel=1e-9, abs=1e-9)


@pytest.mark.filterwarnings("error")
@given(SAMPLES, SAMPLES)
def test_ratios_are_ordered_and_finite(one, other):
    for ratio in (unpaired_ratio(one, other), paired_ratio(one, other), paired_ratio(one, other, STRICT)):
        assert 0 <= ratio.low <= ratio.value <= ratio.high <= LARGEST
        assert ratio.level is None or 0 <= ratio.level <= 1


@given(USUAL)
def test_a_series_is_once_as_slow_as_itself(samples):
    ratio = paired_ratio(samples, samples)
    assert ratio.value == 1
    assert ratio.low <= 1 <= ratio.high
    if len(samples) > 1:
        assert (ratio.low, ratio.high) == (1, 1)
    assert unpaired_ratio(samples, samples).low <= 1 <= unpaired_ratio(samples, samples).high


@given(USUAL, USUAL)
def test_a_ratio_turned_around_is_the_ratio_the_other_way(one, other):
    there, back = paired_ratio(one, other), paired_ratio(other, one)
    assert (there.low, there.level) == (pytest.approx(1 / back.high, rel=1e-9), back.level) or min(
        len(one), len(other)
    ) == 1


@pytest.mark.parametrize(("freedom", "level", "t"), [(1, 0.95, 12.7062), (4, 0.95, 2.7764), (6, 0.99, 3.7074)])
def test_quantiles_of_student_are_those_of_his_table(freedom, level, t):
    assert student_t(freedom, level) == pytest.approx(t, abs=1e-4)


def test_levels_are_named_as_they_are_reached():
    """Of few samples the least and the greatest: 1 - 2 / 2**n."""
    assert [interval_level(n) for n in (1, 2, 3, 5, 6)] == [0.0, 0.5, 0.75, 0.9375, 0.96875]
    assert all(LEVEL <= interval_level(n) < 0.997 for n in range(7, 200))
    assert all(interval_level(n, STRICT) >= STRICT for n in range(8, 200))


def normal(purpose, *shape):
    """Numbers of mean 0 and deviation 1: twelve uniform ones, less six."""
    return uniform(fold(KEY, purpose), *shape, 12).sum(axis=-1) - 6


NOISES = {
    "normal": lambda purpose, *shape: 10 * np.exp(0.004 * normal(purpose, *shape)),
    "wide": lambda purpose, *shape: 10 * np.exp(0.5 * normal(purpose, *shape)),
    "outliers": lambda purpose, *shape: (
        10 * np.exp(0.004 * normal(purpose, *shape)) * (1 + 0.02 * (uniform(fold(KEY, purpose, "out"), *shape) < 0.05))
    ),
    "skewed": lambda purpose, *shape: 10 * (1 - np.log(1 - uniform(fold(KEY, purpose), *shape))),
    "heavy": lambda purpose, *shape: (
        10 * np.exp(0.01 * np.tan(np.clip(np.pi * (uniform(fold(KEY, purpose), *shape) - 0.5), -1.55, 1.55)))
    ),
}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("n", [2, 3, 5, 7, 9, 21, 31])
def test_an_interval_covers_the_median_as_often_as_its_level_says(noise, n):
    truth = float(np.median(NOISES[noise]("truth", 200001)))
    draws = NOISES[noise](f"{noise} {n}", 2000, n)
    covered = np.mean([low <= truth <= high for low, high in map(median_interval, draws.tolist())])
    level = interval_level(n)
    assert covered == pytest.approx(level, abs=4 * (level * (1 - level) / 2000) ** 0.5)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("n", [2, 3, 5, 7, 9, 21, 31])
def test_a_ratio_covers_the_truth_at_every_number_of_rounds(noise, n):
    slow, fast = (NOISES[noise](f"{noise} {name} {n}", 2000, n) for name in ("slow", "fast"))
    ratios = [paired_ratio(a, b) for a, b in zip((1.1 * slow).tolist(), fast.tolist(), strict=True)]
    covered = np.mean([ratio.low <= 1.1 <= ratio.high for ratio in ratios])
    assert covered >= 0.94
    assert all(ratio.level >= LEVEL for ratio in ratios)


@pytest.mark.parametrize("n", [6, 7, 21])
def test_a_ratio_of_what_was_timed_apart_covers_the_truth(n):
    slow, fast = (10 * np.exp(0.05 * normal(f"{name} {n}", 1000, n)) for name in ("apart", "other"))
    ratios = [unpaired_ratio(a, b) for a, b in zip((1.1 * slow).tolist(), fast.tolist(), strict=True)]
    assert np.mean([ratio.low <= 1.1 <= ratio.high for ratio in ratios]) >= 0.95


def test_pairs_take_out_the_drift_that_both_share():
    """Two per cent between two kernels, under a drift of thirty: the pairs see it, the medians cannot."""
    drift = 1 + 0.3 * np.linspace(0, 1, 21)
    seen = []
    for i in range(100):
        slow = 1.02 * drift * (1 + 0.003 * normal(f"slow {i}", 21))
        fast = drift * (1 + 0.003 * normal(f"fast {i}", 21))
        ratio = paired_ratio(slow.tolist(), fast.tolist())
        seen.append(ratio.low > 1)
        assert ratio.value == pytest.approx(1.02, abs=0.01)
        assert unpaired_ratio(slow.tolist(), fast.tolist()).low < 1
    assert np.mean(seen) >= 0.95
