"""`autotune show` with a page, a table, failures or a second file, and `autotune watch`."""

import csv
import io
import json
from pathlib import Path

import pytest

from autotune.cli import ExitCode, main


def test_a_page_and_a_table_are_written(journal: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(journal), "--html", "page.html", "--csv", "table.csv"]) == ExitCode.DONE
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("page   page.html, ")
    assert lines[1].startswith("table  table.csv, ")
    assert "connect-src" not in Path("page.html").read_text()[:2000]
    assert "default-src 'none'" in Path("page.html").read_text()[:2000]
    assert len(list(csv.DictReader(Path("table.csv").read_text().splitlines()))) > 10


def test_the_table_may_go_to_stdout(journal: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(journal), "--csv", "-"]) == ExitCode.DONE
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert {row["outcome"] for row in rows} >= {"timed"}


def test_failures_are_listed_with_their_messages(journal: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(journal), "--failures"]) == ExitCode.DONE
    out = capfd.readouterr().out
    assert main(["show", str(journal), "--failures", "--json"]) == ExitCode.DONE
    found = json.loads(capfd.readouterr().out)["failures"]
    for one in found:
        assert f"{one['count']} {one['kind']}" in out
    assert (out == "no config failed\n") == (not found)


def test_two_searches_are_compared(journal: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(journal), "builtin:rms_norm"]) == ExitCode.DONE
    out = capfd.readouterr().out
    assert out.splitlines()[0].split() == ["j.jsonl", "rms_norm.json.gz"]
    assert main(["show", str(journal), "builtin:rms_norm", "--json"]) == ExitCode.DONE
    assert [view["title"] for view in json.loads(capfd.readouterr().out)["views"]] == ["j", "rms_norm"]


def test_a_finished_search_is_followed_to_its_end(journal: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(journal), "--follow", "--html", "page.html"]) == ExitCode.DONE
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1].startswith("over: ")
    assert "location.reload" in Path("page.html").read_text()
    assert main(["watch", str(journal), "--json"]) == ExitCode.DONE
    outcomes = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert len(outcomes) == len(lines) - 1
    assert main(["watch", str(journal)]) == ExitCode.DONE
    assert capfd.readouterr().out.splitlines() == lines


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--html", "page.csv"], "call it page.html"),
        (["--csv", "no/where.csv"], "make it first"),
        (["--html", "a.html", "--save-config", "b.json"], "--save-config goes with the summary"),
        (["--follow", "--failures"], "--follow goes with --html and --json alone"),
        (["--timeline", "spans.jsonl"], "--timeline is for a page"),
        (["--html", "a.html", "--timeline", "no.jsonl"], "the timeline no.jsonl cannot be read"),
        (["--html", "a.html", "--timeline", "problems.py"], "is no timeline of an evaluator"),
        (["--html", "a.html", "--objective", "GFLOP/s"], "leave --objective and --direction out"),
    ],
)
def test_mistakes_are_one_sentence(
    journal: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(["show", str(journal), *arguments]) == ExitCode.ERROR
    error = capfd.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_constraint_that_is_a_function_is_warned_of_once(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "problems.py:guarded", "--journal", "j.jsonl"]) == ExitCode.DONE
    capfd.readouterr()
    assert main(["watch", "j.jsonl", "--html", "page.html"]) == ExitCode.DONE
    assert capfd.readouterr().err.count("constraints that are Python functions") == 1
    assert main(["show", "j.jsonl", "--html", "page.html", "--problem", "problems.py:guarded"]) == ExitCode.DONE
    assert "constraints" not in capfd.readouterr().err
