"""The command line as its users meet it: exit codes, stdout and stderr, and every mistake in one sentence."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from autotune.cli import COMMANDS, ExitCode, main
from autotune.cli.show import JournalSummary, Optimum, RecordingSummary
from autotune.core.config import Config
from autotune.core.search.messages import Asked
from autotune.core.search.result import Finalist, MeasuredConfig, Result
from autotune.shell.journal import JournalWriter, read_journal
from tests.support import DOCS

PROBLEMS = """
import os
import time
import numpy as np
from autotune import (Budget, CallableEvaluator, Choice, EvaluatorError, Failed, Integer, PowerOfTwo, Problem,
                      SimulatedEvaluator, Space, Timed)

class Table:
    def __init__(self, delay_s=0.0, broken=False):
        self.delay_s, self.broken = delay_s, broken
    def outcome(self, config):
        time.sleep(self.delay_s)
        if self.broken or config["stages"] == 7:
            kind = "compile_error" if config["stages"] % 2 else "out_of_memory"
            return Failed(kind, "too many stages", compile_s=0.2)
        return Timed((1 + abs(config["BLOCK"] - 32) / 16 + config["stages"] / 8,), compile_s=0.5, run_s=0.1)
    def samples(self, config):
        outcome = self.outcome(config)
        return np.array([] if isinstance(outcome, Failed) else [outcome.time_ms * (1 + i / 100) for i in range(-2, 3)])

space = Space({"BLOCK": PowerOfTwo(1, 256), "stages": Integer(1, 9), "order": Choice(["ij", None])},
              default={"BLOCK": 1, "stages": 9, "order": None})

def simulated(table, space=space, **options):
    return Problem(space, SimulatedEvaluator(table, compile_workers=3, noise="resample"), "random_search",
                   budget=Budget(evaluations=50), **options)

problem = simulated(Table())
slow = simulated(Table(delay_s=0.004))
broken = simulated(Table(broken=True))
other = simulated(Table(), Space({"BLOCK": PowerOfTwo(1, 128), "stages": Integer(1, 9)}))
tuned = simulated(Table(), settings={"count": 12, "verify_rounds": 4})

def even(BLOCK):
    return BLOCK != 64

guarded = simulated(Table(), Space(dict(space.parameters), [even], default=space.default))

def build(config):
    print("build prints")
    os.write(1, b"as C would\\n")
    wait = config["wait_ms"] / 1000
    def kernel():
        print("the kernel prints")
        time.sleep(wait)
    return kernel

sleepy = Space({"wait_ms": Choice([60, 90]), "lane": Integer(0, 40)}, default={"wait_ms": 90, "lane": 0})
brief = Space({"wait_ms": Integer(1, 3)}, default={"wait_ms": 3})
quick = dict(warmup_ms=0, target_ms=1, min_repeats=3, max_repeats=3)
real = Problem(sleepy, CallableEvaluator(build, **quick), "random_search")
here = Problem(brief, CallableEvaluator(build, isolation="in_process", **quick), "random_search")
class Absent(CallableEvaluator):
    def open(self, space, past=()):
        raise EvaluatorError("there is no device; plug one in")

absent = Problem(brief, Absent(build))

def no_arguments():
    raise RuntimeError("no data")

unfed = Problem(brief, CallableEvaluator(build, make_args=no_arguments))
no_evaluator = Problem(brief, 3)
no_value = Problem(brief, CallableEvaluator)
no_space = Problem({"x": 1}, CallableEvaluator(build))
no_budget = Problem(brief, CallableEvaluator(build), budget=100)
print("the file prints")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "problems.py").write_text(PROBLEMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def autotune(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """The installed command, in a process of its own."""
    command = [sys.executable, "-c", "import sys; from autotune.cli import main; sys.exit(main())", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


@contextmanager
def started(*arguments: str) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-c", "import sys; from autotune.cli import main; sys.exit(main())", *arguments]
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in the background may inherit deafness
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heeding)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def await_in(journal: Path, ready: Callable[[str], bool]) -> None:
    until = time.monotonic() + 30
    while not (journal.exists() and ready(journal.read_text())):
        assert time.monotonic() < until, "the journal never got there"
        time.sleep(0.002)


def found(stdout: str) -> dict[str, Any]:
    """The JSON on stdout without the journal's name; one object on one line and nothing else."""
    assert stdout.count("\n") == 1
    result: dict[str, Any] = json.loads(stdout)
    result.pop("journal", None)
    return result


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


FULL = "autotune: nothing more can be written (No space left on device); make room, then resume the journal\n"

# What is printed


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
        "complete", "notes", "drift",
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
    done = autotune("tune", "problems.py:broken", "--json")
    assert done.returncode == ExitCode.NOTHING_TIMED
    assert done.stdout == ""
    assert "configs failed" in done.stderr
    assert "compile error" in done.stderr
    assert "out of memory" in done.stderr
    shown = autotune("show", "problems-broken.journal.jsonl", "--json")
    assert json.loads(shown.stdout)["result"] is None


def test_a_result_can_be_piped_to_head(folder: Path) -> None:
    main(["tune", "problems.py:tuned", "--journal", "j.jsonl"])
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", "import sys; from autotune.cli import main; sys.exit(main())", "show", "j.jsonl"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (ExitCode.PIPE_CLOSED, "")


def test_a_full_disk_is_said(journal: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", "import sys; from autotune.cli import main; sys.exit(main())"]
        done = subprocess.run([*command, "show", "j.jsonl"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == ExitCode.ERROR
    assert done.stderr == FULL


# Stopping and going on


def test_an_interrupt_before_the_search_is_quiet(folder: Path) -> None:
    (folder / "sleeps.py").write_text("import pathlib, time\npathlib.Path('here').touch()\ntime.sleep(60)\n")
    with started("tune", "sleeps.py") as process:
        await_in(folder / "here", lambda text: True)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (ExitCode.INTERRUPTED, "", "")


@pytest.fixture
def whole(folder: Path, capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What a search finds that nothing disturbs; the slow table gives the same on its simulated clock."""
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


# Replays that differ, journals that are damaged


@pytest.fixture
def journal(folder: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    assert main(["tune", "problems.py:tuned", "--journal", "j.jsonl"]) == ExitCode.DONE
    capfd.readouterr()
    return folder / "j.jsonl"


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


# Mistakes: one sentence on stderr, nothing on stdout


FILES = {
    "syntax.py": "from autotune import Space\nspace = Space(\n",
    "raises.py": "import json\n\ndef read():\n    return json.loads('{')\n\nread()\n",
    "empty.py": "",
    "ExitCode.py": "import sys\nsys.exit(3)\n",
    "space.py": "from autotune import Space\n\nspace = Space({})\n",
    "missing.py": "import not_there\n",
    "helped.py": "import helper_with_a_fault\n",
    "helper_with_a_fault.py": "x = = 1\n",
    "text.txt": "hello\n",
    "empty.jsonl": "",
    "other.jsonl": '{"format":"something","version":1}\n',
    "newer.jsonl": '{"format":"autotune-journal","version":99}\n',
    "cut.json": '{"results": [1, ',
    "list.json": "[\n1,\n2]",
    "score.json": '{"results": [{"configuration": {"x": 1}, "objectives": ["score"], "measurements": '
    '[{"name": "score", "value": 3}]}]}',
}

SCORE = ["--evaluations", "3", "--objective", "score", "--direction", "higher"]

MISTAKES: list[tuple[str, list[str], int, list[str]]] = [
    ("no file", ["tune", "nothing.py"], 1, ["nothing.py cannot be read (No such file or directory)"]),
    ("folder for a file", ["tune", "."], 1, [". is a directory"]),
    ("syntax error", ["tune", "syntax.py"], 1, ["syntax.py, line 2: '(' was never closed"]),
    ("syntax error of a helper", ["tune", "helped.py"], 1, ["helper_with_a_fault.py, line 1: invalid syntax"]),
    ("file raises", ["tune", "raises.py"], 1, ["raises.py, line 4: JSONDecodeError"]),
    ("file exits", ["tune", "ExitCode.py"], 1, ["ExitCode.py ended the process", "__main__"]),
    ("module missing", ["tune", "missing.py"], 1, ["missing.py, line 1", "not_there"]),
    ("bad space", ["tune", "space.py"], 1, ["space.py, line 3: a space needs at least one parameter"]),
    ("no problem", ["tune", "empty.py"], 1, ["empty.py has no 'problem'", "Problem(space, evaluator)"]),
    ("no such name", ["tune", "problems.py:nope"], 1, ["no 'nope'", "problem, slow", "problems.py:problem"]),
    ("wrong type", ["tune", "problems.py:space"], 1, ["space is of type Space, not Problem"]),
    ("bad name", ["tune", "problems.py:a-b"], 1, ["'a-b' cannot be the name of a value"]),
    ("unknown strategy", ["tune", "problems.py", "--strategy", "patern_search"], 1, ["did you mean 'pattern_search'"]),
    ("unknown effort", ["tune", "problems.py", "--effort", "max"], 1, ["none, quick, full"]),
    ("bad budget", ["tune", "problems.py", "--evaluations", "0"], 1, ["evaluations = 0"]),
    ("not a number", ["tune", "problems.py", "--evaluations", "many"], 2, ["--evaluations", "autotune tune --help"]),
    ("set without =", ["tune", "problems.py", "--set", "copies"], 1, ["--set copies", "key=value"]),
    ("set unknown", ["tune", "problems.py", "--set", "cuont=3"], 1, ["did you mean 'count'"]),
    ("set of wrong type", ["tune", "problems.py", "--set", "count=many"], 1, ["count", "int"]),
    ("seed config not JSON", ["tune", "problems.py", "--seed-config", "{BLOCK"], 1, ["not a config in JSON"]),
    ("seed config file", ["tune", "problems.py", "--seed-config", "@no.json"], 1, ["no.json cannot be read"]),
    ("seed config outside", ["tune", "problems.py", "--seed-config", '{"BLOCK":3}'], 1, ["seed config 0", "BLOCK = 3"]),
    ("evaluator cannot start", ["tune", "problems.py:absent"], 1, ["there is no device"]),
    ("arguments cannot be made", ["tune", "problems.py:unfed"], 1, ["RuntimeError: no data"]),
    ("not an evaluator", ["tune", "problems.py:no_evaluator"], 1, ["no_evaluator has an evaluator, int"]),
    ("class for evaluator", ["tune", "problems.py:no_value"], 1, ["CallableEvaluator, that is a class"]),
    ("not a space", ["tune", "problems.py:no_space"], 1, ["no_space has a space of type dict"]),
    ("not a budget", ["tune", "problems.py:no_budget"], 1, ["no_budget has a budget of type int"]),
    ("both journals", ["tune", "problems.py", "--no-journal", "--journal", "x"], 1, ["contradict"]),
    ("journal exists", ["tune", "problems.py", "--journal", "j.jsonl"], 1, ["j.jsonl exists; resume it"]),
    ("journal is a folder", ["tune", "problems.py", "--journal", "."], 1, ["journal ."]),
    (
        "save nowhere",
        ["tune", "problems.py", "--save-config", "no/best.json"],
        1,
        ["there is no directory", "make it first"],
    ),
    ("unknown option", ["tune", "problems.py", "--budget", "3"], 2, ["--budget", "autotune tune --help"]),
    ("unknown command", ["tun"], 2, ["'tun'", "autotune --help"]),
    ("no argument", ["resume", "j.jsonl"], 2, ["FILE[:NAME]", "autotune resume --help"]),
    ("resume another space", ["resume", "j.jsonl", "problems.py:other"], 1, ["j.jsonl was made with another space"]),
    ("resume another evaluator", ["resume", "j.jsonl", "problems.py:real"], 1, ["j.jsonl was made with another space"]),
    ("resume nothing", ["resume", "nothing.jsonl", "problems.py"], 1, ["nothing.jsonl cannot be read"]),
    ("resume a folder", ["resume", ".", "problems.py"], 1, [". cannot be read"]),
    ("resume a flipped byte", ["resume", "flipped.jsonl", "problems.py"], 1, ["flipped.jsonl: line 4 is damaged"]),
    ("replay a flipped byte", ["replay", "flipped.jsonl"], 1, ["flipped.jsonl: line 4 is damaged"]),
    ("replay an empty file", ["replay", "empty.jsonl"], 1, ["nothing was recorded yet"]),
    ("replay text", ["replay", "text.txt"], 1, ["text.txt is not a journal"]),
    ("replay another format", ["replay", "other.jsonl"], 1, ["not a journal of autotune but 'something'"]),
    ("replay the future", ["replay", "newer.jsonl"], 1, ["journal format 99", "upgrade"]),
    ("replay another space", ["replay", "j.jsonl", "--problem", "problems.py:other"], 1, ["another space"]),
    ("show nothing", ["show", "nothing"], 1, ["nothing cannot be read"]),
    ("show a folder", ["show", "."], 1, [". is a directory"]),
    ("show text", ["show", "text.txt"], 1, ["text.txt"]),
    ("show a flipped byte", ["show", "flipped.jsonl"], 1, ["flipped.jsonl: line 4 is damaged"]),
    ("resume swapped", ["resume", "problems.py", "j.jsonl"], 1, ["problems.py is no journal", "resume JOURNAL FILE"]),
    ("resume a journal", ["resume", "j.jsonl", "j.jsonl"], 1, ["j.jsonl is a journal of a search, and not executed"]),
    ("replay swapped", ["replay", "problems.py", "--problem", "j.jsonl"], 1, ["problems.py is no journal"]),
    ("replay a journal", ["replay", "j.jsonl", "--problem", "j.jsonl"], 1, ["j.jsonl is a journal", "not executed"]),
    ("tune a journal", ["tune", "j.jsonl"], 1, ["j.jsonl is a journal", "not executed"]),
    ("tune JSON", ["tune", "score.json"], 1, ["score.json is JSON, and not executed"]),
    ("tune cut JSON", ["tune", "cut.json"], 1, ["cut.json is JSON, and not executed"]),
    ("tune a list", ["tune", "list.json"], 1, ["list.json is JSON, and not executed"]),
    ("compile JSON", ["compile", "score.json", "--target", "sm_90"], 1, ["score.json is JSON, and not executed"]),
    ("explain JSON", ["cache", "explain", "score.json"], 1, ["score.json is JSON, and not executed"]),
    ("record swapped", ["record", "out.json", "problems.py"], 1, ["problems.py: its name says Python"]),
    ("record CSV", ["record", "problems.py", "out.csv"], 1, ["out.csv: its name says CSV", "out.json"]),
    (
        "traces as CSV",
        ["simulate", "builtin:rms_norm", "--evaluations", "3", "--traces", "t.csv"],
        1,
        ["t.csv", "t.jsonl"],
    ),
    (
        "traces on the recording",
        ["simulate", "score.json", *SCORE, "--traces", "score.json"],
        1,
        ["it is the recording"],
    ),
    ("import on itself", ["import", "score.json", "score.json", *SCORE[2:]], 1, ["is the file that is read"]),
    ("config as TOML", ["tune", "problems.py", "--save-config", "best.toml"], 1, ["its name says TOML", "best.json"]),
    ("save to a long name", ["tune", "problems.py", "--save-config", "x" * 300], 1, ["File name too long"]),
    ("tune a long name", ["tune", "x" * 300], 1, ["cannot be read (File name too long)"]),
    ("explain a long name", ["cache", "explain", "x" * 300], 1, ["no entry"]),
    ("show an objective", ["show", "score.json"], 1, ["'score' is better is said nowhere", "--objective NAME"]),
    ("show the other way", ["show", "score.json", "--objective", "score", "--direction", "up"], 1, ["lower or higher"]),
    ("simulate an objective", ["simulate", "score.json", "--evaluations", "3"], 1, ["'score'", "--objective NAME"]),
    (
        "objective of a journal",
        ["show", "j.jsonl", "--objective", "score"],
        1,
        ["j.jsonl is a journal, whose objective is a time"],
    ),
]


@pytest.mark.parametrize(("arguments", "code", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_one_sentence(
    journal: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, words: list[str]
) -> None:
    for name, text in FILES.items():
        Path(name).write_text(text)
    lines = journal.read_bytes().split(b"\n")
    lines[3] = lines[3].replace(b'"at":', b'"bt":')
    Path("flipped.jsonl").write_bytes(b"\n".join(lines))
    before = set(os.listdir())
    assert main(arguments) == code
    captured = capfd.readouterr()
    assert captured.out == ""
    complaint = [line for line in captured.err.splitlines() if line != "the file prints"]
    assert len(complaint) == 1, captured.err
    assert complaint[0].startswith("autotune")
    for word in words:
        assert word in complaint[0]
    assert set(os.listdir()) - before <= {"__pycache__"}, "a mistake leaves no file behind"


def test_a_mistake_reaches_the_shell_without_a_traceback(folder: Path) -> None:
    done = autotune("tune", "nothing.py")
    assert (done.returncode, done.stdout) == (ExitCode.ERROR, "")
    assert done.stderr.count("\n") == 1
    assert autotune().returncode == ExitCode.USAGE
    assert autotune("--version").stdout.startswith("autotune 0.")
    helped = autotune("tune", "--help")
    assert helped.returncode == ExitCode.DONE
    assert "--seed-config" in helped.stdout


def test_help_is_quick() -> None:
    """What is loaded is what takes time."""
    code = (
        "import sys; from autotune.cli import main; main(['--help']); "
        "print([name for name in ('rich', 'numpy', 'msgspec', 'torch') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == "[]\n"


def test_the_documentation_knows_every_option_exit_code_and_field(capfd: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "command-line.md").read_text()
    for name, short in COMMANDS.items():
        assert f"\n## autotune {name} " in text
        section = text.partition(f"\n## autotune {name} ")[2].partition("\n## ")[0]
        assert main([name, "--help"]) == ExitCode.DONE
        usage, _, options = capfd.readouterr().out.partition("Options:")
        assert short.rstrip(".") in " ".join(usage.split()), (
            "the list of commands and the command itself say different things"
        )
        for part in re.findall(r"^  ([a-z]+) ", options.partition("Commands:")[2], re.MULTILINE):
            assert main([name, part, "--help"]) == ExitCode.DONE
            assert f"| `{part}" in section, f"{name} {part} is not documented"
            options += capfd.readouterr().out.partition("Options:")[2]
        for option in re.findall(r"--[a-z-]+", options):
            assert option == "--help" or f"`{option}" in section, f"{option} of {name} is not documented"
    for code in ExitCode:
        assert f"\n| {code} |" in text
    for fields in (Result, MeasuredConfig, Finalist, JournalSummary, RecordingSummary, Optimum):
        for field in fields.__struct_fields__:
            assert f"`{field}`" in text, f"the field {field} of {fields.__name__} is not documented"
