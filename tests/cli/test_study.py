"""`autotune study`: what it prints and writes."""

import json
from pathlib import Path

import msgspec
import pytest

from autotune.cli import main
from autotune.cli.study import parse_sweep
from autotune.studies.spec import load_study
from tests.studies.small_study import SPEC, write_recordings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_recordings(tmp_path)


def test_sweeps_on_the_command_line() -> None:
    assert parse_sweep(["copies=1,2,5", "x=a,true", "y=[1,2]", 'z="a,b"', "w=0.5"]) == {
        "copies": (1, 2, 5), "x": ("a", True), "y": ([1, 2],), "z": ("a", "b"), "w": (0.5,),
    }  # fmt: skip


def test_the_command_writes_everything_and_repeats_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, outs = folder / "s.json", (folder / "x", folder / "y")
    small = msgspec.structs.replace(SPEC, name="A <small> study", recordings=("*__*.json",))
    spec.write_bytes(msgspec.json.encode(small))
    for out, jobs in zip(outs, ("1", "2"), strict=True):
        assert main(["study", str(spec), "--out", str(out), "--jobs", jobs, "--seeds", "3", "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "Each strategy, mean over recordings and kernels" in printed
    names = {path.name for path in outs[0].iterdir()}
    assert {"overall.csv", "by_recording.csv", "recordings.csv", "pairs.csv", "tables.md", "report.html"} <= names
    for name in names - {"own_time.csv", "runs.jsonl"}:
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes(), name
    again = load_study(outs[0] / "study.json")
    assert again == msgspec.structs.replace(small, seeds=3)


def test_json_is_the_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = folder / "s.toml"
    spec.write_text('recordings = ["a__*.json"]\nseeds = 2\nevaluations = 9\n[[strategies]]\nname = "random_search"\n')
    assert main(["study", str(spec), "--out", str(folder / "out"), "--json", "--quiet"]) == 0
    tables = json.loads(capsys.readouterr().out)
    assert tables["overall"][0]["strategy"] == "random_search"
    assert len(tables["recordings"]) == 2
    assert "pairs" not in tables


def test_a_terminal_gets_fewer_columns_and_the_sweep(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = folder / "s.toml"
    spec.write_text('recordings = ["a__*.json"]\nseeds = 2\nevaluations = 9\n[[strategies]]\nname = "pattern_search"\n')
    assert main(["study", str(spec), "--out", str(folder / "out"), "--quiet", "--set", "initial_population=3,5"]) == 0
    printed = capsys.readouterr().out
    assert "pattern_search initial_population=5" in printed
    assert "P by time effect high" in printed
    assert "P by evaluations effect" not in printed
    assert max(map(len, printed.splitlines())) < 150
    assert "best at end" in printed, "runs of 9 evaluations have no best @100"
    assert "best @100" not in printed
    assert "\nP       0: as good as random search" in printed
    assert f"\nreport  {folder / 'out' / 'report.html'}" in printed
    curves = (folder / "out" / "curves.csv").read_text().splitlines()
    assert len(curves) == 1 + 2 * 2 * 2 * 50
