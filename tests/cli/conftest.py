"""A folder of problems, and a journal of one of them."""

import sys
from pathlib import Path

import pytest

from autotune.cli import ExitCode, main
from tests.cli.command import PROBLEMS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "problems.py").write_text(PROBLEMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.fixture
def journal(folder: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    assert main(["tune", "problems.py:tuned", "--journal", "j.jsonl"]) == ExitCode.DONE
    capfd.readouterr()
    return folder / "j.jsonl"
