"""Tables: the effect of sweeps, losses by noise, and cells that a spreadsheet must not calculate."""

import csv
import io
import re
from pathlib import Path

import msgspec
import pytest

from autotune.studies.recordings import write_recording
from autotune.studies.report import write_study
from autotune.studies.runner import run_study
from autotune.studies.spec import StrategyEntry, StudySpec, list_cases
from autotune.studies.tables import StudyTable, study_tables
from tests.studies.small_study import SPEC, recording


def test_a_sweep_runs_each_value_and_shows_its_effect(folder: Path) -> None:
    swept = msgspec.structs.replace(SPEC, sweep={"copies": (1, 2), "count": (30,)})
    cases = list_cases(swept)
    assert [case.label for case in cases] == ["random_search count=30", "hill copies=1", "hill copies=2"]
    assert cases[2].settings == {"initial_population": 5, "copies": 2}
    table = next(table for table in study_tables(run_study(swept, folder)) if table.name == "sweep")
    assert [row[:3] for row in table.rows] == [
        ("random_search", "-", "30"), ("hill", "1", "-"), ("hill", "2", "-"),
    ]  # fmt: skip
    effects = dict(zip(table.header, table.rows[1], strict=True))
    assert effects["P by time effect"] == effects["P by time effect high"] == "0.000"


def test_noise_splits_the_loss(folder: Path) -> None:
    noisy = msgspec.convert({**msgspec.to_builtins(SPEC), "noise": "resample"}, StudySpec)
    write_recording(recording("c__flat", slope=0.01), folder / "c__flat.json")
    result = run_study(noisy, folder)
    table = next(table for table in study_tables(result) if table.name == "losses")
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert len(rows) == 8
    for row in rows:
        parts = float(row["exploration"]) + float(row["selection"])
        assert parts == pytest.approx(float(row["in all"]), abs=2e-4)
    assert any(float(row["selection"]) > 0 for row in rows)
    assert "losses" not in {table.name for table in study_tables(run_study(SPEC, folder))}


@pytest.mark.parametrize(
    "cell",
    ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("x","y")', " =1", "-a", "\n=1", "+", "=1\r=1"],
)
def test_a_cell_that_a_spreadsheet_would_calculate_is_text(cell: str) -> None:
    table = StudyTable(name="t", title="T", header=(cell, "b"), rows=((cell, "1"),))
    text = "'" + " ".join(cell.splitlines())
    assert list(csv.reader(io.StringIO(table.csv(), newline=""))) == [[text, "b"], [text, "1"]]
    assert len(table.markdown().splitlines()) == 5


@pytest.mark.parametrize("cell", ["-0.170", "+3", "-1e-5", "-1,000", "never", "", "-", "a=b", "a-b", "12 %", "-5%"])
def test_other_cells_stay_as_they_are(cell: str) -> None:
    text = StudyTable(name="t", title="T", header=("a",), rows=((cell,),)).csv()
    assert list(csv.reader(io.StringIO(text, newline="")))[1:] in ([[cell]], [[]])


def test_a_label_that_is_a_formula_is_text_in_every_table(folder: Path) -> None:
    entry = StrategyEntry(name="random_search", label="=1+1")
    spec = StudySpec(strategies=(entry,), recordings=("*.json",), seeds=1, evaluations=5)
    result = run_study(spec, folder, out=folder / "out")
    write_study(result, study_tables(result), folder / "out")
    for path in (folder / "out").glob("*.csv"):
        text = path.read_text()
        assert "'=1+1" in text or "=1+1" not in text
        assert not re.search(r"(^|,)=", text, re.MULTILINE), path
