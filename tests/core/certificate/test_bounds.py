"""Lower bounds of log ratios: how often they are wrong at any time, and what outliers and few rounds do to them."""

from collections.abc import Callable

import numpy as np
import pytest

from autotune.core.certificate.bounds import CLIP, Logs, RatioNoise, estimate_noise, lower_bounds, rounds_needed

SCALE = 0.003
LOOKS = (4, 6, 8, 12, 18, 27, 40, 60)

Draw = Callable[[np.random.Generator, tuple[int, int]], Logs]

NOISES: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "Cauchy": lambda rng, shape: rng.standard_cauchy(size=shape),
    "outliers": lambda rng, shape: rng.normal(size=shape) + 20 * (rng.random(shape) < 0.05),
    "steps of a clock": lambda rng, shape: np.round(rng.normal(size=shape) * 0.4),
}


@pytest.mark.parametrize("name", NOISES)
def test_a_bound_is_hardly_ever_above_the_truth_however_often_it_is_looked_at(name: str) -> None:
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(25):
        logs = SCALE * NOISES[name](rng, (2, LOOKS[-1]))
        wrong += any(
            lower_bounds(logs[:1, :n] - logs[1:, :n], estimate_noise([logs[:, :n]]), 0.05)[0] > 0 for n in LOOKS
        )
    assert wrong <= 2  # of 25 at 5 %, 1.25 are expected where nothing is given away


def test_a_difference_is_found_and_the_bound_is_near_it() -> None:
    logs = SCALE * np.random.default_rng(1).normal(size=(3, 60))
    logs[1] += 0.01
    (bound,) = lower_bounds(logs[1:2] - logs[:1], estimate_noise([logs]), 0.01)
    assert 0.006 < bound < 0.0105
    early = logs[:, :12]
    assert lower_bounds(early[1:2] - early[:1], estimate_noise([early]), 0.01)[0] > 0


def test_an_outlier_is_one_clipped_round() -> None:
    logs = SCALE * np.random.default_rng(2).normal(size=(2, 40))
    noise = estimate_noise([logs])
    (before,) = lower_bounds(logs[:1] - logs[1:], noise, 0.05)
    ratios = logs[:1] - logs[1:]
    for size in (10.0, 1e6):
        ratios[0, 7] = -size
        (after,) = lower_bounds(ratios, noise, 0.05)
        assert before - 2 * CLIP * noise.scale / 40 * 2 < after <= before


def test_rounds_that_one_of_a_pair_missed_do_not_count() -> None:
    logs = SCALE * np.random.default_rng(3).normal(size=(2, 20))
    noise = estimate_noise([logs])
    ratios = logs[:1] - logs[1:] + 0.01
    gaps = np.full((1, 30), np.nan)
    gaps[:, 5:25] = ratios
    assert lower_bounds(gaps, noise, 0.05) == pytest.approx(lower_bounds(ratios, noise, 0.05), abs=1e-9)
    assert lower_bounds(np.full((1, 4), np.nan), noise, 0.05)[0] == -np.inf


def test_few_rounds_prove_only_what_is_far_from_the_noise() -> None:
    logs = SCALE * np.random.default_rng(4).normal(size=(2, 4))
    noise = estimate_noise([logs])
    near, far = (lower_bounds(logs[:1] - logs[1:] + gap, noise, 0.0125)[0] for gap in (0.005, 0.5))
    assert near <= 0
    assert far > 0.4
    one = estimate_noise([logs[:, :1]])
    assert one.values == 0
    assert lower_bounds(logs[:1, :1] - logs[1:, :1], one, 0.05)[0] == -np.inf


def test_the_guess_of_rounds_is_about_what_it_takes() -> None:
    noise = estimate_noise([SCALE * np.random.default_rng(6).normal(size=(6, 60))])
    assert isinstance(noise, RatioNoise)
    assert rounds_needed(0.0, noise, 0.01, 77) == 77
    guess = rounds_needed(0.005, noise, 0.01, 200)
    assert 8 <= guess <= 40
    assert rounds_needed(0.05, noise, 0.01, 200) <= 5


def test_exact_repeats_tell_at_once() -> None:
    logs = np.log(np.array([[1.0] * 8, [1.001] * 8]))
    noise = estimate_noise([logs])
    assert lower_bounds(logs[1:] - logs[:1], noise, 0.01)[0] > 0
