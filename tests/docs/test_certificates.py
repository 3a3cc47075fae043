"""Certificates are right on a simulated device, whose truth is known: quick versions of certificates.py."""

import msgspec
import numpy as np
import pytest

from autotune import Disturbance, SimulatedEvaluator, replay, result, tune
from autotune.core.certificate.claims import Certificate
from autotune.core.config import Config
from autotune.shell.tuning import read_search
from tests.support import DOCS, load_module

bench = load_module(DOCS / "benchmarks" / "certificates.py")


def check(pairs):
    now, before = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    wrong = [one for one in now if one.selection is False or one.never_worse is False or one.in_tie_set is False]
    assert len(wrong) <= 0.05 * len(now)
    assert sum(one.samples for one in now) <= 1.05 * sum(one.samples for one in before)
    assert np.mean([one.loss for one in now]) <= np.mean([one.loss for one in before]) + 0.001
    assert sum(one.selection is not None for one in now if one.noise <= 0.002) >= len(now) / 5 * 0.3


def test_claims_are_true_and_cost_no_more_rounds_than_a_fixed_number():
    check(list(bench.judge_many(0, 5, ("random_search",))))


@pytest.mark.slow
def test_claims_of_many_searches_are_true():
    check(list(bench.judge_many(0, 200, bench.STRATEGIES)))


def test_a_certificate_follows_from_the_journal_alone(tmp_path):
    path = tmp_path / "run.jsonl"
    device = SimulatedEvaluator(bench.Kernel(3), disturbance=Disturbance(jitter=0.003, process=0.001))
    found = tune(bench.SPACE, device, "random_search", budget=40, journal=path)
    assert found.certificate is not None
    again = result(read_search(path)[1]).certificate
    assert again is not None
    assert again.to_json() == found.certificate.to_json()
    assert msgspec.json.decode(again.to_json(), type=Certificate, dec_hook=lambda kind, value: Config(value)) == again
    assert replay(path).divergence is None
    assert len(str(again).splitlines()) == 10
    assert again.config == found.best.config
    assert again.levels is not None
    assert again.levels.comparisons >= 3
    assert found.speedup is not None
    assert again.never_worse is not None
    assert again.never_worse.least == found.speedup.low > 1


def test_exact_times_need_no_proof():
    found = tune(bench.SPACE, SimulatedEvaluator(bench.Kernel(3)), "random_search", budget=20, journal=False)
    assert found.certificate is not None
    assert found.certificate.selection.shown
    assert found.certificate.exact
    assert "times are exact" in str(found.certificate)


def test_a_single_timed_config_is_certified_as_the_default():
    found = tune(bench.SPACE, SimulatedEvaluator(bench.Kernel(3)), effort="none", journal=False)
    assert found.certificate is not None
    assert "the pick is the default" in str(found.certificate)
