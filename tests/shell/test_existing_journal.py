"""A journal that exists already when a search begins."""

from pathlib import Path
from typing import Any

import pytest

from autotune import (
    Boolean,
    Budget,
    JournalError,
    PlanError,
    PowerOfTwo,
    Result,
    SimulatedEvaluator,
    Space,
    replay,
    tune,
)
from autotune.shell.existing_journal import number_path
from autotune.shell.journal import read_journal
from autotune.testing.outcomes import HashedTable

SPACE = Space({"block": PowerOfTwo(16, 256), "split": Boolean()}, default={"block": 16, "split": False})


def search(folder: Path, **more: Any) -> Result:
    options: dict[str, Any] = {"budget": Budget(evaluations=6), "strategy": "random_search", "progress": False, **more}
    return tune(options.pop("space", SPACE), SimulatedEvaluator(HashedTable()), journal=folder / "run.jsonl", **options)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_same_search_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = search(tmp_path)
    written = (tmp_path / "run.jsonl").read_bytes()
    assert search(tmp_path, progress=None) == first
    assert (tmp_path / "run.jsonl").read_bytes() == written
    assert "run.jsonl exists: its search goes on, with 6 configs measured" in capsys.readouterr().err
    assert files(tmp_path) == ["run.jsonl"]


def test_a_search_that_was_killed_goes_on(tmp_path: Path) -> None:
    first = search(tmp_path)
    lines = (tmp_path / "run.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "run.jsonl").write_bytes(b"".join(lines[:6]))
    assert search(tmp_path) == first
    assert read_journal(tmp_path / "run.jsonl").events
    replay(tmp_path / "run.jsonl")


@pytest.mark.parametrize(
    ("more", "difference"),
    [
        ({"budget": Budget(evaluations=5)}, "its budget differs"),
        ({"seed": 3}, "its seed differs"),
        ({"space": Space(dict(SPACE.parameters))}, "of another space"),
    ],
)
def test_another_search_gets_a_new_file(
    tmp_path: Path, more: dict[str, Any], difference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    search(tmp_path)
    search(tmp_path, progress=None, **more)
    assert files(tmp_path) == ["run-2.jsonl", "run.jsonl"]
    told = capsys.readouterr().err
    assert f"run.jsonl holds another search ({difference}): the journal is {tmp_path / 'run-2.jsonl'}" in told
    with pytest.raises(JournalError, match="holds another search"):
        search(tmp_path, on_existing="continue", **more)
    search(tmp_path, **more)
    assert files(tmp_path) == ["run-2.jsonl", "run-3.jsonl", "run.jsonl"]


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_text("notes\n")
    search(tmp_path)
    assert (tmp_path / "run.jsonl").read_text() == "notes\n"
    assert files(tmp_path) == ["run-2.jsonl", "run.jsonl"]


def test_it_can_be_chosen_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search(tmp_path)
    with pytest.raises(JournalError, match="exists; resume it"):
        search(tmp_path, on_existing="error")
    monkeypatch.setenv("AUTOTUNE_ON_EXISTING", "new")
    search(tmp_path)
    assert files(tmp_path) == ["run-2.jsonl", "run.jsonl"]
    monkeypatch.setenv("AUTOTUNE_ON_EXISTING", "overwrite")
    with pytest.raises(PlanError, match="AUTOTUNE_ON_EXISTING"):
        search(tmp_path)
    monkeypatch.delenv("AUTOTUNE_ON_EXISTING")
    with pytest.raises(JournalError, match="use one of continue, new, error"):
        search(tmp_path, on_existing="overwrite")


def test_numbers_stand_before_the_suffix(tmp_path: Path) -> None:
    assert number_path(tmp_path / "a.journal.jsonl").name == "a-2.journal.jsonl"
    (tmp_path / "a-2.journal.jsonl").touch()
    assert number_path(tmp_path / "a.journal.jsonl").name == "a-3.journal.jsonl"
    assert number_path(tmp_path / "log").name == "log-2"
