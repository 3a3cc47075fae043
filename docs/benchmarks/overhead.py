"""What the library itself costs: per config in a simulation, per generation of neighbours, per journalled run.

    python docs/benchmarks/overhead.py [RECORDING]

Without a recording the simulation runs on a synthetic GEMM-like space of the same size as the recorded ones.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from autotune import Budget, Choice, Config, Integer, Outcome, PowerOfTwo, SimulatedEvaluator, Space, Timed, tune
from autotune.core.keys import root
from autotune.core.outcomes import Detail, Trial
from autotune.core.search.messages import Compare, Compared, Event, Limits, Observed
from autotune.core.search.state import start
from autotune.core.strategies.moves import neighbourhood
from autotune.shell.driver import Driver, Interruption
from autotune.shell.evaluators.protocol import WallClock
from autotune.shell.plans import make_plan
from autotune.studies.recordings import load_recording
from autotune.studies.simulation import WITHOUT_FINISH, Simulation

STRATEGIES = ("random_search", "pattern_search", "differential_evolution")
EVALUATIONS, SEEDS = 800, 5
EVALUATION_S = 0.02


def gemm_space() -> Space:
    return Space(
        {
            "MWG": PowerOfTwo(16, 128, role="block_size"),
            "NWG": PowerOfTwo(16, 128, role="block_size"),
            "KWG": PowerOfTwo(16, 32, role="block_size"),
            "MDIMC": PowerOfTwo(8, 32),
            "NDIMC": PowerOfTwo(8, 32),
            "VWM": PowerOfTwo(1, 8),
            "VWN": PowerOfTwo(1, 8),
            "SA": Integer(0, 1),
            "SB": Integer(0, 1),
            "order": Choice(("rows", "columns", None)),
        },
        ["MWG % (MDIMC * VWM) == 0", "NWG % (NDIMC * VWN) == 0", "MDIMC * NDIMC <= 1024"],
    )


class Synthetic:
    """A smooth made-up time for every config."""

    def outcome(self, config: Config) -> Outcome:
        time_ms = 1.0 + sum(abs(hash_free(value) - 3.0) for value in config.values())
        return Timed((time_ms,), compile_s=0.5, run_s=0.1)

    def samples(self, config: Config) -> NDArray[np.float64]:
        return np.empty(0)


def hash_free(value: object) -> float:
    return float(np.log2(value)) if isinstance(value, int) and value > 0 else float(len(str(value)))


def per_config(space: Space, table: object) -> None:
    print(f"strategy and machine, ms per evaluated config ({EVALUATIONS} evaluations, {SEEDS} seeds, one at a time):")
    for strategy in STRATEGIES:
        own, count = 0.0, 0
        for seed in range(SEEDS):
            evaluator = SimulatedEvaluator(table)  # type: ignore[arg-type]
            plan = make_plan(
                space, strategy, exact=True, seed=seed, budget=Budget(evaluations=EVALUATIONS), settings=WITHOUT_FINISH
            )
            began = time.process_time()
            search = start(plan)
            own += time.process_time() - began
            with evaluator.open(space) as session:
                driver = Driver(search, session, meter=time.process_time)
                count += driver.run(Interruption()).observed
                own += driver.own_s
        print(f"  {strategy:24} {own / count * 1e3:.3f}")


def neighbours() -> None:
    """A generation of pattern search: about 1,000 neighbours made, checked against the constraints and the history."""
    names = [f"B{i}" for i in range(24)]
    space = Space(
        {name: PowerOfTwo(16, 1024, role="block_size") for name in names},
        [f"{a} * {b} <= 262144" for a, b in pairwise(names)],
    )
    row = space.sample(root(0), 1)[0]
    took = []
    for _ in range(20):
        began = time.perf_counter()
        points = neighbourhood(space, row, root(0))
        valid = space.valid(points)
        took.append(time.perf_counter() - began)
    print(f"neighbours of one point: {len(points)} made, {valid.sum()} valid, {median(took) * 1e3:.1f} ms")


class Evaluation:
    """An evaluator whose every evaluation takes 20 ms, and that knows how long it took in all.

    spins: it keeps its core busy, as a kernel on the CPU or a wait for the GPU does; else it sleeps, after which the
    same code runs several times slower, on a core that has gone cold.
    """

    exact, recovers, idle = False, False, False

    def __init__(self, spins: bool) -> None:
        self.spins = spins
        self.spent = 0.0
        self.room = 1
        self._clock = WallClock()
        self._queue: list[Trial] = []

    def describe(self) -> dict[str, Detail]:
        return {"kind": "made up"}

    def open(self, space: Space, past: Sequence[Event] = ()) -> "Evaluation":
        return self

    def __enter__(self) -> "Evaluation":
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def now(self) -> float:
        return self._clock()

    def abandon(self) -> None:
        self._queue.clear()

    def submit(self, trials: Sequence[Trial], limits: Limits) -> None:
        self._queue.extend(trials)
        self.room = 0

    def compare(self, task: Compare) -> None:
        raise AssertionError("not asked for here")

    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        began = time.perf_counter()
        trial = self._queue.pop(0)
        if self.spins:
            while time.perf_counter() - began < EVALUATION_S:
                pass
        else:
            time.sleep(EVALUATION_S)
        self.room = 0 if self._queue else 1
        self.spent += time.perf_counter() - began
        times = tuple(1.0 + (trial.id * 7919 % 101) / 1e4 + i / 1e3 for i in range(5))
        return (Observed(self.now(), trial.id, Timed(times)),)


def journalled() -> None:
    """What machine, driver and journal add to evaluations of 20 ms; a first small run has imported everything."""
    tune(gemm_space(), SimulatedEvaluator(Synthetic()), "random_search", budget=Budget(evaluations=2))
    for strategy, spins in product(STRATEGIES, (True, False)):
        with tempfile.TemporaryDirectory() as folder:
            sleeper = Evaluation(spins)
            began = time.perf_counter()
            found = tune(
                gemm_space(), sleeper, strategy, budget=Budget(evaluations=300),  # type: ignore[arg-type]
                journal=Path(folder) / "run.jsonl", settings={**WITHOUT_FINISH, "rebenchmark_threshold": 0.9},
            )  # fmt: skip
            took = time.perf_counter() - began
        share = took / sleeper.spent - 1
        kind = "spinning" if spins else "sleeping"
        print(f"journalled run of {found.evaluations} evaluations of 20 ms, {kind}, {strategy:24}: {share:+.2%}")


def main() -> None:
    if len(sys.argv) > 1:
        simulation = Simulation.of(load_recording(sys.argv[1]))
        per_config(simulation.space, simulation.table)
    else:
        per_config(gemm_space(), Synthetic())
    neighbours()
    journalled()


if __name__ == "__main__":
    main()
