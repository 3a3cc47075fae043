"""Kernels that misbehave in every way there is, through `tune`, in worker processes: each costs one config."""

import numpy as np
import pytest

from autotune import (
    Budget,
    CallableEvaluator,
    PatternSearch,
    RandomSearch,
    SimulatedEvaluator,
    TuningFailed,
    replay,
    resume,
    tune,
)
from autotune.core.outcomes import Failed, Timed
from autotune.shell.journal import read_journal
from autotune.testing import FAULTS, KERNELS, build_kernel, kernel_space
from autotune.testing.kernels import INPUT, reference

# Of two rounds hardly anything is certain, and what is not certainly faster than the default is not picked.
QUICK = {"confirm_times": 0, "verify_rounds": 7, "simplify_rounds": 0}


def evaluator(**changed):
    return CallableEvaluator(
        build_kernel, (INPUT,), reference=reference, run_timeout_s=2.0, warmup_ms=1.0, target_ms=5.0, max_repeats=5,
        memory_limit_mb=1024, **changed,
    )  # fmt: skip


def test_every_misdeed_costs_one_config_and_the_fastest_right_one_is_found(tmp_path, capfd):
    path = tmp_path / "journal"
    found = tune(kernel_space(), evaluator(workers=2), RandomSearch(100), journal=path, settings=QUICK, progress=False)
    assert found.best.config["kernel"] == "quick"
    assert found.complete
    assert found.default is not None
    assert found.default.config["kernel"] == "slow"
    assert found.speedup is not None
    assert found.speedup.value > 2
    events = read_journal(path).events
    configs = {t.id: t.config["kernel"] for e in events for t in getattr(getattr(e, "task", None), "trials", ())}
    outcomes = {configs[e.trial]: e.outcome for e in events if type(e).__name__ == "Observed"}
    assert set(outcomes) == set(KERNELS)
    for name, outcome in outcomes.items():
        if name in FAULTS:
            assert isinstance(outcome, Failed), name
            assert outcome.kind in FAULTS[name], (name, outcome)
            assert outcome.message, name
        else:
            assert isinstance(outcome, Timed), (name, outcome)
    assert found.counts["timed"] == 3
    assert found.counts["wrong_answer"] == 4
    assert found.counts["compile_error"] == found.counts["run_error"] == found.counts["run_timeout"] == 1
    assert sum(found.counts.values()) == found.evaluations == len(KERNELS)
    assert "no such tile" in outcomes["raises"].message
    assert "does not compile" in outcomes["breaks"].message
    printed = capfd.readouterr()
    assert "hello" not in printed.out + printed.err
    assert replay(path).divergence is None


def test_a_default_that_fails_is_said_plainly_and_the_search_goes_on(tmp_path):
    path = tmp_path / "journal"
    found = tune(
        kernel_space("raises", "quick", "slow", default="raises"), evaluator(), PatternSearch(), journal=path,
        settings=QUICK, progress=False,
    )  # fmt: skip
    assert found.best.config["kernel"] == "quick"
    assert found.default is None
    assert found.speedup is None
    assert any("default config failed" in note and "no such tile" in note for note in found.notes)
    assert resume(path, evaluator(), progress=False) == found


def test_where_all_fail_the_error_counts_the_reasons(tmp_path):
    path = tmp_path / "journal"
    names = ("raises", "wrong", "not_a_number", "crashes", "breaks")
    searched = kernel_space(*names, default="raises")
    for attempt in (
        lambda: tune(searched, evaluator(workers=2), journal=path, settings=QUICK, progress=False),
        lambda: resume(path, evaluator(), progress=False),
    ):
        with pytest.raises(TuningFailed) as caught:
            attempt()
        message = str(caught.value)
        assert "all 5 configs failed" in message
        for part in ("2 wrong answer", "1 run error", "1 crash", "1 compile error"):
            assert part in message
        assert caught.value.counts == {"wrong_answer": 2, "compile_error": 1, "crash": 1, "run_error": 1}


def test_what_works_once_and_then_no_more_is_not_the_result():
    """A kernel that breaks between its measurement and the verification."""

    class Fickle:
        def __init__(self):
            self.seen = set()

        def outcome(self, config):
            if config["kernel"] == "quick" and config in self.seen:
                return Failed("crash", "worked once")
            self.seen.add(config)
            return Timed((1.0 if config["kernel"] == "quick" else 1.001,), 0.1, 0.1)

        def samples(self, config):
            time_ms = 1.0 if config["kernel"] == "quick" else 1.001
            return time_ms * np.linspace(0.9, 1.1, 9)

    table = Fickle()
    simulated = SimulatedEvaluator(table, noise="resample")
    found = tune(kernel_space("quick", "slow", "prints"), simulated, RandomSearch(3), budget=Budget(evaluations=3))
    assert found.best.config["kernel"] != "quick"
