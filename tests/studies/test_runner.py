"""A study gives the same tables however it is run, cut off, killed and continued, in one process or several."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from autotune.core.errors import PlanError, StrategyError
from autotune.core.strategies.protocol import Done
from autotune.core.strategies.registry import STRATEGIES
from autotune.studies.recordings import write_recording
from autotune.studies.runner import run_study
from autotune.studies.spec import StrategyEntry, StudyError, load_study
from tests.studies.small_study import AUTOTUNE, SPEC, recording, tables_text


def test_the_tables_are_the_same_bytes_whatever_runs_them(folder: Path) -> None:
    alone = tables_text(SPEC, folder)
    assert tables_text(SPEC, folder, jobs=2, out=folder / "out") == alone
    assert tables_text(SPEC, folder, out=folder / "out") == alone


def test_what_is_finished_is_not_run_again(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    first = tables_text(SPEC, folder, out=folder / "out", progress=lambda *at: told.append(at))
    assert told[0] == (0, 42)
    assert told[-1] == (42, 42)
    told.clear()
    assert tables_text(SPEC, folder, out=folder / "out", progress=lambda *at: told.append(at)) == first
    assert told == [(42, 42)]


def test_a_study_cut_anywhere_goes_on(folder: Path) -> None:
    whole = tables_text(SPEC, folder, out=folder / "out")
    runs = folder / "out" / "runs.jsonl"
    content = runs.read_bytes()
    for share in (0.0, 0.3, 0.77):
        cut = int(len(content) * share)
        runs.write_bytes(content[:cut])
        if content[:cut] and not content[:cut].endswith(b"\n"):
            with pytest.warns(UserWarning, match="torn"):
                assert tables_text(SPEC, folder, out=folder / "out") == whole
        else:
            assert tables_text(SPEC, folder, out=folder / "out") == whole
        assert len(runs.read_bytes().splitlines()) == 42


@pytest.mark.slow
def test_a_killed_study_loses_only_what_was_under_way(folder: Path) -> None:
    spec = folder / "s.toml"
    spec.write_text(
        'recordings = ["*__*.json"]\nseeds = 120\nevaluations = 60\n[[strategies]]\nname = "differential_evolution"\n'
    )
    command = [*AUTOTUNE, "study", str(spec), "--out", str(folder / "out"), "--jobs", "2"]
    runs = folder / "out" / "runs.jsonl"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 60
    while time.monotonic() < until and not (runs.exists() and runs.stat().st_size > 2000):
        time.sleep(0.05)
    process.kill()
    process.wait()
    kept = runs.read_bytes().rpartition(b"\n")[0].splitlines()
    assert 0 < len(kept) < 360
    for _ in range(100):  # the workers end by themselves
        if not _members(process.pid):
            break
        time.sleep(0.1)
    assert not _members(process.pid)
    told: list[int] = []
    loaded = load_study(spec)
    run_study(loaded, folder, out=folder / "out", progress=lambda done, _: told.append(done))
    assert told[0] == len(kept)


def _members(group: int) -> list[str]:
    listed = subprocess.run(["ps", "-o", "pid=,stat=", "-g", str(group)], capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if "Z" not in line]


def test_ctrl_c_says_how_to_go_on(folder: Path) -> None:
    spec = folder / "s.json"
    spec.write_bytes(msgspec.json.encode(msgspec.structs.replace(SPEC, seeds=2000, recordings=("*__*.json",))))
    command = [*AUTOTUNE, "study", str(spec), "--out", str(folder / "out"), "--jobs", "2"]
    heeding = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heeding)
    runs = folder / "out" / "runs.jsonl"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (runs.exists() and runs.stat().st_size):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.splitlines() == [f"autotune: stopped; the same command goes on with the runs in {folder / 'out'}"]


def test_nothing_but_recorded_points_is_measured(tmp_path: Path) -> None:
    write_recording(recording("p__x", partial=True), tmp_path / "p.json")
    result = run_study(msgspec.structs.replace(SPEC, evaluations=64), tmp_path)
    assert result.benchmarks[0].evaluations == 50
    for run in result.runs.values():
        assert len(set(run.rows)) == len(run.rows) <= 50
        assert max(run.rows) < 50


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"strategies": (StrategyEntry(name="random"),)}, StrategyError, "random_search"),
        (
            {"strategies": (StrategyEntry(name="random_search"), StrategyEntry(name="random_search"))},
            StudyError,
            "label",
        ),
        ({"strategies": (StrategyEntry(name="pattern_search", settings={"copy": 1}),)}, StrategyError, "copies"),
        ({"strategies": (StrategyEntry(name="pattern_search", effort="x"),)}, PlanError, "effort"),
        (
            {"strategies": (StrategyEntry(name="pattern_search", label="me", settings={"reserve": True}),)},
            PlanError,
            "me: .*reserve",
        ),
        ({"settings": {"nothing": 1}}, StudyError, "nothing"),
        ({"sweep": {"nothing": (1,)}}, StudyError, "nothing"),
        ({"recordings": ("*.csv",)}, StudyError, "csv"),
        ({"exclude": ("*",)}, StudyError, "exclude"),
        ({"strategies": (StrategyEntry(name="nobody:x"),)}, StrategyError, "nobody"),
    ],
)
def test_a_study_that_cannot_work_says_so_before_it_runs(
    folder: Path, change: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        run_study(msgspec.structs.replace(SPEC, **change), folder, out=folder / "out")
    assert not (folder / "out" / "runs.jsonl").exists()


class FirstRow(msgspec.Struct, frozen=True, tag="first_row_of_tests"):
    """Does nothing, or breaks."""

    broken: bool = False

    def init(self, space: Any, seeds: Any, key: Any) -> None:
        return None

    def propose(self, space: Any, state: None, ask: Any, key: Any) -> Done:
        if self.broken:
            raise ZeroDivisionError("broken on purpose")
        return Done("nothing to do")

    def observe(self, space: Any, state: None, seen: Any) -> None:
        return None


@pytest.mark.parametrize("jobs", [1, 2])
def test_registered_strategies_work_in_every_process(folder: Path, monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    monkeypatch.setitem(STRATEGIES, "first_row_of_tests", FirstRow)
    spec = msgspec.structs.replace(SPEC, strategies=(StrategyEntry(name="first_row_of_tests"),))
    result = run_study(spec, folder, jobs=jobs)
    assert {run.rows for run in result.runs.values()} == {()}
    assert {run.picked for run in result.runs.values()} == {None}
    assert all(score.by_time < 0.5 and score.final == 0 for score in result.scores["first_row_of_tests", "a__one"])
    broken = msgspec.structs.replace(
        spec, strategies=(StrategyEntry(name="first_row_of_tests", settings={"broken": True}),)
    )
    with pytest.raises(StudyError, match=r"first_row_of_tests on a__one.json, seed 0: ZeroDivisionError"):
        run_study(broken, folder, jobs=jobs)
