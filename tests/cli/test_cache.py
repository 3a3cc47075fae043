"""`autotune cache`: list, show, explain, merge, export and prune."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune import Budget, Cache, CallableEvaluator, Config, PowerOfTwo, Space, tune
from autotune.cli import ExitCode, main
from autotune.core.parameters import Boolean
from autotune.interop.seed_configs import fit_seeds
from autotune.interop.tuned_configs import FORMATS, read_tuned_configs

PROBLEM = """
from autotune import CallableEvaluator, Integer, Problem, Space
def build(config):
    return lambda: None
def timer(call):
    call()
    return 1.0
space = Space({"a": Integer(0, 5)}, default={"a": 0})
evaluator = CallableEvaluator(build, isolation="in_process", timer=timer, warmup_ms=0, target_ms=0, max_repeats=3)
problem = Problem(space, evaluator, "random_search")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOTUNE_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "p.py").write_text(PROBLEM)
    return tmp_path


def told(capfd: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == ExitCode.DONE
    return json.loads(capfd.readouterr().out)


def test_the_command_line_from_a_search_to_an_export(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "list"]) == ExitCode.DONE
    assert "no entries" in capfd.readouterr().out
    first = told(capfd, "tune", "p.py", "--cache", "--quiet")
    again = told(capfd, "tune", "p.py", "--cache", "--quiet")
    assert again["best"] == first["best"]
    assert again["journal"] is None
    assert told(capfd, "tune", "p.py", "--force", "--quiet", "--no-journal")["evaluations"] == 6
    (row,) = told(capfd, "cache", "list")["entries"]
    assert (row["kernel"], row["state"], row["measured"]) == ("autotune_file_p.build", "finished", 6)
    shown = told(capfd, "cache", "show", row["run"][:6])
    assert shown["entry"] == row["entry"]
    assert len(shown["measurements"]) == 6
    explained = told(capfd, "cache", "explain", "p.py")
    assert explained["nearest"][0]["hit"] is True
    (folder / "p.py").write_text(PROBLEM.replace("None\n", "1\n"))
    explained = told(capfd, "cache", "explain", "p.py", "--strict")
    assert [d["field"] for d in explained["nearest"][0]["differences"]] == ["source"]
    assert told(capfd, "cache", "export", "out", "--best", "--results", "--kernel", "p.build")["entries"] == 1
    assert told(capfd, "cache", "export", "none", "--device", "no such device")["entries"] == 0
    (shipped,) = Cache(folder / "out").newest()
    assert shipped.finished
    assert shipped.measurements == ()
    merged = told(capfd, "cache", "merge", "out", "--cache-dir", "cache")["merged"]["out"]
    assert merged == {"copied": 0, "known": 1, "broken": 0}
    assert told(capfd, "cache", "prune", "--older-than", "0", "--dry-run")["removed"] is False
    assert len(told(capfd, "cache", "list")["entries"]) == 1
    assert len(told(capfd, "cache", "prune", "--older-than", "0")["files"]) == 1
    assert told(capfd, "cache", "list")["entries"] == []


def test_the_command_line_for_people(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "p.py", "--cache-dir", "cache", "--quiet"]) == ExitCode.DONE
    assert main(["tune", "p.py", "--cache", "--quiet"]) == ExitCode.DONE
    out = capfd.readouterr().out
    assert "from the cache: measured" in out
    assert "journal    p.journal.jsonl" in out
    for arguments in (["list"], ["explain", "p.py"], ["prune"], ["export", "out"], ["merge", "out"]):
        assert main(["cache", *arguments]) == ExitCode.DONE
    out = capfd.readouterr().out
    for words in ("autotune_file_p.build", "hit", "every field of the key is the same", "removed  0 files", "1 known"):
        assert words in out
    (entry,) = Cache().newest()
    assert main(["cache", "show", entry.run.id]) == ExitCode.DONE
    assert entry.run.id in capfd.readouterr().out
    assert main(["cache", "explain", entry.run.id]) == ExitCode.DONE
    assert "no other entries" in capfd.readouterr().out


def test_explain_says_which_shape_would_serve_another(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    space = Space({"BLOCK": PowerOfTwo(1, 4)}, default={"BLOCK": 1})

    def build(config: Config) -> Any:
        return lambda n: None

    for n in (8, 64):
        evaluator = CallableEvaluator(build, args=(n,), isolation="in_process")
        tune(space, evaluator, "random_search", budget=Budget(evaluations=3), cache=folder / "cache", journal=False)
    far, near = (entry.run.id for entry in Cache("cache").newest())
    explain = ["cache", "explain", far, "--cache-dir", "cache"]
    assert main(explain) == ExitCode.DONE
    assert "miss=nearest" not in capfd.readouterr().out, "the key itself has a result"
    assert main([*explain, "--with", "0=10"]) == ExitCode.DONE
    assert "no config for 0=10; uses that of 0=8 (tuned " in capfd.readouterr().out
    told_of = told(capfd, *explain, "--with", "0=20")["nearest_shape"]
    assert (told_of["run"], told_of["shape"]) == (near, "0=8")
    assert main([*explain, "--with", "n=10"]) == ExitCode.ERROR
    assert "--with n: the key has no such value; it has 0" in capfd.readouterr().err


def test_the_cache_is_exported_by_a_field_of_its_keys(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    space = Space({"BLOCK": PowerOfTwo(1, 4), "flag": Boolean()}, default={"BLOCK": 1, "flag": False})

    def build(config: Config) -> Any:
        return lambda x, n: None

    for n in (8, 64):
        evaluator = CallableEvaluator(build, args=(np.zeros(n), n), isolation="in_process")
        tune(space, evaluator, "random_search", budget=Budget(evaluations=3), cache=folder / "cache", journal=False)
    options = ["--cache-dir", "cache", "--export-format", "sglang"]
    assert main(["cache", "export", "x.json", *options]) == ExitCode.ERROR
    assert "--by FIELD; the entries have kernel, source" in capfd.readouterr().err
    assert main(["cache", "export", "x.json", *options, "--by", "kernel"]) == ExitCode.ERROR
    assert "and no size" in capfd.readouterr().err
    assert (
        main(["cache", "export", "N=1.json", *options, "--by", "specialization.arguments.0.shape.0"]) == ExitCode.DONE
    )
    assert "2 configs to N=1.json, for sglang" in capfd.readouterr().out
    found = read_tuned_configs("N=1.json")
    assert [entry.labels for entry in found.entries] == [{"M": 8}, {"M": 64}]
    assert all(space.check(entry.config) for entry in found.entries)
    assert set(FORMATS) == {"vllm", "sglang", "flash-linear-attention", "flashinfer", "triton"}
    assert fit_seeds(found, space).configs


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "zz"], "has no entry 'zz'"),
        (["list", "--cache-dir", "nothing"], "there is no directory nothing"),
        (["merge", "nothing"], "there is no directory nothing"),
        (["explain", "nothing.py"], "nothing.py cannot be read"),
        (["export", "x.json", "--export-format", "vllm"], "there is no config to write"),
    ],
)
def test_mistakes(folder: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    (folder / "cache").mkdir()
    assert main(["cache", *arguments]) == ExitCode.ERROR
    captured = capfd.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (folder / "x.json").exists()
