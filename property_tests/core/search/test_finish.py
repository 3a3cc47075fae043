"""The end of a search: of many that are nearly equal, the fastest is picked, though every time has its own noise."""

from collections.abc import Callable

import pytest

from autotune import (
    Budget,
    Compared,
    Config,
    FiniteSearch,
    Integer,
    Outcome,
    Plan,
    RandomSearch,
    Settings,
    Space,
    Timed,
    result,
)
from autotune.core.keys import Key, fold, root, uniform
from autotune.core.outcomes import Failed, Trial
from autotune.core.search.messages import Compare
from autotune.testing import HandShell

SPACE = Space({"a": Integer(0, 9), "b": Integer(0, 9)}, default={"a": 0, "b": 0})
DRIFT, JITTER = 0.01, 0.01
"""Widths of what a measurement as a whole, and each sample of it, may be off."""
CONFIGS = [{"a": a, "b": b} for a in range(10) for b in range(10)]

Truth = Callable[[Config], float]


def flat(config: Config) -> float:
    """In milliseconds: each config is 0.02 % slower than another, in no order that a search could know."""
    rank = (config["a"] * 37 + config["b"] * 11) % 100
    return 2.0 if config["a"] == config["b"] == 0 else 1.0 + 2e-4 * rank


class Drifting(HandShell):
    """Every measurement is off by as much as clock and temperature may do; in a comparison, all of a round alike."""

    def __init__(self, plan: Plan, truth: Truth, key: Key) -> None:
        super().__init__(plan, self._alone)
        self._truth, self._key = truth, key

    def _off(self, width: float, *path: object, n: int = 1) -> list[float]:
        return [float(x) for x in 1 + width * (uniform(fold(self._key, *map(str, path)), n) - 0.5)]

    def _alone(self, trial: Trial, n: int) -> Outcome:
        time = self._truth(trial.config) * self._off(DRIFT, "alone", trial.id, n)[0]
        return Timed(tuple(time * x for x in self._off(JITTER, "sample", trial.id, n, n=15)))

    def finish_comparison(self, task: Compare) -> None:
        together = self._off(DRIFT, "together", len(self.events), n=task.rounds)
        found = []
        for trial in task.trials:
            own = self._off(JITTER, "compared", len(self.events), trial.id, n=task.rounds)
            times = tuple(1.04 * self._truth(trial.config) * a * b for a, b in zip(together, own, strict=True))
            found.append((trial.id, Timed(times)))
        self.record(Compared(self.clock, tuple(found)))


def ended(truth: Truth = flat, seed: int = 0, space: Space = SPACE, **settings: object) -> HandShell:
    plan = Plan(space, FiniteSearch(configs=tuple(CONFIGS)), seed=seed, settings=Settings(rebuild=False, **settings))  # type: ignore[arg-type]
    shell = Drifting(plan, truth, root(seed))
    shell.run()
    shell.check_past()
    return shell


def purposes(shell: HandShell) -> list[str]:
    tasks = [getattr(event, "task", None) for event in shell.events]
    return [task.purpose for task in tasks if isinstance(task, Compare)]


def losses(**settings: object) -> list[float]:
    """Of a space without a default, beside which nothing is simpler than anything else."""
    free = Space(dict(SPACE.parameters))
    picks = [result(ended(seed=seed, space=free, confirm_times=0, **settings).search).best.config for seed in range(40)]
    return [flat(config) / min(map(flat, map(Config, CONFIGS))) - 1 for config in picks]


@pytest.mark.slow
def test_of_many_that_are_nearly_equal_one_of_the_fastest_is_picked():
    with_heat, without = losses(), losses(contenders=1)
    assert sum(with_heat) / 40 < 0.001
    assert sum(with_heat) < 0.7 * sum(without), "the comparison of the contenders brings nothing"


def test_times_of_contenders_are_no_revisions():
    """They are 4 % longer here; who was not among them would lead."""
    shell = ended(confirm_times=0)
    assert purposes(shell) == ["qualify", "verify"]
    search = shell.search
    assert search.qualified is not None
    assert search.verified is not None
    qualified = {i for i, _ in search.qualified.outcomes}
    only_there = qualified - {i for i, _ in search.verified.outcomes}
    assert len(qualified) == 32
    assert only_there
    told = [i for i, _ in search.outcomes]
    assert all(told.count(i) == 1 for i in only_there)
    assert {i for i, _ in search.verified.outcomes} <= qualified | {0}


@pytest.mark.parametrize("settings", [{}, {"contenders": 4}, {"contenders": 1}])
def test_a_seed_that_seemed_a_little_slow_is_compared_whatever_its_rank(settings):
    """It comes first, on a device that has been idle; others look faster than they are beside it."""
    seed = Config({"a": 7, "b": 7})

    class Idle(Drifting):
        def _alone(self, trial: Trial, n: int) -> Outcome:
            found = super()._alone(trial, n)
            assert isinstance(found, Timed)
            return Timed(tuple(1.06 * t for t in found.times_ms)) if trial.config == seed else found

    plan = Plan(
        SPACE, FiniteSearch(configs=tuple(CONFIGS)), seeds=(seed,), settings=Settings(rebuild=False, **settings)
    )
    shell = Idle(plan, lambda config: 0.98 if config == seed else flat(config), root(0))
    shell.run()
    shell.check_past()
    assert result(shell.search).best.config == seed


@pytest.mark.parametrize("most", [2, 4, 5])
def test_the_fastest_are_compared_however_many_seeds_are_near(most):
    fast = [Config({"a": 3, "b": b}) for b in range(5)]
    seeds = tuple(Config({"a": 7, "b": b}) for b in range(8))

    def truth(config: Config) -> float:
        return 0.93 if config in fast else 0.965 if config in seeds else 1.2

    settings = Settings(rebuild=False, contenders=most, finalists=most)
    plan = Plan(SPACE, FiniteSearch(configs=tuple(CONFIGS)), seeds=seeds, settings=settings)
    shell = Drifting(plan, truth, root(0))
    shell.run()
    shell.check_past()
    last = [task for e in shell.events if isinstance(task := getattr(e, "task", None), Compare)][-1]
    compared = [trial.config for trial in last.trials]
    assert sum(config in fast for config in compared) >= most - most // 2
    assert result(shell.search).best.config in fast


@pytest.mark.parametrize(
    "settings", [{"contenders": 1}, {"verify_rounds": 0}, {"exact": True}], ids=lambda s: next(iter(s))
)
def test_there_need_be_no_contenders(settings):
    assert "qualify" not in purposes(ended(confirm_times=0, **settings))


def test_no_contender_is_asked_for_where_the_time_is_for_the_verification():
    plan = Plan(
        SPACE, FiniteSearch(configs=tuple(CONFIGS)), Budget(seconds=12.0),
        settings=Settings(confirm_times=0, reserve=0.0, rebuild=True),
    )  # fmt: skip
    shell = Drifting(plan, lambda config: 50.0 * flat(config), root(0))
    shell.run(pick=lambda n: 0)
    begun = [event.at for event in shell.events if isinstance(getattr(event, "task", None), Compare)]
    assert purposes(shell)[-1] == "verify"
    assert begun[-1] < 12.0


def test_few_are_compared_where_each_is_built_again_and_kept_in_a_process_of_its_own():
    plan = Plan(SPACE, FiniteSearch(configs=tuple(CONFIGS)), settings=Settings(confirm_times=0, rebuild=True))
    shell = Drifting(plan, flat, root(0))
    shell.run()
    tasks = [getattr(event, "task", None) for event in shell.events]
    assert [len(t.trials) for t in tasks if isinstance(t, Compare) and t.purpose == "qualify"] == [5]


def test_a_contender_for_which_there_is_no_memory_beside_the_others_has_not_failed():
    plan = Plan(SPACE, FiniteSearch(configs=tuple(CONFIGS)), settings=Settings(confirm_times=0, rebuild=False))

    class Crowded(Drifting):
        def finish_comparison(self, task: Compare) -> None:
            crowded = task.purpose == "qualify"
            found = [
                (t.id, Failed("out_of_memory") if crowded and i > 2 else Timed((flat(t.config),) * task.rounds))
                for i, t in enumerate(task.trials)
            ]
            self.record(Compared(self.clock, tuple(found)))

    shell = Crowded(plan, flat, root(0))
    shell.run()
    found = result(shell.search)
    assert found.counts == {"timed": 100}
    assert len(dict(shell.search.verified.outcomes)) <= 4  # type: ignore[union-attr]


def test_a_contender_that_fails_when_it_is_run_again_is_no_finalist():
    def truth(config: Config) -> float:
        return flat(config) - 0.02 * (config == best)

    plan = Plan(SPACE, FiniteSearch(configs=tuple(CONFIGS)), settings=Settings(confirm_times=0))
    best = Config({"a": 5, "b": 5})

    class Failing(Drifting):
        def finish_comparison(self, task: Compare) -> None:
            found = [
                (trial.id, Failed("crash") if trial.config == best else Timed((truth(trial.config),) * task.rounds))
                for trial in task.trials
            ]
            self.record(Compared(self.clock, tuple(found)))

    shell = Failing(plan, truth, root(0))
    shell.run()
    found = result(shell.search)
    assert found.best.config != best
    assert found.counts["crash"] == 1


@pytest.mark.parametrize(("loss", "kept"), [(0.0, True), (0.0003, True), (0.003, False)])
def test_a_simplification_is_picked_only_where_nothing_is_lost_by_it(loss, kept):
    """`b` does not matter, or as good as not; putting it back to its default may cost a little."""

    def truth(config: Config) -> float:
        return (2.0 - 0.1 * config["a"]) * (1.0 + loss * (config["b"] == 0))

    seeds = (Config({"a": 9, "b": 4}), Config({"a": 8, "b": 4}))
    plan = Plan(SPACE, RandomSearch(count=3), seeds=seeds, settings=Settings(simplify_rounds=2))

    class Quiet(Drifting):
        def finish_comparison(self, task: Compare) -> None:
            wave = [1.0 + 0.002 * (i % 5 - 2) for i in range(task.rounds)]
            other = [1.0 + 0.002 * (i * 3 % 5 - 2) for i in range(task.rounds)]
            found = [
                (t.id, Timed(tuple(truth(t.config) * x for x in (other if t.config["b"] == 0 else wave))))
                for t in task.trials
            ]
            self.record(Compared(self.clock, tuple(found)))

    shell = Quiet(plan, truth, root(1))
    shell.oracle = lambda trial, n: Timed(tuple(truth(trial.config) * (1 + 0.004 * (i % 3)) for i in range(6)))
    shell.run()
    assert (result(shell.search).best.config["b"] == 0) is kept
