"""What a noisy search says holds: on a simulated device, whose truth is known, quick versions of noisy_searches.py."""

from typing import Any

import numpy as np
import pytest

from autotune import (
    Budget,
    Choice,
    Config,
    Disturbance,
    EvaluatorError,
    FiniteSearch,
    Integer,
    SimulatedEvaluator,
    Space,
    Timed,
    Trial,
    tune,
)
from autotune.core.keys import root
from autotune.core.search.messages import Compare
from autotune.core.statistics import paired_ratio
from autotune.shell.evaluators.simulated import DisturbedDevice
from tests.support import DOCS, load_module

bench = load_module(DOCS / "benchmarks" / "noisy_searches.py")


class Table:
    """Times in milliseconds by a function of the config."""

    def __init__(self, time_ms: Any) -> None:
        self._time_ms = time_ms

    def outcome(self, config: Config) -> Timed:
        return Timed((self._time_ms(config),), 0.01, 0.01)

    def samples(self, config: Config) -> np.ndarray:
        return np.empty(0)


def test_equal_configs_are_seldom_called_different_and_others_always() -> None:
    assert sum(bench.different(0.0, 31, i) for i in range(300)) <= 0.06 * 300
    assert all(bench.different(0.01, 31, i) for i in range(300))


@pytest.mark.parametrize(("noise", "least"), [(0.01, 0.93), (0.1, 0.93)])
def test_intervals_hold_the_truth_and_no_pick_is_slower_than_the_default(noise: float, least: float) -> None:
    """Under a random walk, outliers and a clock that falls by 5 % in the course of the search."""
    (_, disturbance) = list(bench.disturbances(noise))[1]
    runs = [bench.Judged(disturbance, seed, "random_search") for seed in range(60)]
    assert bench.share(runs, "covers_speedup") >= least - 0.05  # two standard errors of 60 searches
    assert bench.share(runs, "covers_time") >= least - 0.06
    assert not any(run.slower for run in runs)
    if noise == 0.01:
        assert bench.share(runs, "reset") >= 0.95, "irrelevant parameters stay away from their default"
        assert np.mean([run.extra for run in runs]) <= len(bench.SPACE.names) + 3


def test_the_pick_of_many_equal_ones_does_not_look_faster_than_it_is() -> None:
    space = Space({"n": Integer(0, 32)}, default={"n": 32})
    table = Table(lambda config: 2.0 if config["n"] == 32 else 1.0)
    found = []
    for seed in range(40):
        device = SimulatedEvaluator(table, disturbance=Disturbance(jitter=0.01), seed=seed)
        result = tune(space, device, "random_search", seed=seed, settings={"rebuild": False}, journal=False)
        assert result.speedup is not None
        found.append(result.speedup.value)
    error = 0.01 * 1.2533 * 2**0.5 / 31**0.5 / 40**0.5  # of the mean of medians of ratios
    assert abs(np.mean(np.log(found)) - np.log(2)) < 4 * error


def test_a_tie_goes_to_the_default() -> None:
    space, notes = Space({"n": Integer(0, 20)}, default={"n": 7}), []
    for seed in range(10):
        device = SimulatedEvaluator(Table(lambda config: 1.0), disturbance=Disturbance(jitter=0.02), seed=seed)
        settings = {"simplify_rounds": 3 * (seed % 2)}
        result = tune(space, device, "random_search", seed=seed, settings=settings, journal=False)
        assert result.best.config == space.default
        assert result.speedup is not None
        assert (result.speedup.low, result.speedup.value, result.speedup.high) == (1, 1, 1)
        notes += result.notes
    assert any("no config is certainly faster than the default" in note for note in notes)


@pytest.mark.parametrize("jitter", [0.0, 0.01])
@pytest.mark.parametrize("seed", range(5))
def test_finite_search_returns_one_of_its_list(jitter: float, seed: int) -> None:
    space = Space(
        {"a": Integer(0, 9), "b": Integer(0, 9), "spare": Choice(list("xyz"))}, default={"a": 0, "b": 0, "spare": "x"}
    )
    listed = tuple({"a": n, "b": 9 - n, "spare": "xyz"[n % 3]} for n in range(10))
    table = Table(lambda config: 2.0 - 0.1 * config["a"] - 0.01 * config["b"])
    device = SimulatedEvaluator(table, disturbance=Disturbance(jitter=jitter), seed=seed)
    result = tune(space, device, FiniteSearch(configs=listed), effort="full", seed=seed, journal=False)
    assert dict(result.best.config) in listed
    assert result.evaluations == len(listed) + 1


def test_first_timings_that_the_verification_does_not_confirm_are_explained() -> None:
    """The device is slower by the time of the verification."""
    space = Space({"n": Integer(0, 9)}, default={"n": 9})
    table = Table(lambda config: 1.0 + 0.1 * config["n"])
    device = SimulatedEvaluator(table, disturbance=Disturbance(jitter=0.002, trend=0.3, trend_s=0.3))
    result = tune(space, device, "random_search", journal=False)
    assert result.best.first_ms is not None
    assert result.best.time_ms > 1.1 * result.best.first_ms
    (note,) = (note for note in result.notes if "by first timings" in note)
    assert f"{result.best.time_ms:.4g} ms" in note
    assert result.best.low_ms <= result.best.time_ms <= result.best.high_ms


def test_a_drift_among_the_rounds_of_the_verification_is_told() -> None:
    space = Space({"n": Integer(0, 3)}, default={"n": 3})
    table = Table(lambda config: 1.0 + 0.1 * config["n"])
    device = SimulatedEvaluator(table, disturbance=Disturbance(jitter=0.001, trend=0.5, trend_s=1.0))
    result = tune(space, device, "random_search", journal=False)
    assert result.drift is not None
    assert result.drift.low > 1.01
    assert any("the device changed while it was verified" in note for note in result.notes)
    still = SimulatedEvaluator(table, disturbance=Disturbance(jitter=0.01))
    calm = tune(space, still, "random_search", journal=False)
    assert calm.drift is not None
    assert calm.drift.low <= 1 <= calm.drift.high
    assert not any("device changed" in note for note in calm.notes)


# The simulated device


def test_a_disturbance_is_as_large_as_it_says() -> None:
    key = root(3)
    calm = DisturbedDevice(Disturbance(jitter=0.01), key).noise(key, 100_000)
    assert np.log(calm).std() == pytest.approx(0.01, rel=0.02)
    assert np.median(calm) == pytest.approx(1.0, abs=2e-4)
    spoilt = DisturbedDevice(Disturbance(outliers=0.05, outlier_size=0.02), key).noise(key, 100_000)
    assert np.mean(spoilt == 1.02) == pytest.approx(0.05, abs=0.003)
    heavy = DisturbedDevice(Disturbance(jitter=0.01, tails=2.0), key).noise(key, 100_000)
    assert np.mean(np.abs(np.log(heavy)) > 0.05) == pytest.approx(0.0377, abs=0.003)  # of Student's t of 2 degrees
    walking = DisturbedDevice(Disturbance(walk=0.01), key)
    steps = np.diff(np.log([walking.drift(t) for t in np.arange(0.0, 2000.0, 0.5)]))
    assert steps.std() == pytest.approx(0.01 * 0.5**0.5, rel=0.05)
    assert abs(np.corrcoef(steps[1:], steps[:-1])[0, 1]) < 0.08
    falling = DisturbedDevice(Disturbance(trend=0.05, trend_s=10.0), key)
    assert [falling.drift(t) for t in (0.0, 10.0, 99.0)] == pytest.approx([1.0, 1 / 0.95, 1 / 0.95])


def test_what_runs_after_another_takes_longer_in_a_fixed_order_and_not_in_a_drawn_one() -> None:
    device = SimulatedEvaluator(Table(lambda config: 1.0), disturbance=Disturbance(jitter=0.001, carry_over=0.01))
    trials = (Trial(0, Config(n=0)), Trial(1, Config(n=1)))
    ratios = []
    for order in (None, 4):
        with device.open(Space({"n": Integer(0, 1)})) as session:
            session.compare(Compare(trials, 40, "verify", order=order))
            (event,) = session.poll()
        (_, one), (_, other) = event.outcomes  # type: ignore[union-attr]
        ratios.append(paired_ratio(other.times_ms, one.times_ms))  # type: ignore[union-attr]
    assert ratios[0].low > 1.005
    assert ratios[1].low <= 1 <= ratios[1].high


def log_ratios(disturbance: Disturbance, rounds: int, order: int | None = 4, **settings: Any) -> np.ndarray:
    """The logarithm of the second of two equal configs over the first, in each round."""
    device = SimulatedEvaluator(Table(lambda config: 1.0), disturbance=disturbance, **settings)
    trials = (Trial(0, Config(n=0)), Trial(1, Config(n=1)))
    with device.open(Space({"n": Integer(0, 1)})) as session:
        session.compare(Compare(trials, rounds, "verify", order=order))
        (event,) = session.poll()
    (_, one), (_, other) = event.outcomes  # type: ignore[union-attr]
    return np.log(np.array(other.times_ms) / one.times_ms)  # type: ignore[union-attr]


def test_a_process_cannot_tell_a_config_from_its_place_and_several_can() -> None:
    found = log_ratios(Disturbance(process=0.01), 12, processes=3)
    assert [len(set(part.round(12))) for part in np.split(found, 3)] == [1, 1, 1]
    assert len(set(found.round(12))) == 3
    places = [log_ratios(Disturbance(process=0.01), 1, seed=seed)[0] for seed in range(400)]
    assert np.std(places) == pytest.approx(0.01 * 2**0.5, rel=0.15)


def test_the_same_neighbour_leaves_the_same_behind() -> None:
    found = log_ratios(Disturbance(neighbour=0.01), 40)
    assert len(set(found.round(12))) == 2  # one of the two runs first
    assert min(abs(found)) > 0


def test_the_luckiest_of_equal_configs_leads_the_search() -> None:
    space = Space({"n": Integer(0, 199)})
    device = SimulatedEvaluator(Table(lambda config: 1.0), disturbance=Disturbance(jitter=1e-6, alone=0.01), seed=2)
    found = tune(space, device, "random_search", settings={"count": 200, "verify_rounds": 9}, journal=False)
    assert found.best.first_ms is not None
    assert found.best.first_ms < 0.99, "first timings of the favourite are too low"
    assert found.best.time_ms == pytest.approx(1.0, abs=1e-4), "the verification's are not"


@pytest.mark.parametrize(
    "given", [{"jitter": -1}, {"outliers": 1.5}, {"trend": 2.0}, {"tails": 0}, {"walk": float("nan")}, {"jitter": True}]
)
def test_a_disturbance_that_cannot_be_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(EvaluatorError, match=f"the disturbance: {next(iter(given))} "):
        Disturbance(**given)


def test_a_search_of_seconds_has_time_to_simplify() -> None:
    """The strategy never ends by itself; its seconds are over, and what does not matter is put back all the same."""
    space = bench.SPACE
    device = SimulatedEvaluator(bench.Kernel(), disturbance=Disturbance(jitter=0.01), seed=1)
    result = tune(
        space, device, "random_search", budget=Budget(seconds=20.0), settings={"count": 10_000}, journal=False
    )
    assert result.stopped == "seconds"
    assert space.default is not None
    assert all(result.best.config[name] == space.default[name] for name in bench.IRRELEVANT)
    assert result.elapsed_s <= 20.0
