"""`autotune ask` and `autotune tell`: a loop in a shell, several at once, and the mistakes of their users."""

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autotune import Config, replay
from autotune.cli import ExitCode, main
from autotune.core.search.messages import Observed
from autotune.shell.journal import read_journal
from tests.cli.command import COMMAND, autotune
from tests.support import DOCS

SPACE = {
    "parameters": {
        "tile": {"type": "power_of_two", "low": 8, "high": 64},
        "order": ["ij", "ji"],
        "fast": {"type": "boolean"},
    },
    "constraints": ["tile <= 32 or not fast"],
    "default": {"tile": 8, "order": "ij", "fast": False},
}
ASK = ["ask", "run.jsonl", "--space", "space.json", "--evaluations", "5", "--strategy", "random_search"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == ExitCode.DONE, capfd.readouterr().err
    return capfd.readouterr().out.strip()


def test_a_loop_asks_and_tells_until_the_search_is_over(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    seen = []
    while (code := main(ASK)) == ExitCode.DONE:
        config = Config.from_json(capfd.readouterr().out)
        seen.append(config)
        assert main(["tell", "run.jsonl", config.to_json(), "--time-ms", str(100 / config["tile"])]) == ExitCode.DONE
    assert code == ExitCode.OVER
    assert "the search is over (the budget of 5 evaluations is spent)" in capfd.readouterr().err
    assert len(set(seen)) == 5
    assert seen[0] == SPACE["default"]
    assert main(["replay", "run.jsonl"]) == ExitCode.DONE
    assert main(["show", "run.jsonl"]) == ExitCode.DONE
    assert "5 timed" in capfd.readouterr().out


@pytest.mark.slow
def test_processes_take_turns(here: Path) -> None:
    """Five first commands at once: one begins the journal, and each gets a config of its own."""
    with ThreadPoolExecutor(5) as pool:
        done = list(pool.map(lambda _: autotune(*ASK, cwd=here), range(5)))
    assert [one.returncode for one in done] == [ExitCode.DONE] * 5, [one.stderr for one in done]
    assert len({one.stdout for one in done}) == 5
    assert replay(here / "run.jsonl").divergence is None


def test_a_config_is_printed_as_other_programs_read_it(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert json.loads(printed(capfd, *ASK)) == SPACE["default"]
    told = Config({"tile": 16, "order": "ji", "fast": True})
    shell = printed(capfd, *ASK, "--format", "shell")
    script = f'{shell}\nprintf "%s\\n" "$tile" "$order" "$fast" "$AUTOTUNE_CONFIG"'
    lines = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    values = dict(Config.from_json(lines[3]))
    assert lines[:3] == [str(values["tile"]), values["order"], json.dumps(values["fast"])]
    assert main(["tell", "run.jsonl", told.to_json(), "--time-ms", "1", "--time-ms", "2"]) == ExitCode.DONE
    flags = printed(capfd, *ASK, "--format", "flags").split()
    assert flags[0].startswith("--tile=")
    assert set(flags[2:]) <= {"--fast"}


def test_the_one_config_that_is_out_need_not_be_named(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    printed(capfd, *ASK)
    assert main(["tell", "run.jsonl", "--failed", "no such tile", "--kind", "compile_error"]) == ExitCode.DONE
    (found,) = [event for event in read_journal(here / "run.jsonl").events if isinstance(event, Observed)]
    assert (found.outcome.kind, found.outcome.message) == ("compile_error", "no such tile")
    for _ in range(2):
        printed(capfd, *ASK)
    assert main(["tell", "run.jsonl", "--time-ms", "1"]) == ExitCode.ERROR
    assert "2 configs are out; name the one" in capfd.readouterr().err


def test_a_space_may_come_from_python(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With a function as its constraint the file is needed each time; without one it is read once."""
    (here / "spaces.py").write_text(
        "from autotune import Integer, Space\nspace = Space({'x': Integer(0, 9)}, default={'x': 1})\n"
        "def odd(x):\n    return x % 2 == 1\nguarded = Space({'x': Integer(0, 9)}, [odd], default={'x': 1})\n"
    )
    assert printed(capfd, "ask", "plain.jsonl", "--space", "spaces.py") == '{"x":1}'
    assert printed(capfd, "ask", "odd.jsonl", "--space", "spaces.py:guarded") == '{"x":1}'
    (here / "spaces.py").rename(here / "moved.py")
    printed(capfd, "ask", "plain.jsonl", "--space", "spaces.py")
    assert main(["tell", "odd.jsonl", '{"x":1}', "--time-ms", "2"]) == ExitCode.ERROR
    assert "is a Python function" in capfd.readouterr().err
    assert main(["tell", "odd.jsonl", '{"x":1}', "--time-ms", "2", "--space", "moved.py:guarded"]) == ExitCode.DONE


MISTAKES = [
    (["ask", "none.jsonl"], "none.jsonl does not exist yet; name the space with --space FILE"),
    (["ask", "none.jsonl", "--space", "bad.json"], "bad.json holds no space: Object contains unknown field `params`"),
    (["ask", "none.jsonl", "--space", "gone.json"], "gone.json cannot be read"),
    (
        [*ASK[:-4], "--evaluations", "9"],
        "run.jsonl was begun with evaluations = 5, which --evaluations 9 cannot change",
    ),
    ([*ASK, "--format", "xml"], "--format xml: unknown; use one of json, shell, flags"),
    (["tell", "run.jsonl"], "give either --time-ms X or --failed MESSAGE"),
    (["tell", "run.jsonl", "{tile", "--time-ms", "1"], "not a config in JSON"),
    (["tell", "run.jsonl", '{"tile":8}', "--time-ms", "1"], "has no value for 'order'"),
    (["tell", "run.jsonl", "--failed", "x", "--kind", "odd"], "kind is 'odd'"),
    (["tell", "gone.jsonl", "--time-ms", "1"], "gone.jsonl cannot be read"),
]


def test_mistakes_are_one_sentence_with_the_remedy(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "bad.json").write_text('{"params": {}}')
    printed(capfd, *ASK)
    for arguments, message in MISTAKES:
        assert main(arguments) == ExitCode.ERROR, arguments
        told = capfd.readouterr()
        assert message in told.err
        assert (told.out, told.err.count("\n")) == ("", 1)


def test_a_journal_from_elsewhere_sets_no_variable_of_the_shell(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    faults = {
        "PATH": "that shells and programs read themselves",
        "LD_PRELOAD": "that shells",
        "a b": "cannot be the name",
    }
    for name, message in faults.items():
        (here / "odd.json").write_text(json.dumps({"parameters": {name: [1, 2]}}))
        assert main(["ask", f"{name}.jsonl", "--space", "odd.json", "--format", "shell"]) == ExitCode.ERROR
        assert message in capfd.readouterr().err


@pytest.mark.skipif(shutil.which("awk") is None, reason="the example's program is a script of awk")
@pytest.mark.slow
def test_the_example_of_a_shell_script_finds_the_best(here: Path) -> None:
    (here / "autotune").write_text(f'#!/bin/sh\nexec {COMMAND[0]} -m autotune "$@"\n')
    (here / "autotune").chmod(0o755)
    path = f"{here}:/usr/local/bin:/usr/bin:/bin"
    done = subprocess.run(
        ["sh", DOCS / "examples" / "own_loop.sh"],
        env={"PATH": path, "HOME": str(here)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"tile":64' in done.stdout
