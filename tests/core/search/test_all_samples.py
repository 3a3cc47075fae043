"""A final comparison that is too short to decide is no tie: then all samples of the search choose."""

import pytest

from autotune import Budget, Config, FiniteSearch, Integer, Plan, Settings, Space, Timed, result
from autotune.core.keys import fold, root, uniform
from autotune.core.outcomes import Outcome, Trial
from autotune.core.search.all_samples import collect_samples, ratio_by_all
from autotune.core.search.effort import MACHINE
from autotune.core.search.messages import Compare, Compared
from autotune.core.search.result import is_undecided
from autotune.shell.cache.entries import entry_of_search, new_run
from autotune.shell.cache.keys import Device, LooseKey, Specialization, StrictKey, Versions
from autotune.testing import HandShell

DEFAULT = Config({"a": 0})
SPACE = Space({"a": Integer(0, 11)}, default=DEFAULT)
CONFIGS = tuple(Config({"a": a}) for a in range(12))


class Loaded(HandShell):
    """The default takes `slower` times as long in every measurement. In a comparison, of which the deadline leaves
    `rounds`, one sample of each other config is an outlier; 0 rounds: it never ends."""

    def __init__(
        self, slower: float, rounds: int, seed: int = 0, alone: int = 4, noise: float = 0.2, **settings: object
    ):
        self.slower, self.rounds, self.alone, self.noise, self.key = slower, rounds, alone, noise, root(seed)
        chosen = Settings(**{"rebuild": False, "contenders": 1, "all_samples": True, **settings})  # type: ignore[arg-type]
        budget = Budget() if rounds else Budget(seconds=100.0)
        super().__init__(Plan(SPACE, FiniteSearch(configs=CONFIGS), budget, settings=chosen), self._alone)

    def _times(self, config: Config, count: int, *path: object) -> list[float]:
        factors = 1 + self.noise * uniform(fold(self.key, *map(str, path)), count)
        return [float(x) * (self.slower if config == DEFAULT else 1.0) for x in factors]

    def _alone(self, trial: Trial, n: int) -> Outcome:
        return Timed(tuple(self._times(trial.config, self.alone, "alone", trial.id, n)))

    def finish_comparison(self, task: Compare) -> None:
        found = []
        for trial in task.trials:
            times = self._times(trial.config, self.rounds, "compared", trial.id)
            if trial.config != DEFAULT:
                times[0] *= 2 * self.slower
            found.append((trial.id, Timed(tuple(times))))
        self.record(Compared(self.clock, tuple(found)))


def ended(shell: Loaded) -> Loaded:
    shell.run()
    shell.check_past()
    return shell


@pytest.mark.parametrize("rounds", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("slower", [5.0, 200.0])
def test_a_default_that_every_time_shows_slower_is_not_the_pick(slower, rounds):
    shell = ended(Loaded(slower, rounds))
    found = result(shell.search)
    assert found.best.config != DEFAULT
    assert found.speedup is not None
    assert found.speedup.low > 1
    assert rounds > 2 or any("all samples of the search" in note for note in found.notes)


def test_journals_without_the_setting_keep_the_default():
    assert result(ended(Loaded(200.0, 2, all_samples=False)).search).best.config == DEFAULT
    assert [MACHINE[effort].get("all_samples") for effort in ("quick", "full")] == [True, True]


@pytest.mark.parametrize("rounds", [2, 4, 6])
def test_a_default_that_is_as_fast_stays(rounds):
    picks = [result(ended(Loaded(1.0, rounds, seed)).search).best.config for seed in range(20)]
    assert picks.count(DEFAULT) == len(picks)


def test_a_default_that_ran_cold_once_stays():
    """Its first times are twice as long as those of the comparison, where it is as fast."""
    samples = {0: (2.0, 2.0, 2.0, 1.0, 1.0), **dict.fromkeys(range(1, 12), (1.0, 1.01, 1.0, 1.0, 1.01))}
    ratio = ratio_by_all(samples, 0, 1)
    assert ratio is not None
    assert ratio.low < 1 < ratio.value


def test_a_result_for_lack_of_samples_is_no_hit_of_the_cache():
    """The next search goes on from its measurements; a choice of all samples is finished."""
    device = Device(kind="cpu", name="a CPU")
    key = StrictKey(
        LooseKey(kernel="k", source="s", specialization=Specialization(), device=device, space="s"), Versions()
    )
    open_ = ended(Loaded(1.5, 2, alone=1, noise=0.9)).search
    assert result(open_).best.config == DEFAULT
    assert is_undecided(open_)
    assert any("search with more seconds" in note for note in result(open_).notes)
    assert not entry_of_search(open_, key, new_run({}, "quick")).finished
    sure = ended(Loaded(200.0, 2)).search
    assert not is_undecided(sure)
    assert entry_of_search(sure, key, new_run({}, "quick")).finished


def test_samples_of_one_measurement_say_nothing_of_noise():
    assert ratio_by_all({0: (2.0,), 1: (1.0,)}, 0, 1) is None
    assert set(collect_samples(ended(Loaded(2.0, 3)).search)) == set(range(12))
