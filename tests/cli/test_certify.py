"""`autotune certify`: the claims of a journal, as text, as a table, and as the bytes of the certificate."""

from pathlib import Path

import pytest

from autotune import result
from autotune.cli import ExitCode, main
from autotune.shell.tuning import read_search


def test_the_bytes_are_those_of_the_certificate(journal: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = result(read_search(journal)[1]).certificate
    assert found is not None
    assert main(["certify", "j.jsonl", "--json"]) == ExitCode.DONE
    assert capfd.readouterr().out.encode() == found.to_json() + b"\n"


def test_the_text_has_the_claims_and_a_line_for_each_rival(journal: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = result(read_search(journal)[1]).certificate
    assert found is not None
    assert main(["certify", "j.jsonl"]) == ExitCode.DONE
    out = capfd.readouterr().out
    assert out.startswith(str(found).splitlines()[0])
    assert "\nnever worse " in out
    assert sum(line.split("  ")[0].isdigit() for line in out.splitlines()) == len(found.selection.rivals)


def test_what_is_no_journal_is_refused(journal: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["certify", "problems.py"]) == ExitCode.ERROR
    assert "problems.py is no journal of autotune" in capfd.readouterr().err
