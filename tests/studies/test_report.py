"""The report of a study."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from autotune.studies.report import write_study
from autotune.studies.runner import run_study
from autotune.studies.tables import study_tables
from tests.studies.small_study import SPEC


def test_the_report_needs_nothing_else(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run_study(msgspec.structs.replace(SPEC, name="<b>"), folder)
    write_study(result, study_tables(result), folder / "out")
    page = (folder / "out" / "report.html").read_text()
    assert page.count("<svg") == 4
    assert "&lt;b&gt;" in page
    assert not re.search(r"<script|<link|<img|@import|url\((?!#)|src=", page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', page))
    assert used <= set(ids)


def test_without_matplotlib_there_are_tables_and_a_hint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run_study(SPEC, folder)
    notes = write_study(result, study_tables(result), folder / "out")
    assert any("autotune-kernels[plots]" in note for note in notes)
    assert "autotune-kernels[plots]" in (folder / "out" / "report.html").read_text()


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = "import autotune.studies.runner, autotune.studies.report, autotune.cli.study, sys; " + (
        "print({'matplotlib', 'rich', 'sklearn', 'helion', 'kernel_tuner', 'optuna'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
