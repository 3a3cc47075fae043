"""Draws the figures of the gallery, docs/figures/gallery_*.svg: `python docs/figures/gallery.py [NAME…]`."""

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from autotune import Budget, Disturbance, Result, SimulatedEvaluator, tune
from autotune.studies import Simulation, load_recording, simulate

FIGURES = Path(__file__).parent
EXAMPLES = FIGURES.parent / "examples"
STYLE = {"svg.hashsalt": "autotune", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
BLUE, GREY, RED = "#1f4e79", "#9db4c8", "#c0504d"


def compiled(axes: Axes) -> None:
    """The search of the min-plus product: every config's first timing, in the order of the outcomes."""
    sys.path.insert(0, str(EXAMPLES))
    import blocked_matmul

    first: list[float] = []

    def watch(search: object, event: object) -> None:
        outcome = getattr(event, "outcome", None)
        if outcome is not None:
            first.append(float(np.median(getattr(outcome, "times_ms", [np.nan]))))

    result = tune(blocked_matmul.space, blocked_matmul.evaluator, budget=Budget(evaluations=60), progress=watch, seed=0)
    number = np.arange(1, len(first) + 1)
    axes.scatter(number, first, s=12, color=GREY, label="a config")
    axes.step(number, np.fmin.accumulate(first), where="post", color=BLUE, lw=2, label="best so far")
    axes.axhline(result.default.time_ms, color="#777777", lw=0.8, ls=":", label="the default, verified")
    axes.axhline(result.best.time_ms, color=RED, lw=0.8, ls=":", label="the pick, verified")
    axes.set(yscale="log", xlabel="configs tried", ylabel="ms")
    plain_ticks(axes.yaxis)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, ncols=4, fontsize=8)


def recorded(axes: Axes) -> None:
    """Three strategies on the recorded matrix product: the median of 20 seeds, and the middle half of them."""
    simulation = Simulation.of(load_recording("builtin:matmul"))
    recording = simulation.recording
    row_of = {key: row for row, key in enumerate(recording.keys)}
    for strategy, color in (("random_search", "#999999"), ("pattern_search", RED), ("gaussian_process", BLUE)):
        runs = []
        for seed in range(20):
            rows = [row_of[key] for key in simulate(simulation, strategy, evaluations=150, seed=seed).trace.keys]
            ms = np.where(recording.timed[rows], recording.time_ms[rows], np.inf)
            best = recording.optimum_ms / np.minimum.accumulate(ms)
            runs.append(np.pad(best, (0, 150 - len(best)), mode="edge"))
        low, middle, high = np.quantile(runs, (0.25, 0.5, 0.75), axis=0)
        number = np.arange(1, 151)
        axes.step(number, middle, where="post", color=color, label=strategy)
        axes.fill_between(number, low, high, step="post", color=color, alpha=0.15, lw=0)
    axes.set(xlabel="configs tried", ylabel="optimum / best", ylim=(0.35, 1.01))
    axes.legend(frameon=False, loc="lower right")


def noisy(axes: Axes) -> None:
    """The samples of the verification of a disturbed search, config by config."""
    result = disturbed_search()
    shown = [(result.best, "pick"), *((finalist.measured, "as good") for finalist in result.finalists)]
    if result.default is not None:
        shown.append((result.default, "default"))
    for place, (one, _) in enumerate(shown):
        heights = place + np.linspace(-0.15, 0.15, len(one.times_ms))
        axes.scatter(one.times_ms, heights, s=9, color=GREY, zorder=1)
        axes.plot([one.low_ms, one.high_ms], [place, place], color=BLUE, lw=3, solid_capstyle="butt", zorder=2)
        axes.scatter([one.time_ms], [place], s=30, color=RED, zorder=3)
    axes.set_yticks(range(len(shown)), [label for _, label in shown])
    axes.set(xlabel="ms (a point: one sample; red: the median; blue: its interval)", xscale="log")
    plain_ticks(axes.xaxis)
    axes.invert_yaxis()


def plain_ticks(axis: Axis) -> None:
    """Numbers such as 0.2, not powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_locator(NullLocator())


def disturbed_search() -> Result:
    simulation = Simulation.of(load_recording("builtin:rms_norm"))
    disturbance = Disturbance(jitter=0.01, tails=3, outliers=0.02, outlier_size=1.0, walk=0.003)
    evaluator = SimulatedEvaluator(simulation.table, disturbance=disturbance)
    return tune(simulation.space, evaluator, budget=Budget(evaluations=80), seed=0, progress=False)


DRAWINGS: dict[str, tuple[Callable[[Axes], None], float]] = {
    "compiled": (compiled, 3.0),
    "recorded": (recorded, 3.2),
    "noisy": (noisy, 2.2),
}


def main() -> None:
    for name in sys.argv[1:] or DRAWINGS:
        draw, height = DRAWINGS[name]
        with plt.rc_context(STYLE):
            figure, axes = plt.subplots(figsize=(7.2, height), layout="constrained")
            draw(axes)
            figure.savefig(FIGURES / f"gallery_{name}.svg", metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main()
