"""Expected improvement, and batches of it."""

import math

import numpy as np
import pytest

from autotune.core.keys import root, uniform
from autotune.core.models.acquisition import choose_batch, expected_improvement, normal_cdf
from autotune.core.models.gp import (
    Hyperparameters,
    TrainingInputs,
    condition,
)

INPUTS = uniform(root(1), 30, 3)
TARGETS = np.sin(5 * INPUTS[:, 0]) + INPUTS[:, 1]
TARGETS = (TARGETS - TARGETS.mean()) / TARGETS.std()
AXIS_OF = np.array([0, 1, 1])  # the last two features belong to one axis
HYPER = Hyperparameters(log_lengths=np.full(3, -1.0), log_amplitude=0.0, log_noise=-9.0, observations=30)


def test_the_normal_distribution_is_that_of_math_erfc() -> None:
    z = np.linspace(-6, 6, 101)
    assert normal_cdf(z) == pytest.approx([0.5 * math.erfc(-x / math.sqrt(2)) for x in z], abs=2e-7)


def test_expected_improvement_is_the_mean_improvement_of_draws() -> None:
    drawn = np.random.default_rng(0).normal(0.3, 0.5, 400_000)
    expected = np.maximum(0.2 - drawn, 0).mean()
    assert expected_improvement(np.array([0.3]), np.array([0.5]), 0.2)[0] == pytest.approx(expected, rel=0.01)


def test_a_batch_is_spread_out_and_leaves_pending_points() -> None:
    known = TrainingInputs(HYPER, INPUTS, AXIS_OF)
    posterior = condition(known, 1.0, 1e-4, TARGETS)
    points = uniform(root(2), 200, 3)
    best = float(TARGETS.min())
    alone = choose_batch(
        posterior,
        points,
        known.correlation(points),
        prior_mean=np.zeros(200),
        factor=np.ones(200),
        best=best,
        n=6,
        pending=0,
    )
    assert len(set(alone)) == 6
    first = np.concatenate([points[alone[:1]], points])
    beside = choose_batch(
        posterior,
        first,
        known.correlation(first),
        prior_mean=np.zeros(201),
        factor=np.ones(201),
        best=best,
        n=3,
        pending=1,
    )
    assert 0 not in beside
    assert beside[0] - 1 == alone[1], "a pending point counts as picked"


@pytest.mark.parametrize("pending", [0, 2])
@pytest.mark.parametrize("n", [1, 5])
def test_a_shortlist_gives_the_picks_of_all_candidates(monkeypatch: pytest.MonkeyPatch, n: int, pending: int) -> None:
    known = TrainingInputs(HYPER, INPUTS, AXIS_OF)
    posterior = condition(known, 1.0, 1e-4, TARGETS)
    points = uniform(root(5), 3000, 3)
    factor, best = uniform(root(6), 3000, 1)[:, 0], float(TARGETS.min())
    found = []
    for shortlist in (1, 12, 3000):  # the least one is too few for any batch, so that it must look again
        monkeypatch.setattr("autotune.core.models.acquisition.SHORTLIST", shortlist)
        found.append(
            choose_batch(
                posterior,
                points,
                known.correlation(points),
                prior_mean=np.zeros(3000),
                factor=factor,
                best=best,
                n=n,
                pending=pending,
            )
        )
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == n


def test_a_batch_is_full_even_if_no_improvement_is_expected() -> None:
    known = TrainingInputs(HYPER, INPUTS, AXIS_OF)
    posterior = condition(known, 1.0, 1e-4, TARGETS)
    points = uniform(root(2), 100, 3)
    picks = choose_batch(
        posterior,
        points,
        known.correlation(points),
        prior_mean=np.zeros(100),
        factor=np.ones(100),
        best=-1e6,
        n=8,
        pending=0,
    )
    assert sorted(set(picks)) == picks == list(range(8))
    few = choose_batch(
        posterior,
        points[:5],
        known.correlation(points[:5]),
        prior_mean=np.zeros(5),
        factor=np.ones(5),
        best=0.0,
        n=8,
        pending=2,
    )
    assert sorted(few) == [2, 3, 4]


def test_every_second_pick_is_of_another_novelty() -> None:
    inputs = uniform(root(1), 12, 3)
    known = TrainingInputs(HYPER, inputs, np.arange(3))
    targets = inputs.sum(axis=1) - inputs.sum(axis=1).mean()
    points = uniform(root(2), 300, 3)
    novelty = np.where(np.arange(300) % 10 == 0, np.arange(300) // 30, -1)
    posterior, correlation, best = condition(known, 1.0, 1e-4, targets), known.correlation(points), float(targets.min())

    def choose(novelty: np.ndarray | None) -> list[int]:
        return choose_batch(
            posterior, points, correlation, prior_mean=np.zeros(300), factor=np.ones(300), best=best, n=8, pending=0,
            novelty=novelty,
        )  # fmt: skip

    picks = choose(novelty)
    assert (novelty[picks[1::2]] >= 0).all()
    assert len(set(novelty[picks[1::2]].tolist())) == 4
    assert len(set(picks)) == 8
    without = choose(np.full(300, -1))
    assert without == choose(None)
    assert picks[0] == without[0]
