"""How good the pick is where many configs are nearly equal and every time is off by a little, as on a real GPU.

    python docs/benchmarks/last_choice.py [RECORDING [SEEDS]]

Nothing is run. Times are those of a built-in recording, their distances to the best divided by five, so that some forty
configs are within 0.5 %. 400 of the 600 fastest configs are measured one after another, each measurement as a whole off
by 0.8 % (clock, temperature) and each sample of a comparison by 0.26 %, as on an H100; then the search comes to its
end. Printed is by how much the pick is slower than the fastest config that was measured: with the comparison of the
contenders before the finalists', and without.
"""

import sys
from collections import deque

import numpy as np

from autotune import Asked, Budget, Compared, Finished, FiniteSearch, Observed, Plan, Settings, Timed, advance, start
from autotune import request as requested
from autotune import result as found_by
from autotune.core.outcomes import Trial
from autotune.core.search.messages import Compare, Conclude, Measure, Ticked
from autotune.core.search.rounds import EXTRA_TIMES, is_decided
from autotune.core.search.state import Search
from autotune.studies.recordings import load_recording
from autotune.studies.simulation import recorded_space

DRIFT, JITTER = 0.008, 0.0026
FLATTER = 5
FASTEST, MEASURED, SAMPLES = 600, 400, 25
CONFIG_S, SAMPLE_S, READY_S = 0.05, 0.004, 0.03
"""Seconds: a config in the search, a sample in a comparison, a config before its first sample there."""


class Bench:
    """Measures with noise, by a clock of its own."""

    def __init__(self, name: str, seed: int) -> None:
        recording = load_recording(f"builtin:{name}")
        fastest = recording.time_ms.argsort()[:FASTEST].tolist()
        best = recording.optimum_ms
        self.space = recorded_space(recording)
        self.true = {recording.config(i): best + (float(recording.time_ms[i]) - best) / FLATTER for i in fastest}
        self.other_ms = 2 * best
        self.draws = np.random.default_rng(seed)
        chosen = self.draws.permutation(FASTEST)[:MEASURED].tolist()
        self.configs = tuple(dict(recording.config(fastest[i])) for i in chosen)
        self.clock = 0.0

    def of(self, trial: Trial) -> float:
        return self.true.get(trial.config, self.other_ms)

    def alone(self, trial: Trial) -> Timed:
        """As the search measures it."""
        self.clock += CONFIG_S
        off = (1 + DRIFT * self.draws.normal()) * (1 + JITTER * self.draws.normal(size=SAMPLES))
        return Timed(tuple((self.of(trial) * off).tolist()), run_s=CONFIG_S)

    def together(self, task: Compare) -> Compared:
        """Interleaved, until it is is_decided which is the fastest, as the Triton evaluator does."""
        most, count = EXTRA_TIMES * task.rounds, len(task.trials)
        drift = 1 + DRIFT * self.draws.normal(size=most)
        off = drift * (1 + JITTER * self.draws.normal(size=(count, most)))
        times = np.array([[self.of(trial)] for trial in task.trials]) * off
        began, rounds = self.clock + READY_S * count, task.rounds
        while rounds < most and not is_decided(times[:, :rounds].tolist()):
            if task.until is not None and began + (rounds + 1) * count * SAMPLE_S > task.until:
                break
            rounds += 1
        self.clock = began + rounds * count * SAMPLE_S
        outcomes = [(t.id, Timed(tuple(row[:rounds].tolist()))) for t, row in zip(task.trials, times, strict=True)]
        return Compared(self.clock, tuple(outcomes))


def ended(name: str, seed: int, contenders: int) -> float:
    """By how much the pick is slower than the fastest that was measured."""
    bench = Bench(name, seed)
    settings = Settings(simplify_rounds=3, rebuild=False, contenders=contenders)
    search: Search = start(
        Plan(bench.space, FiniteSearch(bench.configs), Budget(seconds=60.0), seed, settings=settings)
    )
    waiting: deque[Trial] = deque()
    while not isinstance(todo := requested(search, 4), Finished):
        if isinstance(todo, Measure | Compare | Conclude):
            search = advance(search, Asked(bench.clock, 4, todo))
        if isinstance(todo, Measure):
            waiting.extend(todo.trials)
        elif isinstance(todo, Conclude):
            waiting.clear()
        elif isinstance(todo, Compare):
            search = advance(search, bench.together(todo))
        elif waiting:
            trial = waiting.popleft()
            search = advance(search, Observed(bench.clock, trial.id, bench.alone(trial)))
            if search.observed == MEASURED:  # the strategy would go on until the time is over
                bench.clock = max(bench.clock, 57.1)
                search = advance(search, Ticked(bench.clock))
        else:
            raise SystemExit(f"it waits for nothing: {todo}")
    best = min(bench.of(search.trials[i]) for i in dict(search.outcomes))
    return bench.true[found_by(search).best.config] / best - 1


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "splitk_matmul"
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    print(f"{name}, {seeds} searches: pick slower than the fastest measured by")
    for contenders in (1, Settings().contenders):
        losses = 100 * np.array([ended(name, seed, contenders) for seed in range(seeds)])
        what = f"{contenders} contenders" if contenders > 1 else "finalists by rank"
        print(f"  {what:18s} mean {losses.mean():.3f} %, 9 of 10 below {np.quantile(losses, 0.9):.3f} %, ", end="")
        print(f"most {losses.max():.3f} %")


if __name__ == "__main__":
    main()
