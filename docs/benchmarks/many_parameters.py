"""Does a search look at enough shapes, where a kernel has many parameters that matter little?

    python docs/benchmarks/many_parameters.py [RECORDING...] [--strategy NAME] [--seeds 8] [--evaluations 400]

Each recording, by default the built-in ones, gets twelve parameters more, which a compiler might offer: three or five
values each, worth up to 0.5, 1, 2 or 4 % alone, so that no shape is judged by one config of it. Printed is optimum/best
after so many configs in batches of five, in the mean of the seeds, and the worst seed at the end.
"""

import argparse
from typing import Any

import numpy as np

from autotune import Budget, Choice, Integer, Space
from autotune.core.config import Config
from autotune.core.outcomes import Failed, Outcome, Timed
from autotune.core.search.messages import Asked, Finished, Measure, Observed, Wait
from autotune.core.search.request import request
from autotune.core.search.state import advance, start
from autotune.core.strategies.registry import DEFAULT_STRATEGY
from autotune.shell.plans import make_plan
from autotune.studies.recordings import load_recording
from autotune.studies.simulation import WITHOUT_FINISH, Simulation

BUILTIN = ("matmul", "attention", "splitk_matmul", "rms_norm")
MARKS = (25, 50, 100, 200, 400)
KINDS = (Choice((None, False, True)), Integer(0, 4), Choice(("", "first", "last")))
WORTH = (0.005, 0.01, 0.02, 0.04)
MORE, BATCH = 12, 5

Effects = dict[str, dict[Any, float]]


def effects() -> Effects:
    """What each value of the further parameters costs; the first value, a default, half of the most."""
    rng = np.random.default_rng(0)
    found: Effects = {}
    for i in range(MORE):
        kind, worth = KINDS[i % len(KINDS)], WORTH[i // len(KINDS) % len(WORTH)]
        values = kind.values if isinstance(kind, Choice) else tuple(range(kind.low, kind.high + 1))
        found[f"more_{i}"] = dict(zip(values, [worth / 2, *rng.uniform(0, worth, len(values) - 1)], strict=True))
    return found


def searched(simulation: Simulation, strategy: str, evaluations: int, seed: int) -> list[float]:
    """Optimum/best after each of MARKS configs."""
    recording, costs, base = simulation.recording, effects(), simulation.space
    more = {name: KINDS[i % len(KINDS)] for i, name in enumerate(costs)}
    space = Space({**base.parameters, **more}, base.constraints)
    plan = make_plan(
        space, strategy, exact=True, budget=Budget(evaluations=evaluations), seed=seed, settings=WITHOUT_FINISH
    )

    def outcome(config: Config) -> Outcome:
        row = simulation.table.row(Config({name: config[name] for name in base.parameters}))
        if row is None or not recording.timed[row]:
            return Failed("compile_error")
        factor = np.prod([1 + cost[config[name]] for name, cost in costs.items()])
        return Timed((float(recording.time_ms[row] * factor),))

    search, times = start(plan), []
    while not isinstance(todo := request(search, BATCH), Finished):
        assert not isinstance(todo, Wait)  # each batch is answered at once
        search = advance(search, Asked(0.0, BATCH, todo))
        for trial in todo.trials if isinstance(todo, Measure) else ():
            found = outcome(trial.config)
            times.append(found.times_ms[0] if isinstance(found, Timed) else np.inf)
            search = advance(search, Observed(0.0, trial.id, found))
    optimum = recording.optimum_ms * np.prod([1 + min(cost.values()) for cost in costs.values()])
    best = optimum / np.minimum.accumulate(times)
    return [float(best[min(mark, len(best)) - 1]) for mark in MARKS]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recordings", nargs="*", default=[f"builtin:{name}" for name in BUILTIN])
    parser.add_argument("--strategy", default=DEFAULT_STRATEGY)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--evaluations", type=int, default=400)
    options = parser.parse_args()
    print(f"{options.strategy}, {options.seeds} seeds: optimum/best by the number of configs")
    print(f"{'recording':<26}" + "".join(f"{mark:>8}" for mark in MARKS) + f"{'worst seed':>12}")
    means = []
    for path in options.recordings:
        simulation = Simulation.of(load_recording(path))
        found = [searched(simulation, options.strategy, options.evaluations, seed) for seed in range(options.seeds)]
        means.append(np.mean(found, axis=0))
        cells = "".join(f"{value:8.3f}" for value in means[-1])
        print(f"{simulation.recording.name:<26}{cells}{min(run[-1] for run in found):12.3f}", flush=True)
    print(f"{'mean':<26}" + "".join(f"{value:8.3f}" for value in np.mean(means, axis=0)))


if __name__ == "__main__":
    main()
