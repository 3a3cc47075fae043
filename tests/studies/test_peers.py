"""Strategies of any other tuner in a study: registered, or found by the entry point of a package."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from autotune.core.errors import StrategyError
from autotune.studies import peers
from autotune.studies.runner import run_study
from autotune.studies.simulation import Trace
from autotune.studies.spec import StrategyEntry, StudyError, StudySpec, list_cases
from tests.studies.small_study import SPEC


class EveryOther:
    """A tuner that measures the even rows in order, each twice."""

    version = "1"

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def run(self, simulation: Any, evaluations: int, seed: int, batch: int | None) -> Trace:
        keys = [key for key in simulation.recording.keys[::2] for _ in range(2)][: 2 * evaluations + 5]
        return Trace(
            space=simulation.recording.name, peer="fake:even", seed=seed, keys=tuple(keys), own_end=True,
            cpu_s=0.0, wall_s=0.0, rejected=0,
        )  # fmt: skip


def make_every_other(name: str, settings: Any) -> EveryOther:
    return EveryOther(settings)


@pytest.fixture
def own_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the registry of peers as it was."""
    monkeypatch.setattr(peers, "_registered", peers.registered_peers())


@pytest.mark.usefixtures("own_peers")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_registered_peer_works_in_every_process(folder: Path, jobs: int) -> None:
    peers.register_peer("fake", make_every_other)
    spec = msgspec.structs.replace(SPEC, strategies=(StrategyEntry(name="fake:even"),))
    assert run_study(spec, folder, jobs=jobs).runs["fake:even", "a__one", 6].rows == tuple(range(0, 64, 2))


@pytest.mark.usefixtures("own_peers")
def test_a_peer_is_judged_as_the_others_are(folder: Path) -> None:
    peers.register_peer("fake", make_every_other)
    spec = msgspec.structs.replace(
        SPEC, strategies=(StrategyEntry(name="fake:even"), StrategyEntry(name="random_search"))
    )
    result = run_study(spec, folder)
    run = result.runs["fake:even", "a__one", 0]
    assert run.rows == tuple(range(0, 64, 2))
    times = result.benchmarks[0].scorer.recording.time_ms
    assert times[run.picked] == np.nanmin(times[::2])
    few = run_study(msgspec.structs.replace(spec, evaluations=3), folder)
    assert few.runs["fake:even", "a__one", 0].rows == (0, 2, 4)
    with pytest.raises(StudyError, match="without noise"):
        list_cases(msgspec.convert({**msgspec.to_builtins(spec), "noise": "resample"}, StudySpec))


def test_a_peer_is_found_by_the_entry_point_of_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "somebody-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        "[autotune.peers]\nsomebody = somebodys_adapter:make\nbroken = no_such_module:make\n"
    )
    (tmp_path / "somebodys_adapter.py").write_text("def make(name, settings):\n    return name, settings\n")
    monkeypatch.syspath_prepend(tmp_path)
    found: Any = peers.find_peer("somebody:best", {"size": 3})
    assert found == ("best", {"size": 3})
    with pytest.raises(StrategyError, match=r"broken:x: no_such_module:make cannot be imported .*; install it"):
        peers.find_peer("broken:x", {})
    with pytest.raises(StrategyError, match=r"no tuner is called 'nobody' .*; there are .*broken.*somebody"):
        peers.find_peer("nobody:x", {})
