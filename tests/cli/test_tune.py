"""`autotune tune`: what it prints, its options, and how it is stopped."""

import json
import signal
from pathlib import Path

import pytest

from autotune.cli import ExitCode, main
from autotune.core.config import Config
from tests.cli.command import autotune, await_in, found, started


def test_the_story_of_the_readme(folder: Path) -> None:
    done = autotune("tune", "problems.py")
    assert done.returncode == ExitCode.DONE
    assert done.stderr == "the file prints\n"  # quiet: stderr is no terminal
    assert "BLOCK      32    1" in done.stdout
    assert "speed-up" in done.stdout
    assert 'config     {"BLOCK":32,' in done.stdout
    assert "journal    problems.journal.jsonl" in done.stdout

    replayed = autotune("replay", "problems.journal.jsonl")
    assert (replayed.returncode, replayed.stderr) == (ExitCode.DONE, "")
    assert replayed.stdout.startswith("identical: ")
    assert int(replayed.stdout.split()[1]) > 3

    shown = autotune("show", "problems.journal.jsonl")
    assert shown.returncode == ExitCode.DONE
    for text in ("BLOCK   PowerOfTwo", "random_search", "evaluations=50", "finished", "kind=simulated", "numpy="):
        assert text in shown.stdout


def test_json_is_all_of_stdout_whatever_user_code_prints(folder: Path) -> None:
    done = autotune("tune", "problems.py:here", "--json", "--no-journal")
    result = found(done.stdout)
    assert done.returncode == ExitCode.DONE
    assert set(result) == {
        "best", "default", "finalists", "speedup", "counts", "evaluations", "elapsed_s", "stopped", "detail",
        "complete", "notes", "drift", "why", "certificate",
    }  # fmt: skip
    assert result["best"]["config"].keys() == {"wait_ms"}
    assert result["complete"] is True
    assert "the kernel prints" in done.stderr
    assert "as C would" in done.stderr
    assert not list(folder.glob("*.jsonl"))


def test_options_override_the_problem(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ["--seed", "5", "--evaluations", "20", "--generations", "9", "--set", "verify_rounds=3"]
    seeds = ["--seed-config", '{"BLOCK": 16}', "--seed-config", "@seed.json"]
    (folder / "seed.json").write_text('{"BLOCK": 8, "stages": 2, "order": "ij"}')
    saved = ["--save-config", "best.json", "--journal", "mine.jsonl"]
    assert main(["tune", "problems.py:tuned", *options, *seeds, *saved, "--json"]) == ExitCode.DONE
    result = found(capfd.readouterr().out)
    assert len(result["best"]["times_ms"]) == 3
    header = json.loads((folder / "mine.jsonl").read_text().splitlines()[0])["plan"]
    assert header["budget"] == {"evaluations": 20, "generations": 9}
    assert header["seed"] == 5
    assert header["strategy"]["settings"] == {"count": 12}
    assert [Config(seed) for seed in header["seeds"]] == [
        Config(BLOCK=16, stages=9, order=None),  # completed from the default
        Config(BLOCK=8, stages=2, order="ij"),
    ]
    assert Config.from_json((folder / "best.json").read_text()) == result["best"]["config"]


def test_another_strategy_leaves_the_settings_of_the_first_behind(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["tune", "problems.py:tuned", "--strategy", "pattern_search", "--effort", "quick", "--journal", "j"]) == 0
    )
    header = json.loads((folder / "j").read_text().splitlines()[0])["plan"]
    assert header["strategy"]["name"] == "pattern_search"
    assert "count" not in header["strategy"]["settings"]
    assert header["settings"]["verify_rounds"] == 4


def test_a_default_that_is_the_best_is_said(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "problems.py", "--effort", "none", "--no-journal"]) == ExitCode.DONE
    out = capfd.readouterr().out
    assert "default    is the best" in out
    assert "speed-up" not in out


def test_every_run_has_its_own_journal(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        assert main(["tune", "problems.py:tuned"]) == ExitCode.DONE
    names = sorted(path.name for path in folder.glob("*.jsonl"))
    assert names == ["problems-tuned-2.journal.jsonl", "problems-tuned-3.journal.jsonl", "problems-tuned.journal.jsonl"]


def test_nothing_timed_has_its_own_exit_code(folder: Path) -> None:
    done = autotune("tune", "problems.py:broken", "--json", "--set", "hopeless=0")
    assert done.returncode == ExitCode.NOTHING_TIMED
    assert done.stdout == ""
    assert "configs failed" in done.stderr
    assert "compile error" in done.stderr
    assert "out of memory" in done.stderr
    shown = autotune("show", "problems-broken.journal.jsonl", "--json")
    assert json.loads(shown.stdout)["result"] is None


def test_an_interrupt_before_the_search_is_quiet(folder: Path) -> None:
    (folder / "sleeps.py").write_text("import pathlib, time\npathlib.Path('here').touch()\ntime.sleep(60)\n")
    with started("tune", "sleeps.py") as process:
        await_in(folder / "here", lambda text: True)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (ExitCode.INTERRUPTED, "", "")


def test_two_interrupts_stop_at_once(folder: Path) -> None:
    journal = folder / "j.jsonl"
    with started("tune", "problems.py:real", "--journal", "j.jsonl") as process:
        await_in(journal, lambda text: text.count('"observed"') > 2)
        process.send_signal(signal.SIGINT)
        await_in(journal, lambda text: '"interrupted"' in text)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED
    assert out == ""
    assert "stopped at once; go on with: autotune resume j.jsonl problems.py:real" in err
    assert "Traceback" not in err
    done = autotune("replay", "j.jsonl")
    assert done.stdout.startswith("identical")
