"""Every strategy on every recording of a folder: optimum / best found after 100, 200, 400 and 800 evaluations.

    python docs/benchmarks/recorded_spaces.py FOLDER [--seeds 20] > docs/benchmarks/recorded_spaces.md

Exact evaluator, one config at a time, mean over the seeds; 1.000 is the optimum. A strategy that ends by itself before
800 evaluations keeps its best. The last columns say how many evaluations it made and what it cost itself.
"""

import argparse
from pathlib import Path

import numpy as np

from autotune import FiniteSearch
from autotune.core.keys import fold, root
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import STRATEGIES
from autotune.studies.recordings import load_recording
from autotune.studies.simulation import SimulatedRun, Simulation, simulate

MARKS = (100, 200, 400, 800)


def strategy_for(name: str, simulation: Simulation, seed: int) -> str | AnyStrategy:
    """The strategy by name; a finite search gets as many random configs as there are evaluations."""
    if name != "finite_search":
        return name
    points = simulation.space.sample_distinct(fold(root(seed), "list"), MARKS[-1])
    return FiniteSearch(tuple(dict(config) for config in simulation.space.decode(points)))


def figures(simulation: Simulation, run: SimulatedRun) -> list[float]:
    archive = run.search.archive
    times = np.where(archive.ok, archive.time_ms, np.inf)
    best = np.minimum.accumulate(times)
    optimum = simulation.recording.optimum_ms
    reached = [optimum / best[min(mark, len(best)) - 1] for mark in MARKS]
    return [*reached, len(best), run.trace.cpu_s / len(best) * 1e3]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    print(f"# Strategies on recorded spaces ({options.seeds} seeds, optimum / best found)\n")
    print("| recording | strategy | " + " | ".join(f"at {mark}" for mark in MARKS) + " | evaluations | own ms each |")
    print("|---|---|" + "---:|" * (len(MARKS) + 2))
    means: dict[str, list[list[float]]] = {name: [] for name in STRATEGIES}
    for path in sorted(options.folder.glob("*.json*")):
        simulation = Simulation.of(load_recording(path))
        for name in STRATEGIES:
            runs = [
                simulate(simulation, strategy_for(name, simulation, seed), evaluations=MARKS[-1], seed=seed)
                for seed in range(options.seeds)
            ]
            mean = np.mean([figures(simulation, run) for run in runs], axis=0).tolist()
            means[name].append(mean)
            print(f"| {simulation.recording.name} | {name} | {shown(mean)} |", flush=True)
    for name, rows in means.items():
        print(f"| **mean** | {name} | {shown(np.mean(rows, axis=0).tolist())} |")


def shown(mean: list[float]) -> str:
    *reached, evaluations, own_ms = mean
    return " | ".join([*(f"{value:.3f}" for value in reached), f"{evaluations:.0f}", f"{own_ms:.2f}"])


if __name__ == "__main__":
    main()
