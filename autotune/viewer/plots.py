"""Plots of a search by matplotlib, for notebooks and papers; the page shows the same and more.

Each function takes a view, a journal, a recording or the path of one, draws on `axes` or on a new figure, and returns
the axes. matplotlib is imported when a plot is drawn.
"""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from autotune._extras import install_command
from autotune.core.errors import AutotuneError
from autotune.viewer.sources import Viewable, as_view

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LINES = 500
"""Configs in a plot of parallel coordinates, the fastest: more are a block of colour."""

_ACCENT, _POINT, _GOOD = "#1f5fbf", "#8fa9cc", "#1a7f4b"


def plot_history(
    search: Viewable, *, by: Literal["evaluations", "seconds"] = "evaluations", axes: "Axes | None" = None
) -> "Axes":
    """The time of every config in the order of measuring, and the best so far, both by first timings.

    by: the horizontal axis. Raises AutotuneError for seconds of a recording, which has none.
    """
    view, axes = as_view(search), _axes(axes)
    trials = view.trials
    if by == "seconds" and any(at is None for at in trials.at_s):
        raise AutotuneError(f"{view.title} does not say when its configs were measured; use by='evaluations'")
    where = np.arange(1, len(trials.number) + 1) if by == "evaluations" else np.array(trials.at_s, np.float64)
    times = np.array([np.nan if time is None else time for time in trials.first_ms], np.float64)
    axes.scatter(where, times, s=8, color=_POINT, label="a config")
    best = np.fmin.accumulate(times) if len(times) else times
    axes.step(where, best, where="post", color=_ACCENT, linewidth=2, label="best so far")
    axes.set(yscale="log", xlabel="configs measured" if by == "evaluations" else "seconds", ylabel=view.unit)
    axes.legend(frameon=False)
    return axes


def plot_parallel(search: Viewable, *, most: int = MOST_LINES, axes: "Axes | None" = None) -> "Axes":
    """Parallel coordinates: a line for each of the `most` fastest configs through its values, the darkest the fastest.

    Each axis has the values of a parameter, evenly spaced, the most important parameter first.
    """
    view, axes = as_view(search), _axes(axes)
    order = [one.parameter for one in view.importances.parameters] or list(range(len(view.parameters)))
    order = [j for j in order if len(view.parameters[j].values) > 1]
    times = view.trials.time_ms
    places = sorted((i for i, t in enumerate(times) if t is not None), key=lambda i: (times[i], i))[:most]
    x = np.arange(len(order))
    for rank, place in reversed(list(enumerate(places))):
        heights = [view.trials.codes[j][place] / (len(view.parameters[j].values) - 1) for j in order]
        shade = rank / max(len(places) - 1, 1)
        axes.plot(x, heights, color=(0.12 + 0.7 * shade, 0.37 + 0.4 * shade, 0.75), alpha=0.8 - 0.65 * shade, lw=1)
    for at, j in zip(x.tolist(), order, strict=True):
        values = view.parameters[j].values
        step = max(len(values) // 8, 1)
        for code in range(0, len(values), step):
            axes.annotate(str(values[code]), (at, code / (len(values) - 1)), fontsize=8, ha="right", va="center")
        axes.axvline(at, color="#999999", lw=0.8)
    axes.set_xticks(x, [view.parameters[j].name for j in order], rotation=20, ha="right")
    axes.set_yticks([])
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)
    return axes


def plot_importances(search: Viewable, *, most: int = 15, axes: "Axes | None" = None) -> "Axes":
    """The shares of the `most` most important parameters and pairs, with their 5 % to 95 % quantiles.

    Where there are too few configs to tell, the title says so.
    """
    view, axes = as_view(search), _axes(axes)
    found = [((one.parameter,), one.share) for one in view.importances.parameters]
    shares = [*found, *((one.parameters, one.share) for one in view.importances.pairs)]
    shares = sorted(shares, key=lambda one: -one[1].value)[:most]
    names = [" and ".join(view.parameters[j].name for j in which) for which, _ in shares]
    value = np.array([share.value for _, share in shares])
    spread = np.array([[max(s.value - s.low, 0), max(s.high - s.value, 0)] for _, s in shares]).reshape(-1, 2).T
    y = np.arange(len(shares))
    tones = [_ACCENT if len(which) == 1 else _POINT for which, _ in shares]
    axes.barh(y, value, xerr=spread, color=tones, ecolor="#333333", capsize=2)
    axes.set_yticks(y, names)
    axes.invert_yaxis()
    axes.set(xlabel="share of the variance of log time", xlim=(0, None))
    if view.importances.doubt:
        axes.set_title(view.importances.doubt, fontsize=9)
    return axes


def plot_finalists(search: Viewable, *, axes: "Axes | None" = None) -> "Axes":
    """The samples of the final comparison, a row for each config, with the interval of the median.

    Raises AutotuneError where there was no final comparison.
    """
    view, axes = as_view(search), _axes(axes)
    if not view.finalists:
        raise AutotuneError(f"{view.title} has no final comparison, so there are no samples to plot")
    for row, one in enumerate(view.finalists):
        axes.scatter(one.samples_ms, np.full(len(one.samples_ms), row), s=12, color=_POINT, alpha=0.7)
        tone = _GOOD if one.pick else _ACCENT
        axes.plot([one.low_ms, one.high_ms], [row, row], color=tone, lw=5, alpha=0.5, solid_capstyle="butt")
        axes.plot([one.time_ms], [row], marker="|", ms=14, mew=2.5, color=tone)
    labels = [f"{one.trial}{' (pick)' if one.pick else ' (default)' if one.default else ''}" for one in view.finalists]
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set(xlabel=view.unit, ylabel="config")
    return axes


def _axes(given: Any) -> Any:
    if given is not None:
        return given
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(f"plots need matplotlib; {install_command('plots')}") from error
    return plt.subplots(layout="constrained")[1]
