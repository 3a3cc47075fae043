"""The verdict on compared configs: beaten, tied, open, and the pick."""

import numpy as np
import pytest

from autotune.core.certificate.evidence import Block, Evidence, weigh
from autotune.core.certificate.verdicts import EPS, find_standing, judge, largest_gap, statuses

ROUNDS = 40


def evidence(times: dict[int, float], rounds: int = ROUNDS, noise: float = 0.002, seed: int = 0) -> Evidence:
    rng = np.random.default_rng(seed)
    samples = [tuple((time * np.exp(noise * rng.normal(size=rounds))).tolist()) for time in times.values()]
    found = weigh((Block(tuple(times), tuple(samples)),), 0.04)
    assert found is not None
    return found


def test_the_slower_are_beaten_the_equal_are_tied_and_the_uncertain_are_open() -> None:
    found = evidence({3: 1.0, 5: 1.0005, 8: 1.02})
    verdict = judge(found, (3, 5, 8), 3, EPS)
    assert (verdict.pick, verdict.settled) == (3, True)
    assert verdict.statuses == {5: "tied", 8: "beaten"}
    early = evidence({3: 1.0, 5: 1.0005, 8: 1.02}, rounds=3)
    assert statuses(early, 3, EPS)[5] == "open"
    assert not judge(early, (3, 5, 8), 3, EPS).settled


def test_of_those_that_will_do_the_simplest_is_the_pick() -> None:
    found = evidence({3: 1.0, 5: 1.0, 8: 1.02})
    assert judge(found, (8, 5, 3), 3, EPS).pick == 5, "8 is simpler, and beaten"
    assert largest_gap(found, 8, find_standing(found)) > 0.01


def test_a_favourite_that_is_beaten_is_not_the_pick() -> None:
    found = evidence({3: 1.02, 5: 1.0, 8: 1.0}, rounds=6)
    verdict = judge(found, (3, 5, 8), 3, EPS)
    assert verdict.pick in (5, 8)
    assert verdict.statuses[3] == "beaten"


def test_a_pick_comes_from_those_that_may_be_picked() -> None:
    found = evidence({3: 1.02, 5: 1.0})
    assert judge(found, (3,), 3, EPS).pick == 3


def test_a_bound_that_once_held_goes_on_to_hold() -> None:
    rng = np.random.default_rng(1)
    blocks = []
    for gap in (0.01, -0.004, -0.004):
        logs = 0.002 * rng.normal(size=(2, 20)) + np.array([[0.0], [gap]])
        blocks.append(Block((0, 1), tuple(map(tuple, np.exp(logs).tolist()))))
    bounds = []
    for count in (1, 2, 3):
        found = weigh(tuple(blocks[:count]), 0.04)
        assert found is not None
        bounds.append(found.lower[1, 0])
    assert bounds == sorted(bounds)


@pytest.mark.parametrize("blocks", [(), (Block((4,), ((1.0, 1.0),)),)])
def test_one_config_is_no_comparison(blocks: tuple[Block, ...]) -> None:
    assert weigh(blocks, 0.04) is None
