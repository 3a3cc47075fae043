"""Whether certificates are right: simulated searches whose truth is known, with every disturbance of a real device.

    python docs/benchmarks/certificates.py [--searches 1000] [--first 0] [--reruns 200] [--strategies NAME …]
        [--save FILE] [--load FILE …]

Nothing is run. Each search is of a made-up kernel in whose space many configs lie within 0.5 % of the fastest; the seed
draws its times. In turn, the noise of a sample is 0.2, 0.5, 1, 2 or 5 %, its tails are normal or heavy (Student's t
with 3 degrees of freedom), 5 % of the samples are outliers of ten times the noise, the speed of the device walks at
random or falls by 5 %, what runs second takes longer, what ran before matters, and each measurement in the search is
off as a whole by half a sample's noise, so that the luckiest leads.

Printed is how often the claims were made, and how often they were wrong: that no measured config is more than eps
faster than the pick, that the pick is not slower than the default, and that the tie set (the pick and all that are not
beaten) holds the fastest of the measured. The same searches are verified by the procedure of earlier versions too, for
the number of samples that both take, and by how much the picks are slower than the fastest measured. Then one search is
repeated with other noise: two of its certificates contradict one another if each says of the same two configs that
another one is faster.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from autotune import Budget, Choice, Config, Disturbance, Integer, Outcome, PowerOfTwo, SimulatedEvaluator, Space, Timed
from autotune.core.certificate.verdicts import EPS
from autotune.core.keys import fold, root, uniform
from autotune.core.search.certify import certify
from autotune.core.search.result import result
from autotune.core.search.state import Search, start
from autotune.core.strategies.registry import DEFAULT_STRATEGY
from autotune.shell.driver import Driver, Interruption
from autotune.shell.plans import make_plan

SPACE = Space(
    {
        "block": PowerOfTwo(16, 256),
        "warps": PowerOfTwo(1, 16),
        "stages": Integer(1, 5),
        "order": Choice(["row", "column", "morton"]),
        "label": Integer(0, 7),
    },
    default={"block": 32, "warps": 4, "stages": 2, "order": "row", "label": 0},
)
EVALUATIONS, CONFIG_S = 80, 0.05
NOISES, STRATEGIES = (0.002, 0.005, 0.01, 0.02, 0.05), ("random_search", "pattern_search", DEFAULT_STRATEGY)


class Kernel:
    """Times of the space by a seed: how much each parameter matters, and half a percent between equal configs."""

    def __init__(self, seed: int) -> None:
        self._key = root(seed)
        self._weights = uniform(fold(self._key, "weights"), 5) * (0.06, 0.05, 0.03, 0.05, 0.002)

    def true_ms(self, config: Config) -> float:
        far = (abs(np.log2(config["block"]) - 7), abs(np.log2(config["warps"]) - 3), abs(config["stages"] - 4))
        order = {"row": 0.5, "column": 1.0, "morton": 0.0}[config["order"]]
        own = 0.005 * float(uniform(fold(self._key, config.digest), 1)[0])
        return float(1 + self._weights @ (*far, order, config["label"]) + own)

    def outcome(self, config: Config) -> Outcome:
        return Timed((self.true_ms(config),), CONFIG_S, 0.01)

    def samples(self, config: Config) -> NDArray[np.float64]:
        return np.empty(0)


def disturbance_of(number: int) -> Disturbance:
    """The disturbance of a search by its number."""
    noise, kind = NOISES[number % len(NOISES)], number // len(NOISES)
    return Disturbance(
        jitter=noise,
        tails=3.0 if kind % 2 else None,
        outliers=0.05,
        outlier_size=10 * noise if kind % 4 < 2 else 2 * noise,
        walk=0.003,
        trend=0.05 if kind % 3 == 0 else 0.0,
        trend_s=EVALUATIONS * (CONFIG_S + 0.01),
        carry_over=0.001,
        neighbour=0.0005,
        alone=noise / 2,
    )


def run_search(kernel: Kernel, disturbance: Disturbance, seed: int, strategy: str, eps: float | None) -> Search:
    evaluator = SimulatedEvaluator(kernel, disturbance=disturbance, seed=seed)
    plan = make_plan(
        SPACE, strategy, rebuild=False, budget=Budget(evaluations=EVALUATIONS), seed=seed, settings={"eps": eps}
    )
    with evaluator.open(SPACE) as session:
        return Driver(start(plan), session).run(Interruption())


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One search, held against the truth. loss: by how much its pick is slower than the fastest measured config.
    samples: of its final comparisons. The claims: None where the certificate does not make it, or whether it is true.
    """

    noise: float
    samples: int
    loss: float
    selection: bool | None = None
    never_worse: bool | None = None
    in_tie_set: bool | None = None
    statuses: tuple[int, int, int] = (0, 0, 0)


def judge(search: Search, kernel: Kernel, noise: float, certified: bool) -> Judged:
    found = result(search)
    true = {i: kernel.true_ms(search.trials[i].config) for i in dict(search.outcomes)}
    pick, fastest = true[found.best.trial], min(true, key=lambda i: true[i])
    compared = [event for event in (search.qualified, *search.simplifying, *search.verifying) if event is not None]
    samples = sum(len(o.times_ms) for event in compared for _, o in event.outcomes if isinstance(o, Timed))
    loss = pick / true[fastest] - 1
    if not certified:
        return Judged(noise=noise, samples=samples, loss=loss, never_worse=pick <= true[0])
    claims = certify(search)
    assert claims is not None
    words = [rival.status for rival in claims.selection.rivals]
    return Judged(
        noise=noise,
        samples=samples,
        loss=loss,
        selection=pick * (1 - EPS) <= true[fastest] if claims.selection.shown else None,
        never_worse=None if claims.never_worse is None else pick <= true[0],
        in_tie_set=fastest in (claims.trial, *claims.selection.unsettled)
        or any(rival.trial == fastest and rival.status != "beaten" for rival in claims.selection.rivals),
        statuses=(words.count("beaten"), words.count("tied"), words.count("open")),
    )


def judge_many(first: int, count: int, strategies: Sequence[str]) -> Iterator[tuple[Judged, Judged]]:
    for number in range(first, first + count):
        disturbance, kernel = disturbance_of(number), Kernel(number)
        strategy = strategies[number % len(strategies)]
        pair = [
            judge(run_search(kernel, disturbance, number, strategy, eps), kernel, disturbance.jitter, eps is not None)
            for eps in (EPS, None)
        ]
        yield pair[0], pair[1]


def report(pairs: Sequence[tuple[Judged, Judged]]) -> None:
    for noise in (None, *NOISES):
        chosen = [pair for pair in pairs if noise is None or pair[0].noise == noise]
        if not chosen:
            continue
        now, before = [pair[0] for pair in chosen], [pair[1] for pair in chosen]
        made = [one.selection for one in now if one.selection is not None]
        worse = [one.never_worse for one in now if one.never_worse is not None]
        name = "all noises" if noise is None else f"noise {noise:.1%}"
        words = " ".join(f"{x:.1f}" for x in np.mean([one.statuses for one in now], axis=0))
        print(f"{name:11s} {len(chosen):4d} searches: selection claimed {len(made) / len(now):4.0%}, ", end="")
        print(f"wrong {made.count(False):2d}")
        print(f"  never worse wrong {worse.count(False):2d}; tie set misses the fastest ", end="")
        print(f"{sum(one.in_tie_set is False for one in now):2d}; beaten, tied, open {words}")
        print(f"  {costs('now', now)}\n  {costs('before', before)}", flush=True)


def costs(name: str, runs: Sequence[Judged]) -> str:
    samples, losses = [one.samples for one in runs], [one.loss for one in runs]
    return (
        f"{name}: samples median {np.median(samples):.0f}, mean {np.mean(samples):.0f}, "
        f"pick slower than the fastest by {np.mean(losses):.2%}"
    )


def rerun(count: int) -> None:
    """The same search again and again: how often the pick changes, and whether two certificates contradict."""
    kernel, picks = Kernel(7), set[Config]()
    faster = set[tuple[Config, Config]]()
    for seed in range(count):
        search = run_search(kernel, disturbance_of(2), 10_000 + seed, "random_search", EPS)
        claims = certify(search)
        assert claims is not None
        picks.add(claims.config)
        faster |= {(claims.config, rival.config) for rival in claims.selection.rivals if rival.ratio.low > 1}
    both = sum((other, one) in faster for one, other in faster) // 2
    print(f"{count} reruns: {len(picks)} picks, {len(faster)} ordered pairs of configs, {both} contradictions")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--reruns", type=int, default=200)
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES)
    parser.add_argument("--save", type=Path, help="write what was judged to this file, for --load")
    parser.add_argument("--load", type=Path, nargs="+", help="report what such files hold, in the place of searches")
    given = parser.parse_args()
    if given.load:
        kind = tuple[Judged, Judged]
        pairs = [pair for path in given.load for pair in msgspec.json.decode(path.read_bytes(), type=list[kind])]
    else:
        pairs = list(judge_many(given.first, given.searches, given.strategies))
    if given.save:
        given.save.write_bytes(msgspec.json.encode(pairs))
    report(pairs)
    if given.reruns:
        rerun(given.reruns)


if __name__ == "__main__":
    main()
