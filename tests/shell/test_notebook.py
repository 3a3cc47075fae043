"""Progress in a notebook, with a fake display and in real kernels; and evaluators made of a notebook's cells."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from autotune.core.config import Config
from autotune.core.outcomes import Failed, Trial
from autotune.core.parameters import Integer
from autotune.core.search.messages import Asked, Measure, Observed
from autotune.core.search.plan import Budget, Plan
from autotune.core.search.state import advance, start
from autotune.core.space import Space
from autotune.core.strategies.random_search import RandomSearch
from autotune.shell.progress import show_progress


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """All that a fake notebook displays, in order."""
    seen: list[dict[str, str]] = []

    def display(bundle: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        seen.append(bundle)
        return SimpleNamespace(update=lambda renewed, raw: seen.append(renewed))

    shell, module = ModuleType("IPython"), ModuleType("IPython.display")
    shell.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return seen


def test_one_display_is_renewed_in_place_and_not_for_every_event(shown: list[dict[str, str]]) -> None:
    search = start(Plan(Space({"x": Integer(0, 99)}, default={"x": 0}), RandomSearch(), Budget(evaluations=40)))
    trial = Trial(0, Config(x=0), "default", generation=-1)
    with show_progress(None, "tuning <build>") as watch:
        for event in (
            Asked(0.0, 1, Measure((trial,))),
            Observed(1.0, 0, Failed("run_error", "<b>no</b>")),
        ):
            search = advance(search, event)
            watch(search, event)
        count = len(shown)
        for _ in range(1000):
            watch(search, Asked(0.0, 1, Measure((trial,))))
        assert len(shown) < count + 500, "two renewals a second, however slow the machine is"
    *texts, line = shown[-1]["text/plain"].splitlines()
    assert texts == ["autotune: tuning <build>", "autotune: the default config failed: run error: <b>no</b>"]
    assert line.startswith("autotune: searching 1/40, 1 failed, ")
    assert '<progress max="1" value="0.025"></progress>' in shown[-1]["text/html"]
    assert "<b>" not in shown[-1]["text/html"]


def test_a_notebook_shows_nothing_where_progress_is_off(shown: list[dict[str, str]]) -> None:
    with show_progress(False, "tuning"):
        pass
    assert shown == []


CELLS = (
    """
from dataclasses import dataclass
from autotune import CallableEvaluator, Integer, Space, tune

SCALE = 3

@dataclass
class Job:
    n: int
    def run(self):
        return sum(range(self.n * SCALE))

def helper(n):
    return Job(n)
""",
    """
def build(config):
    job = helper(config["x"])
    return lambda: job.run()

space = Space({"x": Integer(100, 120)}, default={"x": 110})
result = tune(space, CallableEvaluator(build, workers=2, reference=None), budget=6, effort="quick", journal=False)
print(result.counts)
""",
)


@pytest.mark.slow
def test_a_notebook_tunes_functions_of_its_cells_in_isolated_workers_and_shows_it() -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = notebook.cells[1].outputs
    displays = [one for one in outputs if one.output_type == "display_data"]
    assert len(displays) == 1, "one display, renewed in place"
    text = displays[0].data["text/plain"]
    assert text.startswith("autotune: tuning build by ")
    assert "6/6" in text
    assert ", verified " in text
    assert [one.text for one in outputs if one.output_type == "stream" and one.name == "stdout"] == ["{'timed': 6}\n"]
