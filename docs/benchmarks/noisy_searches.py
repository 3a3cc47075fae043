"""Whether what a noisy search says is true: intervals of times and speed-ups, and the pick, on a simulated device.

    python docs/benchmarks/noisy_searches.py [--searches 400] [--comparisons 1000] [--seed 0] [--strategy NAME]

Nothing is run. First, comparisons of two configs, equal and 1 % apart, by every number of rounds: how often they are
called different. Noise is 0.4 %, 5 % of the samples are outliers of 2 %, the device's speed walks at random, and what
runs second in a round takes 0.1 % longer.

Then whole searches of a made-up space, at a noise of 1 %, 10 % and 50 % of each sample, with
outliers (5 % of the samples, twice the noise) and a random walk, and a clock that stays or falls by 5 % in the course
of the search. Printed is how often the interval of the speed-up and of the pick's time held the truth (of a time: what
it was during the verification), how many picks were slower than the default, and what simplification left changed.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from autotune import (
    Budget,
    Choice,
    Compare,
    Compared,
    Config,
    Disturbance,
    Integer,
    Outcome,
    PowerOfTwo,
    SimulatedEvaluator,
    Space,
    Timed,
    Trial,
)
from autotune.core.keys import root
from autotune.core.search.result import Result, result
from autotune.core.search.state import start
from autotune.core.statistics import paired_ratio
from autotune.core.strategies.registry import DEFAULT_STRATEGY
from autotune.shell.driver import Driver, Interruption
from autotune.shell.evaluators.simulated import DisturbedDevice
from autotune.shell.plans import make_plan

COMPARED = Disturbance(jitter=0.004, outliers=0.05, outlier_size=0.02, walk=0.01, carry_over=0.001)

SPACE = Space(
    {
        "block": PowerOfTwo(16, 256),
        "warps": PowerOfTwo(1, 16),
        "stages": Integer(1, 5),
        "order": Choice(["row", "column", "morton"]),
        "label": Integer(0, 7),
        "spare": Choice(["a", "b", "c", "d"]),
    },
    default={"block": 32, "warps": 4, "stages": 2, "order": "row", "label": 0, "spare": "a"},
)
IRRELEVANT = ("label", "spare")
EVALUATIONS, CONFIG_S = 80, 0.05


class Kernel:
    """Times of the space; the last two parameters do not matter."""

    def true_ms(self, config: Config) -> float:
        block = 0.06 * abs(np.log2(config["block"]) - 7)
        warps = 0.05 * abs(np.log2(config["warps"]) - 3)
        stages = 0.03 * abs(config["stages"] - 4)
        order = {"row": 0.04, "column": 0.1, "morton": 0.0}[config["order"]]
        return float(1 + block + warps + stages + order)

    def outcome(self, config: Config) -> Outcome:
        return Timed((self.true_ms(config),), CONFIG_S, 0.01)

    def samples(self, config: Config) -> NDArray[np.float64]:
        return np.empty(0)


class Pair:
    """Two configs, the second slower by so much."""

    def __init__(self, slower: float) -> None:
        self.slower = slower

    def outcome(self, config: Config) -> Outcome:
        return Timed((1 + self.slower * config["n"],))

    def samples(self, config: Config) -> NDArray[np.float64]:
        return np.empty(0)


def different(slower: float, rounds: int, seed: int) -> bool:
    """Whether a comparison of two configs says that they differ."""
    trials = (Trial(0, Config(n=0)), Trial(1, Config(n=1)))
    evaluator = SimulatedEvaluator(Pair(slower), disturbance=COMPARED, seed=seed)
    with evaluator.open(Space({"n": Integer(0, 1)})) as session:
        session.compare(Compare(trials, rounds, "verify", order=seed))
        (event,) = session.poll()
    assert isinstance(event, Compared)
    (_, one), (_, other) = event.outcomes
    assert isinstance(one, Timed)
    assert isinstance(other, Timed)
    return not (ratio := paired_ratio(other.times_ms, one.times_ms)).low <= 1 <= ratio.high


class Judged:
    """One search, held against the truth."""

    def __init__(self, disturbance: Disturbance, seed: int, strategy: str) -> None:
        kernel = Kernel()
        evaluator = SimulatedEvaluator(kernel, disturbance=disturbance, seed=seed)
        plan = make_plan(SPACE, strategy, exact=False, rebuild=False, budget=Budget(evaluations=EVALUATIONS), seed=seed)
        with evaluator.open(SPACE) as session:
            search = Driver(start(plan), session).run(Interruption())
        found: Result = result(search)
        self.found, self.search = found, search
        assert SPACE.default is not None
        best, default = kernel.true_ms(found.best.config), kernel.true_ms(SPACE.default)
        self.speedup = default / best
        self.covers_speedup = found.speedup is not None and found.speedup.low <= self.speedup <= found.speedup.high
        verified = dict(search.verified.outcomes) if search.verified is not None else {}
        rounds = len(found.best.times_ms)  # the last ones
        took_s = rounds * sum(kernel.true_ms(search.trials[i].config) for i in verified) / 1000
        self.time_ms = best * typical(disturbance, seed, search.clock - took_s, search.clock)
        self.covers_time = found.best.low_ms <= self.time_ms <= found.best.high_ms
        self.slower = best > default
        self.loss = best / min(map(kernel.true_ms, (search.trials[i].config for i in dict(search.outcomes)))) - 1
        self.reset = all(found.best.config[name] == SPACE.default[name] for name in IRRELEVANT)
        self.extra = sum(trial.origin == "simplify" for trial in search.trials)


def typical(disturbance: Disturbance, seed: int, begin: float, end: float) -> float:
    """The median factor of a sample taken in this time: of the device's drift, and of noise with its outliers."""
    device = DisturbedDevice(disturbance, root(seed))
    drift = np.median([device.drift(t) for t in np.linspace(begin, end, 31)])
    return float(drift * NOISE.setdefault(disturbance, float(np.median(device.noise(root(7), 100_001)))))


NOISE: dict[Disturbance, float] = {}


def disturbances(noise: float) -> Iterator[tuple[str, Disturbance]]:
    for trend in (0.0, 0.05):
        yield f"clock falls by {trend:.0%}", Disturbance(
            jitter=noise, outliers=0.05, outlier_size=2 * noise, walk=0.003, trend=trend,
            trend_s=EVALUATIONS * (CONFIG_S + 0.01), carry_over=0.001,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--searches", type=int, default=400)
    parser.add_argument("--comparisons", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strategy", default=DEFAULT_STRATEGY)
    given = parser.parse_args()
    print(f"{given.comparisons} comparisons: called different")
    for rounds in (2, 3, 5, 7, 9, 21, 31):
        equal, apart = (
            sum(different(slower, rounds, given.seed + i) for i in range(given.comparisons)) for slower in (0.0, 0.01)
        )
        print(f"  {rounds:2d} rounds: equal ones {equal / given.comparisons:6.1%}, 1 % apart ", end="")
        print(f"{apart / given.comparisons:6.1%}")
    print(f"{given.searches} searches each: interval of the speed-up and of the time covers the truth,", end=" ")
    print("picks slower than the default, irrelevant parameters reset, pick slower than the best measured")
    for noise in (0.01, 0.1, 0.5):
        for name, disturbance in disturbances(noise):
            runs = [Judged(disturbance, given.seed + i, given.strategy) for i in range(given.searches)]
            print(
                f"  noise {noise:4.0%}, {name}: {share(runs, 'covers_speedup'):6.1%} {share(runs, 'covers_time'):6.1%} "
                f"{sum(run.slower for run in runs):3d} {share(runs, 'reset'):6.1%} "
                f"{np.mean([run.loss for run in runs]):7.2%}, extra evaluations {np.mean([r.extra for r in runs]):.1f}"
            )


def share(runs: list[Judged], name: str) -> float:
    return float(np.mean([getattr(run, name) for run in runs]))


if __name__ == "__main__":
    main()
