"""How often a list of configs that is cut short by `Budget(regret=…)` loses its best config, on recorded kernels.

    python docs/benchmarks/list_stopping.py [RECORDING …] [--lists 200] [--regret 0.01] [--confidence 0.95]

From each recording it draws lists as libraries write them: a few values of two to four parameters, the rest fixed. The
configs of a list arrive in the order of a random compile time that grows with the time of the kernel, 16 at once. It
prints for each recording how many lists stop early, how many configs they leave out, how many lose a config that is
more than the regret faster, and the geometric mean of pick over best.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np

from autotune import Budget, Choice, Config, Plan, Settings, Space, Timed, advance, request, start
from autotune.core.search.messages import Asked, Conclude, Measure, Observed
from autotune.core.strategies.random_search import FiniteSearch
from autotune.studies.recordings.load import builtin_recordings, load_recording
from autotune.studies.recordings.recording import TIMED, Recording

AT_ONCE = 16


def draw_list(recording: Recording, rng: np.random.Generator) -> dict[Config, float]:
    """Configs with their milliseconds: a small product around a random point, without points that failed."""
    known = {tuple(row): i for i, row in enumerate(recording.codes.tolist())}
    base = recording.codes[rng.integers(len(recording.codes))]
    sizes = [len(values) for values in recording.values]
    axes = rng.permutation([i for i, size in enumerate(sizes) if size > 1])[: rng.integers(2, 5)]
    kept = [[int(code)] for code in base]
    for axis in axes:
        kept[axis] = sorted(rng.choice(sizes[axis], min(sizes[axis], int(rng.integers(2, 5))), replace=False).tolist())
    found = {}
    for codes in product(*kept):
        row = known.get(codes)
        if row is not None and recording.kinds[row] == TIMED:
            names = zip(recording.parameters, codes, strict=True)
            config = {name: recording.values[i][code] for i, (name, code) in enumerate(names) if i in axes}
            found[Config(config)] = float(recording.time_ms[row])
    return found


def stop(times: dict[Config, float], budget: Budget, rng: np.random.Generator) -> tuple[bool, int, float]:
    """Whether the search of a list stops early, how many configs it leaves out, and its pick over the best."""
    configs = list(times)
    values = {name: tuple(dict.fromkeys(config[name] for config in configs)) for name in configs[0]}
    space = Space({name: Choice(those) for name, those in values.items()}, default=configs[0])
    strategy = FiniteSearch(tuple(map(dict, configs)))
    search = start(
        Plan(space, strategy, budget, settings=Settings(verify_rounds=0, simplify_rounds=0, rebenchmark_threshold=0.0))
    )
    fastest = min(times.values())
    ends: dict[int, float] = {}
    clock = 0.0
    while True:
        todo = request(search, AT_ONCE - len(ends))
        if isinstance(todo, Conclude):
            break
        if isinstance(todo, Measure):
            search = advance(search, Asked(clock, 0, todo))
            slow = [times[trial.config] / fastest for trial in todo.trials]
            ends |= {t.id: clock + rng.lognormal(0, 0.3) * s**0.5 for t, s in zip(todo.trials, slow, strict=True)}
            continue
        trial = min(ends, key=ends.__getitem__)
        clock = max(clock, ends.pop(trial))
        noise = np.exp(rng.normal(0, 0.003, 7))
        samples = tuple((times[search.trials[trial].config] * noise).tolist())
        search = advance(search, Observed(clock, trial, Timed(samples)))
    measured = [search.trials[i].config for i in search.archive.trials.tolist()]
    pick = min(times[config] for config in measured)
    return todo.reason == "regret", len(times) - len(measured), pick / fastest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--lists", type=int, default=200)
    parser.add_argument("--regret", type=float, default=0.01)
    parser.add_argument("--confidence", type=float, default=0.95)
    args = parser.parse_args()
    budget = Budget(regret=args.regret, confidence=args.confidence)
    whole: list[tuple[bool, int, int, float]] = []
    print("recording                        lists  early  left out  lost  pick/best  worst")
    for path in args.recordings or builtin_recordings().values():
        recording, rng, rows = load_recording(path), np.random.default_rng(0), []
        while len(rows) < args.lists:
            times = draw_list(recording, rng)
            if 4 <= len(times) <= 64:
                rows.append((len(times), *stop(times, budget, rng)))
        whole += [(early, left, n, ratio) for n, early, left, ratio in rows]
        print_row(recording.name, [(early, left, n, ratio) for n, early, left, ratio in rows], args.regret)
    print_row("all", whole, args.regret)


def print_row(name: str, rows: list[tuple[bool, int, int, float]], regret: float) -> None:
    early, left, n, ratio = map(np.array, zip(*rows, strict=True))
    lost = (ratio > 1 / (1 - regret) + 1e-9).mean()
    geometric = np.exp(np.log(ratio).mean())
    print(
        f"{name[:32]:32} {len(rows):5}  {early.mean():5.0%}  {left.sum() / n.sum():8.1%}  {lost:4.1%}"
        f"  {geometric:9.4f}  {ratio.max():5.3f}"
    )


if __name__ == "__main__":
    main()
