"""`autotune env`: every variable with its value, and variables that have no meaning."""

import json

import pytest

from autotune.cli import ExitCode, main
from autotune.shell.settings import SETTINGS, variable_name


def test_the_command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AUTOTUNE_EFFORT", "quick")
    monkeypatch.setenv("AUTOTUNE_EFORT", "quick")
    assert main(["env", "--json"]) == ExitCode.DONE
    captured = capfd.readouterr()
    told = json.loads(captured.out)
    assert list(told) == [variable_name(name) for name in SETTINGS]
    assert (told["AUTOTUNE_EFFORT"]["value"], told["AUTOTUNE_EFFORT"]["origin"]) == ("quick", "environment")
    assert told["AUTOTUNE_RANDOM_SEED"]["origin"] == "default"
    assert "AUTOTUNE_EFORT is set and has no meaning" in captured.err
    assert main(["env"]) == ExitCode.DONE
    assert "AUTOTUNE_BENCHMARK_TIMEOUT" in capfd.readouterr().out
    monkeypatch.setenv("AUTOTUNE_EFFORT", "fast")
    assert main(["env"]) == ExitCode.ERROR
    assert capfd.readouterr().err.count("\n") >= 1
