"""The command line as its users meet it: mistakes are one sentence each, help is quick, and pages know the options."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from autotune.cli import COMMANDS, ExitCode, main
from autotune.cli.show import JournalSummary, Optimum, RecordingSummary
from autotune.core.search.result import Finalist, MeasuredConfig, Result
from autotune.core.strategies.registry import DEFAULT_STRATEGY
from tests.cli.command import COMMAND, autotune
from tests.support import DOCS

FULL = "autotune: nothing more can be written (No space left on device); make room, then resume the journal\n"

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
    ("syntax error", ["tune", "syntax.py"], 1, ["syntax.py, line 2: '(' was never closed, in `space = Space(`"]),
    ("syntax error of a helper", ["tune", "helped.py"], 1, ["helper_with_a_fault.py, line 1: invalid syntax"]),
    ("file raises", ["tune", "raises.py"], 1, ["raises.py, line 4: JSONDecodeError", "in `return json.loads('{')`"]),
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
    ("not a budget", ["tune", "problems.py:no_budget"], 1, ["no_budget: budget is '100'"]),
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


def test_a_result_can_be_piped_to_head(folder: Path) -> None:
    main(["tune", "problems.py:tuned", "--journal", "j.jsonl"])
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, "show", "j.jsonl"], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (ExitCode.PIPE_CLOSED, "")


def test_a_full_disk_is_said(journal: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "show", "j.jsonl"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == ExitCode.ERROR
    assert done.stderr == FULL


def test_help_cuts_no_sentence(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == ExitCode.DONE
    lines = capfd.readouterr().out.partition("Commands:")[2].strip().splitlines()
    assert [" ".join(line.split()) for line in lines] == [f"{name} {text}" for name, text in COMMANDS.items()]


def test_a_module_of_an_extra_that_is_missing_is_named_with_its_command(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def import_lazily(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("autotune.cli.tune.load_problem", import_lazily)
    assert main(["tune", "problems.py"]) == ExitCode.ERROR
    assert capfd.readouterr().err == "autotune: torch is not installed; pip install 'autotune-kernels[triton]'\n"


NO_JSON = {
    "ask": "--format says how its config is printed, as JSON if nothing is said",
    "tell": "it prints nothing",
    "run": "what is printed is the program's",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_prints_for_people_prints_json_too(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == ExitCode.DONE
    text = capfd.readouterr().out
    parts = re.findall(r"^  ([a-z]+) ", text.partition("Commands:")[2], re.MULTILINE)
    for part in parts:
        assert main([name, part, "--help"]) == ExitCode.DONE
        assert "--json" in capfd.readouterr().out, f"{name} {part}"
    assert parts or ("--json" in text) == (name not in NO_JSON)


def test_strategies_and_settings_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["strategies", "--json"]) == ExitCode.DONE
    listed = json.loads(capfd.readouterr().out)
    assert [name for name, one in listed.items() if one["default"]] == [DEFAULT_STRATEGY]
    assert main(["strategies"]) == ExitCode.DONE
    assert f"{DEFAULT_STRATEGY} (default)" in capfd.readouterr().out
    assert main(["tune", "--help"]) == ExitCode.DONE
    text = " ".join(capfd.readouterr().out.split())
    assert all(one["line"] in text for one in listed.values() if one["package"] == "autotune")
    assert "autotune settings" in text
    for name in [*listed, "search"]:
        assert main(["settings", name, "--json"]) == ExitCode.DONE
        fields = json.loads(capfd.readouterr().out)
        assert main(["settings", name]) == ExitCode.DONE
        rows = capfd.readouterr().out.splitlines()[1:]
        assert [row.split()[0] for row in rows] == list(fields)
    assert main(["settings", "patern_search"]) == ExitCode.ERROR
    assert "did you mean 'pattern_search'" in capfd.readouterr().err


def test_help_is_quick() -> None:
    """What is loaded is what takes time."""
    code = (
        "import sys; from autotune.cli import main; main(['--help']); "
        "print([name for name in ('rich', 'numpy', 'msgspec', 'torch') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == "[]\n"


def test_the_documentation_knows_every_option_exit_code_and_field(capfd: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "reference" / "command_line.md").read_text()
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
