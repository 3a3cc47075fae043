"""`autotune show`: recordings, of times and of other objectives. Journals are shown in the tests of other commands."""

import json
from pathlib import Path

import pytest

from autotune.cli import ExitCode, main


def test_a_recording_is_shown(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cache = {
        "device_name": "Test GPU",
        "kernel_name": "adder",
        "problem_size": "64",
        "tune_params_keys": ["x", "y"],
        "tune_params": {"x": [1, 2, 4], "y": [0, 1]},
        "objective": "time",
        "cache": {
            f"{x},{y}": {
                "x": x, "y": y, "time": "CompilationFailedConfig" if (x, y) == (4, 1) else x + y + 0.5,
                "times": [x + y + 0.5] * 2, "compile_time": 1.0, "verification_time": 0, "benchmark_time": 1.0,
                "strategy_time": 0, "framework_time": 0, "timestamp": "2024-01-01 00:00:00+00:00",
            }
            for x in (1, 2, 4) for y in (0, 1)
        },
    }  # fmt: skip
    (folder / "adder.json").write_text(json.dumps(cache))
    assert main(["show", "adder.json", "--json", "--save-config", "best.json"]) == ExitCode.DONE
    summary = json.loads(capfd.readouterr().out)
    assert (summary["kind"], summary["device"], summary["points"]) == ("recording", "Test GPU", 6)
    assert summary["counts"] == {"timed": 5, "compile_error": 1}
    assert summary["optimum"] == {"config": {"x": 1, "y": 0}, "time_ms": 1.5, "key": "1,0"}
    assert summary["quantiles_ms"]["0.5"] == 2.5
    assert json.loads((folder / "best.json").read_text()) == {"x": 1, "y": 0}
    assert main(["show", "adder.json"]) == ExitCode.DONE
    out = capfd.readouterr().out
    assert "6 (all combinations of values)" in out
    assert "optimum" in out


def test_a_recording_of_another_objective_is_shown_and_searched(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    entries = {str(x): {"x": x, "time": 1.0, "GFLOP/s": 100.0 * x} for x in (1, 2, 3)}
    cache = {"tune_params": {"x": [1, 2, 3]}, "objective": "GFLOP/s", "cache": entries}
    (folder / "rates.json").write_text(json.dumps(cache))
    assert main(["show", "rates.json", "--json"]) == ExitCode.DONE
    summary = json.loads(capfd.readouterr().out)
    assert summary["optimum"] == {"config": {"x": 3}, "time_ms": None, "key": "3"}
    assert summary["objective"] == {"name": "GFLOP/s", "direction": "higher", "unit": "GFLOP/s"}
    assert (summary["quantiles"]["0"], summary["quantiles_ms"]) == (pytest.approx(300.0), {})
    assert main(["show", "rates.json"]) == ExitCode.DONE
    shown = capfd.readouterr().out
    assert "objective  GFLOP/s, higher is better" in shown
    assert "optimum   300 GFLOP/s  1x" in shown
    assert "worst     100 GFLOP/s  3x" in shown
    assert " ms" not in shown
    assert main(["simulate", "rates.json", "--evaluations", "3", "--json"]) == ExitCode.DONE
    found = json.loads(capfd.readouterr().out)
    assert (found["optimum"], found["optimum_ms"], found["runs"][0]["best"]) == (300.0, None, 300.0)
    assert main(["simulate", "rates.json", "--evaluations", "3"]) == ExitCode.DONE
    assert "best GFLOP/s" in capfd.readouterr().out
    assert main(["simulate", "rates.json", "--evaluations", "3", "--objective", "time", "--json"]) == ExitCode.DONE
    assert json.loads(capfd.readouterr().out)["optimum_ms"] == 1.0
