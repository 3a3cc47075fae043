"""Every strategy on big synthetic kernels: what it costs per evaluation, and the longest it keeps one waiting.

    python docs/benchmarks/big_kernels.py [--evaluations N] [--seed S] [--kernel NAME]... [--strategy NAME]...

The kernels are those of `kernel_space`: 26 to 62 fields, 1e15 points and more, and the constraints between the fields.
The times are made up, by a formula that is the same in every process: a bowl of a few important axes and many that
matter little, interactions, cliffs, a ripple, and regions where a config does not build. A stall is the longest that
the search kept its caller waiting at one time: for what to do next, or to take in one outcome.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune import STRATEGIES, Budget, Choice, Config, Failed, Integer, Outcome, SimulatedEvaluator, Space, Timed
from autotune.core.kernels.outline import Tile
from autotune.core.kernels.space import kernel_space
from autotune.core.keys import Key, fold, integers, root, uniform
from autotune.core.search.state import start
from autotune.shell.driver import Driver, Interruption
from autotune.shell.plans import make_plan
from autotune.studies.simulation import WITHOUT_FINISH

BATCH = 5
SCALE_SAMPLE = 512
FAILING = 0.12


def gemm() -> Space:
    """A persistent matrix product on Hopper."""
    return kernel_space(
        [(Tile(4096, 16), Tile(4096, 16)), Tile(1024, 16)],
        loads=[(0, 2), (2, 1)], stores=[(0, 1)], persistent=True, device="sm_90",
    )  # fmt: skip


def attention() -> Space:
    """Attention with a persistent grid over heads and queries and a loop over keys, on Blackwell."""
    return kernel_space(
        [(64, Tile(4096, 16)), Tile(4096, 16)],
        loads=[(0, 1), (0, 2), (0, 2)], stores=[(0, 1), (0, 1)], persistent=True, device="sm_100",
    )  # fmt: skip


def norm() -> Space:
    """Two reductions of long rows in one kernel, five loads and three stores, on Ampere."""
    return kernel_space(
        [8192], reductions=[16384, 16384], loads=[(0, 1), (0, 1), (1,), (0, 2), (2,)], stores=[(0, 1), (0, 2), (0,)],
        element_bytes=4,
    )  # fmt: skip


def fused() -> Space:
    """Three nests, a reduction, ten loads, and parameters of the kernel's own: 1e33 points."""
    return kernel_space(
        [(128, 2048, 512), (1024, Tile(256, 16)), Tile(4096, 16)], reductions=[2048],
        loads=[(0, 1), (0, 2), (0, 3), (3, 4), (1, 5), (2, 5), (0, 1, 6), (4, 5), (1, 2), (0,)],
        stores=[(0, 1), (1, 2), (0, 2)], persistent=True, device="sm_90",
        user={"split_k": Integer(1, 16), "epilogue": Choice((None, "fused", "apart"))},
        constraints=["split_k == 1 or epilogue is not None"],
    )  # fmt: skip


KERNELS: dict[str, Callable[[], Space]] = {"gemm": gemm, "attention": attention, "norm": norm, "fused": fused}


@dataclass(frozen=True)
class MadeUp:
    """A time for every config of a space: a table for `SimulatedEvaluator`. Equal spaces and seeds give equal times."""

    space: Space
    seed: int = 0

    @cached_property
    def _key(self) -> Key:
        return fold(root(self.seed), self.space.fingerprint)

    @cached_property
    def _range(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where the features lie, and how wide."""
        seen = self.space.features(self.space.sample(fold(self._key, "scale"), SCALE_SAMPLE))
        low = seen.min(axis=0)
        return low, np.maximum(seen.max(axis=0) - low, 1.0)

    @cached_property
    def _shape(self) -> dict[str, NDArray[np.float64]]:
        """Optimum, weights, interactions and cliffs. Few axes matter: the weights fall off as 1/rank²."""
        n, roles = len(self.space.feature_names), self._with_roles
        rank = np.argsort(np.argsort(uniform(fold(self._key, "rank"), n, 1)[:, 0] - 2 * roles))
        return {
            "optimum": 0.15 + 0.7 * uniform(fold(self._key, "optimum"), n, 1)[:, 0],
            "weight": 9.0 / (1 + rank) ** 1.2,
            "pairs": integers(fold(self._key, "pairs"), n, 2 * n).reshape(n, 2).astype(np.float64),
            "strength": 4 * uniform(fold(self._key, "strength"), n, 1)[:, 0] - 2,
            "wall": uniform(fold(self._key, "wall"), n, 1)[:, 0] - 0.5,
        }

    @cached_property
    def _with_roles(self) -> NDArray[np.float64]:
        return np.array([p.role is not None for p in self.space.parameters.values() for _ in range(p.features)], float)

    def times(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Milliseconds [n]; infinite where the config does not build."""
        low, wide = self._range
        shape = self._shape
        x = (self.space.features(rows) - low) / wide
        away = x - shape["optimum"]
        left, right = shape["pairs"].astype(np.int64).T
        bowl = (away**2 * shape["weight"]).sum(axis=1)
        joint = (away[:, left] * away[:, right] * shape["strength"] / (1 + np.arange(len(left)))).sum(axis=1)
        cliff = 0.25 * (np.floor(4 * x[:, :6]).sum(axis=1) % 3)
        ripple = 0.05 * np.sin(37 * x @ shape["wall"])
        times: NDArray[np.float64] = np.exp(bowl + np.maximum(joint, -0.5) + cliff + ripple)
        times[self._wall(x) > self._limit] = np.inf
        return times

    def _wall(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        steep: NDArray[np.float64] = x @ (self._shape["wall"] + self._with_roles)
        return steep

    @cached_property
    def _limit(self) -> float:
        low, wide = self._range
        seen = (self.space.features(self.space.sample(fold(self._key, "limit"), SCALE_SAMPLE)) - low) / wide
        return float(np.quantile(self._wall(seen), 1 - FAILING))

    def outcome(self, config: Config) -> Outcome:
        """The outcome without noise."""
        time_ms = float(self.times(self.space.encode([config]))[0])
        compile_s = 0.5 + 4 * (int(config.digest[:4], 16) / 0xFFFF)
        if time_ms == np.inf:
            return Failed("compile_error", "the made-up compiler runs out of registers", compile_s)
        return Timed((time_ms,), compile_s, 0.2)

    def samples(self, config: Config) -> NDArray[np.float64]:
        return np.empty(0)


class Waits:
    """A clock that the driver reads before and after each step; keeps the longest step, by the wall clock."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._began: float | None = None

    def __call__(self) -> float:
        if self._began is None:
            self._began = time.perf_counter()
        else:
            self.longest = max(self.longest, time.perf_counter() - self._began)
            self._began = None
        return time.process_time()


@dataclass(frozen=True)
class Figures:
    """own_ms: processor time of strategy and machine per evaluation. starting_s, longest_s: to begin, and one wait."""

    evaluations: int
    failed: int
    own_ms: float
    starting_s: float
    longest_s: float
    best_ms: float


def run(space: Space, strategy: str, evaluations: int, seed: int, batch: int = BATCH) -> Figures:
    """One search on the made-up times; a strategy that ends by itself begins again."""
    table = MadeUp(space)
    table.outcome(space.decode(space.sample(root(0), 1))[0])
    settings: dict[str, Any] = {**WITHOUT_FINISH, "restarts": 1000}
    if strategy == "finite_search":
        settings["configs"] = [dict(config) for config in space.decode(space.sample_distinct(root(1), evaluations))]
    began = time.perf_counter()
    plan = make_plan(space, strategy, exact=True, seed=seed, budget=Budget(evaluations=evaluations), settings=settings)
    search = start(plan)
    starting = time.perf_counter() - began
    waits = Waits()
    with SimulatedEvaluator(table, batch=batch).open(space) as session:
        driver = Driver(search, session, meter=waits)
        done = driver.run(Interruption())
    times = [outcome.time_ms for _, outcome in done.outcomes if isinstance(outcome, Timed)]
    failed = done.observed - len(times)
    return Figures(done.observed, failed, 1e3 * driver.own_s / done.observed, starting, waits.longest, min(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kernel", action="append", choices=list(KERNELS))
    parser.add_argument("--strategy", action="append", choices=list(STRATEGIES))
    given = parser.parse_args()
    began = time.perf_counter()
    run(KERNELS["norm"](), "lfbo_tree_search", 150, seed=0)
    print(f"a first small search, which imports what fits forests: {time.perf_counter() - began:.1f} s")
    print(f"{given.evaluations} evaluations in batches of {BATCH}, seed {given.seed}; own time per evaluation, waits")
    for kernel in given.kernel or KERNELS:
        space = introduced(kernel)
        print(f"  {'strategy':24s} evaluations  failed   own ms  start s longest s best ms")
        for strategy in given.strategy or STRATEGIES:
            f = run(space, strategy, given.evaluations, given.seed)
            print(
                f"  {strategy:24s} {f.evaluations:11d} {f.failed:7d} {f.own_ms:8.2f} {f.starting_s:8.3f} "
                f"{f.longest_s:9.3f} {f.best_ms:7.3f}",
                flush=True,
            )


def introduced(kernel: str) -> Space:
    """The space of a kernel, with a line on it."""
    began = time.perf_counter()
    space = KERNELS[kernel]()
    built = time.perf_counter()
    space.sample(root(0), 1000)
    drawn = time.perf_counter()
    size, rules = float(space.size), len(space.constraints)
    print(
        f"{kernel}: {len(space.names)} fields, {size:.1e} points, {rules} constraints; "
        f"built in {built - began:.2f} s, first 1,000 points in {drawn - built:.2f} s"
    )
    return space


if __name__ == "__main__":
    main()
