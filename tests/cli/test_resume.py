"""`autotune resume`: a search that was killed or interrupted ends as if nothing had happened."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from autotune.cli import ExitCode, main
from tests.cli.command import await_in, found, started


@pytest.fixture
def whole(folder: Path, capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The result of a search that nothing disturbs; the slow table gives the same on its simulated clock."""
    assert main(["tune", "problems.py", "--json", "--no-journal"]) == ExitCode.DONE
    return found(capfd.readouterr().out)


def test_killed_and_resumed_ends_as_if_nothing_had_happened(
    folder: Path, whole: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    journal = folder / "problems-slow.journal.jsonl"
    with started("tune", "problems.py:slow") as process:
        await_in(journal, lambda text: text.count("\n") > 15)
        process.kill()
        process.wait()
    assert main(["show", journal.name, "--json"]) == ExitCode.DONE
    unfinished = json.loads(capfd.readouterr().out)
    assert unfinished["state"] == "unfinished"
    assert 0 < unfinished["evaluations"] < 49
    assert main(["resume", journal.name, "problems.py", "--json"]) == ExitCode.DONE
    assert found(capfd.readouterr().out) == whole
    assert main(["replay", journal.name]) == ExitCode.DONE
    assert main(["show", journal.name, "--json"]) == ExitCode.DONE
    shown = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (shown["state"], shown["resumes"], shown["result"]) == ("finished", 1, whole)


def test_one_interrupt_prints_the_best_so_far_and_leaves_a_journal_to_resume(
    folder: Path, whole: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    journal = folder / "j.jsonl"
    with started("tune", "problems.py:slow", "--journal", "j.jsonl") as process:
        await_in(journal, lambda text: text.count("observed") > 5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED
    assert "Traceback" not in err
    assert "best  " in out
    assert "autotune resume j.jsonl problems.py:slow" in out
    assert main(["show", "j.jsonl", "--json"]) == ExitCode.DONE
    summary = json.loads(capfd.readouterr().out)
    assert (summary["state"], summary["interrupts"]) == ("interrupted", 1)
    assert main(["resume", "j.jsonl", "problems.py", "--json"]) == ExitCode.DONE
    assert found(capfd.readouterr().out) == whole
