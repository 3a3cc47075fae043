"""`autotune replay`: replays that differ, journals that are torn, and Python constraints."""

import json
from pathlib import Path

import msgspec
import pytest

from autotune.cli import ExitCode, main
from autotune.core.search.messages import Asked
from autotune.shell.journal import JournalWriter, read_journal


def reseeded(path: Path) -> list[int]:
    """Make a journal one of another seed and an older numpy; the lines that asked for something."""
    read = read_journal(path)
    plan = msgspec.structs.replace(read.header.plan, seed=1)
    header = msgspec.structs.replace(read.header, plan=plan, versions={**read.header.versions, "numpy": "0.9"})
    path.unlink()
    with JournalWriter.create(path, header) as writer:
        for event in read.events:
            writer.write(event)
    return [line for line, event in enumerate(read.events, 2) if isinstance(event, Asked)]


def test_a_divergence_names_the_line_and_both_sides(journal: Path, capfd: pytest.CaptureFixture[str]) -> None:
    asked = reseeded(journal)
    assert main(["replay", "j.jsonl"]) == ExitCode.DIVERGED
    out = capfd.readouterr().out
    assert out.startswith(f"different: line {asked[1]} of j.jsonl, after 1 identical decision\n")
    assert "where     trials[0].config." in out
    assert out.count('{"type":"measure"') == 2
    assert "numpy was 0.9 and is " in out
    assert main(["replay", "j.jsonl", "--json"]) == ExitCode.DIVERGED
    report = json.loads(capfd.readouterr().out)
    assert (report["identical"], report["checked"], report["divergence"]["line"]) == (False, 1, asked[1])
    assert report["divergence"]["recorded"] != report["divergence"]["today"]


def test_a_torn_line_is_one_line_of_warning(journal: Path, capfd: pytest.CaptureFixture[str]) -> None:
    journal.write_bytes(journal.read_bytes()[:-9])
    assert main(["replay", "j.jsonl"]) == ExitCode.DONE
    captured = capfd.readouterr()
    assert captured.err.startswith("autotune: warning: j.jsonl: line ")
    assert captured.err.count("\n") == 1
    assert captured.out.startswith("identical")


def test_a_journal_with_python_constraints_is_shown_and_replayed(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "problems.py:guarded", "--journal", "g.jsonl"]) == ExitCode.DONE
    capfd.readouterr()
    assert main(["replay", "g.jsonl"]) == ExitCode.ERROR
    assert "even" in capfd.readouterr().err
    assert main(["replay", "g.jsonl", "--problem", "problems.py:guarded"]) == ExitCode.DONE
    assert main(["show", "g.jsonl"]) == ExitCode.DONE
    assert "--problem" in capfd.readouterr().err
    assert main(["show", "g.jsonl", "--problem", "problems.py:guarded"]) == ExitCode.DONE
    assert "warning" not in capfd.readouterr().err
