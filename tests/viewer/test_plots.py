import sys
from pathlib import Path

import pytest

from autotune import viewer
from autotune.core.errors import AutotuneError
from autotune.core.search.result import result
from autotune.shell.tuning import read_search
from autotune.viewer.sources import as_view

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


def test_each_plot_draws_what_the_view_holds(journal_path: Path) -> None:
    from autotune.viewer import plot_finalists, plot_history, plot_importances, plot_parallel

    view = as_view(journal_path)
    history = plot_history(view)
    assert len(history.collections[0].get_offsets()) == len(view.trials.number)
    assert plot_history(view, by="seconds").get_xlabel() == "seconds"
    timed = sum(time is not None for time in view.trials.time_ms)
    lines = [line for line in plot_parallel(view).lines if len(line.get_xdata()) > 2]
    assert len(lines) == timed
    assert len(plot_importances(view).patches) == len(view.importances.parameters) + len(view.importances.pairs)
    assert len(plot_finalists(view).collections) == len(view.finalists)
    import matplotlib.pyplot as plt

    plt.close("all")


def test_what_a_recording_lacks_is_an_error_that_says_so() -> None:
    from autotune.viewer import plot_finalists, plot_history

    view = as_view("builtin:rms_norm")
    with pytest.raises(AutotuneError, match="no final comparison"):
        plot_finalists(view)
    with pytest.raises(AutotuneError, match="by='evaluations'"):
        plot_history(view, by="seconds")


def test_without_matplotlib_the_error_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, journal_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'autotune-kernels\[plots\]'"):
        viewer.plot_history(journal_path)


def test_a_result_in_memory_can_be_looked_at_like_its_journal(journal_path: Path) -> None:
    journal, search = read_search(journal_path)
    by_result, by_journal = as_view(result(search)), as_view(journal)
    configs = {by_journal.trials.number[i]: by_journal.config(i) for i in range(len(by_journal.trials.number))}
    assert {by_result.trials.number[i]: by_result.config(i) for i in range(len(by_result.trials.number))} == configs
    assert by_result.failures == by_journal.failures
    assert [one.pick for one in by_result.finalists].count(True) == 1
    assert by_result.importances.parameters[0].parameter == by_journal.importances.parameters[0].parameter
    viewer.plot_history(result(search))
