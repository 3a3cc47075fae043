"""The verification that goes on until its claims are certain: laws of the machine, whatever the outcomes are."""

import pytest

from autotune import Compare, Config, FiniteSearch, Integer, Outcome, Plan, Settings, Space, Timed, result
from autotune.core.keys import fold, root, uniform
from autotune.core.outcomes import Failed, Trial
from autotune.testing import HandShell

SPACE = Space({"a": Integer(0, 5), "b": Integer(0, 5)}, default={"a": 0, "b": 0})
CONFIGS = tuple(Config({"a": a, "b": b}) for a in range(6) for b in range(6))


class Noisy(HandShell):
    """Times with noise of any size, and failures even of configs that have worked before. failing: their share."""

    def __init__(self, plan: Plan, seed: int, noise: float, failing: float) -> None:
        super().__init__(plan, self._alone)
        self._key, self._noise, self._failing = root(seed), noise, failing

    def _samples(self, trial: Trial, rounds: int) -> Outcome:
        key = fold(self._key, trial.id, len(self.events))
        if uniform(fold(key, "fails"), 1)[0] < self._failing:
            return Failed("crash", "it failed this time")
        base = 1 + 0.002 * trial.config["a"] if trial.id else 1.02
        return Timed(tuple((base * (1 + self._noise * uniform(key, rounds))).tolist()))

    def _alone(self, trial: Trial, n: int) -> Outcome:
        return self._samples(trial, 5)

    def _repeat(self, trial: Trial, rounds: int) -> Outcome:
        return self._samples(trial, rounds)


def shell(seed: int, noise: float, failing: float, **settings: object) -> Noisy:
    chosen = Settings(rebuild=False, eps=0.005, verify_rounds=9, **settings)  # type: ignore[arg-type]
    return Noisy(Plan(SPACE, FiniteSearch(configs=CONFIGS), seed=seed, settings=chosen), seed, noise, failing)


@pytest.mark.parametrize("noise", [0.0, 0.003, 0.5])
@pytest.mark.parametrize("failing", [0.0, 0.2, 0.9])
@pytest.mark.parametrize("simplify", [0, 2])
def test_it_ends_whatever_the_outcomes_are(noise: float, failing: float, simplify: int) -> None:
    for seed in range(2):
        run = shell(seed, noise, failing, simplify_rounds=simplify, processes=3)
        run.run()
        run.check_past()


def test_rounds_go_to_the_pick_and_to_those_that_may_be_faster() -> None:
    run = shell(0, 0.002, 0.0, processes=3)
    run.run()
    tasks = [task for event in run.events if isinstance(task := getattr(event, "task", None), Compare)]
    verifying = [task for task in tasks if task.purpose == "verify"]
    assert len(verifying) >= 3
    assert all(task.fixed for task in verifying)
    assert len(verifying[-1].trials) <= 3
    found = result(run.search)
    assert found.certificate is not None
    assert found.certificate.selection.shown
    assert found.certificate.config == found.best.config
    assert found.best.config["a"] <= 2
    assert {trial.id for trial in verifying[-1].trials} >= {found.best.trial}


def test_an_interrupt_in_its_midst_leaves_a_result_and_a_resume_goes_on() -> None:
    run = shell(1, 0.01, 0.0, processes=3)
    while not run.search.verifying:
        run.ask()
        run.finish(0)
    verified = run.search.verified
    run.interrupt()
    run.run()
    assert run.search.interrupted
    assert result(run.search).best.trial in dict(verified.outcomes if verified else ())
    run.resume()
    run.run()
    assert len(run.search.verifying) >= 3
