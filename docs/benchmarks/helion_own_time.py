"""What lfbo_tree_search itself costs an evaluation, against Helion's LFBOTreeSearch on the same recordings.

    python docs/benchmarks/helion_own_time.py RECORDING...        (pip install 'autotune-kernels[helion]')

Both take turns in one process on one thread, each with its own defaults. Processor time; looking up the recording is in
it on both sides and is next to nothing. Fitting forests, scikit-learn on both sides, is shown apart.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import helion.autotuner.surrogate_pattern_search as theirs
import numpy as np

import autotune.core.strategies.lfbo as ours
from autotune.studies.peers import Peer, find_peer
from autotune.studies.recordings import load_recording
from autotune.studies.simulation import Simulation, Trace, simulate

EVALUATIONS, SEEDS = 800, 3


class Stopwatch:
    """Adds up the processor time of the functions it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def on(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - began

        return timed


@contextmanager
def fits(watch: Stopwatch) -> Iterator[None]:
    """Every fit of a forest, theirs and ours, on the stopwatch."""
    forest = theirs.RandomForestClassifier
    with (
        patch.object(forest, "fit", watch.on(forest.fit)),
        patch.object(ours, "fit_classifier", watch.on(ours.fit_classifier)),
    ):
        yield


def measured(run: Callable[[int], Trace]) -> tuple[float, float, int]:
    """Seconds in all, seconds of fitting, and evaluations of SEEDS runs."""
    total, fitting, evaluations = 0.0, 0.0, 0
    for seed in range(SEEDS):
        watch = Stopwatch()
        with fits(watch):
            trace = run(seed)
        total, fitting, evaluations = total + trace.cpu_s, fitting + watch.seconds, evaluations + len(trace.keys)
    return total, fitting, evaluations


def own(simulation: Simulation, seed: int) -> Trace:
    return simulate(simulation, "lfbo_tree_search", evaluations=EVALUATIONS, seed=seed).trace


def helions(peer: Peer, simulation: Simulation, seed: int) -> Trace:
    return peer.run(simulation, EVALUATIONS, seed, None)


def main() -> None:
    peer = find_peer("helion:LFBOTreeSearch", {})
    print(f"{peer.version}; numpy {np.__version__}; {SEEDS} seeds; ms per evaluation, and how many times ours it is")
    print(f"{'recording':28s} {'':8s} {'evaluations':>11s} {'in all':>8s} {'fitting':>8s} {'the rest':>8s}")
    for path in sys.argv[1:]:
        simulation = Simulation.of(load_recording(path))
        figures = {"ours": measured(partial(own, simulation)), "Helion": measured(partial(helions, peer, simulation))}
        per = {
            side: tuple(1000 * part / n for part in (total, fitting, total - fitting))
            for side, (total, fitting, n) in figures.items()
        }
        for side, (whole, fitting, rest) in per.items():
            name, evaluations = simulation.recording.name, figures[side][2]
            print(f"{name:28s} {side:8s} {evaluations:11d} {whole:8.2f} {fitting:8.2f} {rest:8.2f}")
        ratios = [b / a for a, b in zip(per["ours"], per["Helion"], strict=True)]
        print(f"{'':28s} {'ratio':8s} {'':11s} " + " ".join(f"{ratio:8.1f}" for ratio in ratios))


if __name__ == "__main__":
    main()
