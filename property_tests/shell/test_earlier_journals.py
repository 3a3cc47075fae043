"""Journals of earlier versions are read, shown and resumed; where their searches went another way that is said."""

from pathlib import Path

import pytest

from autotune import Compare, replay, result, resume
from autotune.cli import ExitCode, main
from autotune.shell.tuning import read_search
from property_tests.registry import EVALUATORS

FIRST = Path(__file__).parents[1] / "journals" / "0.1.0.jsonl"
"""Written by 0.1.0 with the evaluator "simulated noisy": 14 configs at random, simplification, verification."""


def test_a_finished_journal_of_the_first_version_gives_its_result() -> None:
    journal, search = read_search(FIRST)
    found = result(search)
    assert found.complete
    assert found.evaluations == 17
    assert dict(found.best.config) == {"M": 16, "N": 128, "K": 16, "warps": 2}
    assert found.best.time_ms == 0.5176338611765534
    assert found.speedup is not None
    assert found.speedup.low < found.speedup.value < found.speedup.high
    tasks = [event.task for event in journal.events if type(event).__name__ == "Asked"]
    assert [task.order for task in tasks if isinstance(task, Compare)] == [None]
    assert resume(FIRST, EVALUATORS["simulated noisy"](), progress=False) == found


def test_its_replay_says_of_which_version_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    found = replay(FIRST).divergence
    assert found is not None
    assert "it was written by an earlier autotune (0.1.0)" in found.why
    assert main(["replay", str(FIRST)]) == ExitCode.DIVERGED
    assert found.why in capsys.readouterr().out


@pytest.mark.parametrize("lines", [8, 18, 22])
def test_one_that_was_cut_off_goes_on(lines: int, tmp_path: Path) -> None:
    """In the search, in simplification, and in a verification whose rounds have one order."""
    path = tmp_path / "cut.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in FIRST.read_bytes().split(b"\n")[:lines]))
    found = resume(path, EVALUATORS["simulated noisy"](), progress=False)
    assert found.complete
    assert found.evaluations >= 14
    assert dict(found.best.config)["N"] == 128
