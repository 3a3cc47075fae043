"""Draws docs/figures/search.svg: a search of the recorded matrix product. `python docs/figures/search.py`"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from autotune.studies import Recording, Simulation, load_recording, simulate

EVALUATIONS = 100
SEEDS = 20
STYLE = {"svg.hashsalt": "autotune", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}


def times_of(recording: Recording, keys: list[str]) -> np.ndarray:
    """Milliseconds of the configs in the order of a search; infinite where a config failed."""
    row_of = {key: row for row, key in enumerate(recording.keys)}
    rows = [row_of[key] for key in keys]
    return np.where(recording.timed[rows], recording.time_ms[rows], np.inf)


def search(simulation: Simulation, strategy: str, seed: int) -> np.ndarray:
    run = simulate(simulation, strategy, evaluations=EVALUATIONS, seed=seed)
    return times_of(simulation.recording, list(run.trace.keys))


def main() -> None:
    simulation = Simulation.of(load_recording("builtin:matmul"))
    ours = search(simulation, "gaussian_process", 0)
    chance = np.median([np.minimum.accumulate(search(simulation, "random_search", s)) for s in range(SEEDS)], axis=0)
    number = np.arange(1, EVALUATIONS + 1)
    timed = np.isfinite(ours)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 3.0), layout="constrained")
        axes.scatter(number[timed], ours[timed], s=9, color="#9db4c8", label="a config")
        failed = number[~timed]
        axes.scatter(failed, np.full(len(failed), 3.2), s=12, marker="x", color="#c0504d", label="a config that fails")
        axes.step(number, chance, where="post", color="#999999", label="best so far by random search (median)")
        axes.step(number, np.minimum.accumulate(ours), where="post", color="#1f4e79", lw=2, label="best so far")
        optimum = simulation.recording.optimum_ms
        for ms, text, side in ((ours[0], "the default config", "bottom"), (optimum, "fastest of all 7,680", "top")):
            axes.axhline(ms, color="#777777", lw=0.8, ls=":")
            axes.text(
                EVALUATIONS,
                ms * (0.97 if side == "top" else 1),
                text,
                ha="right",
                va=side,
                color="#555555",
                bbox=BEHIND,
            )
        axes.set(yscale="log", ylim=(0.13, 3.8), xlim=(0, EVALUATIONS + 1), xlabel="configs tried", ylabel="ms")
        axes.set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"], minor=False)
        axes.minorticks_off()
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, ncols=4, fontsize=8)
        figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main()
