"""--strategy: a name, a class in a file, several of them in one table; and options that are given twice by mistake."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from autotune.cli import ExitCode, main
from autotune.core.strategies.registry import STRATEGIES
from tests.studies.small_study import write_recordings

OWN = '''
from msgspec import Struct
from autotune.core.strategies.random_search import RandomSearch

class {name}(RandomSearch, frozen=True):
    """Random search under another name."""

NUMBER = 3
'''
PROBLEM = """
from autotune import CallableEvaluator, Integer, Problem, Space

problem = Problem(Space({"a": Integer(0, 9)}, default={"a": 0}),
                  CallableEvaluator(lambda config: lambda: None, isolation="in_process"))
"""


SIMULATE = ("simulate", "builtin:matmul", "--evaluations", "12")


@pytest.fixture(autouse=True)
def _only_the_strategies_of_before() -> Iterator[None]:
    """The registry is of the whole process, and other tests go through it."""
    before = dict(STRATEGIES)
    yield
    for name in [name for name in STRATEGIES if name not in before]:
        del STRATEGIES[name]


def test_a_class_in_a_file_is_tuned_simulated_resumed_and_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN.format(name="OwnSearchOfATest"))
    Path("problem.py").write_text(PROBLEM)
    own = ("--strategy", "own.py:OwnSearchOfATest")
    assert main([*SIMULATE, *own]) == ExitCode.DONE
    assert "OwnSearchOfATest" in capsys.readouterr().out
    assert main(["simulate", "builtin:matmul", "--evaluations", "9", "--strategy", "own.py:NUMBER"]) == ExitCode.ERROR
    assert "own.py has no class 'NUMBER'; it has OwnSearchOfATest" in capsys.readouterr().err


def test_a_journal_of_a_class_in_a_file_is_resumed_and_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN.format(name="OtherSearchOfATest"))
    Path("problem.py").write_text(PROBLEM)
    own = ("--strategy", "own.py:OtherSearchOfATest")
    assert main(["tune", "problem.py", *own, "--evaluations", "4", "--journal", "j.jsonl"]) == ExitCode.DONE
    monkeypatch.delitem(STRATEGIES, "OtherSearchOfATest")
    assert main(["replay", "j.jsonl"]) == ExitCode.ERROR
    assert "--strategy FILE.py:CLASS" in capsys.readouterr().err
    assert main(["replay", "j.jsonl", *own]) == ExitCode.DONE
    assert main(["resume", "j.jsonl", "problem.py"]) == ExitCode.DONE


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_study_names_a_class_in_a_file_in_each_of_its_processes(
    jobs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(write_recordings(tmp_path))
    Path("own.py").write_text(OWN.format(name=f"StudiedSearchOfATest{jobs}"))
    Path("s.toml").write_text(
        f'recordings = ["a__*.json"]\nseeds = 1\nevaluations = 5\n[[strategies]]\nname = "StudiedSearchOfATest{jobs}"\n'
    )
    assert main(["study", "s.toml", "--quiet"]) == ExitCode.ERROR
    assert "--strategy FILE.py:CLASS" in capsys.readouterr().err
    assert main(["study", "s.toml", "--strategy", "random_search"]) == ExitCode.ERROR
    assert "only brings a class" in capsys.readouterr().err
    own = ("--strategy", f"own.py:StudiedSearchOfATest{jobs}")
    assert main(["study", "s.toml", "--jobs", jobs, "--quiet", *own]) == ExitCode.DONE
    assert "StudiedSearchOfATest" in capsys.readouterr().out


def test_several_strategies_are_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    both = ("--strategy", "random_search", "--strategy", "pattern_search")
    assert main([*SIMULATE, *both, "--seed", "0", "--seed", "1"]) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split()[:2] for line in lines if line.startswith(("random_search", "pattern_search"))]
    assert rows == [["random_search", "0"], ["random_search", "1"], ["pattern_search", "0"], ["pattern_search", "1"]]


@pytest.mark.parametrize(
    "arguments",
    [
        [*SIMULATE, "--evaluations", "9"],
        [*SIMULATE, "--effort", "quick", "--effort", "full"],
        ["tune", "problem.py", "--seconds", "3", "--seconds", "4"],
        ["cache", "list", "--cache-dir", "a", "--cache-dir", "b"],
    ],
)
def test_an_option_that_takes_one_value_is_not_given_twice(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == ExitCode.USAGE
    assert "is given 2 times, and takes one value" in capsys.readouterr().err
