"""`autotune run`: a program takes the place of the command, and its environment says what to install."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autotune.backends.triton_decorator.startup import FOLDER
from autotune.cli import ExitCode, main

PROGRAM = """
import os, sys
hooks = [hook for hook in sys.meta_path if type(hook).__module__.startswith("autotune")]
heavy = [name for name in ("numpy", "msgspec", "triton") if name in sys.modules]
given = {name: text for name, text in os.environ.items() if name.startswith("AUTOTUNE_TRITON")}
print(sys.argv[1:], len(hooks), heavy, sorted(given.items()))
sys.exit(7)
"""


@pytest.mark.parametrize("form", ["file", "module", "command"])
def test_a_program_runs_with_the_hook_and_ends_as_its_own(form: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "sitecustomize.py").write_text("import sys\nprint('theirs', file=sys.stderr)\n")
    words = {
        "file": ["--only", "a", "--only", "b.*", "program.py"],
        "module": ["--hull", "-m", "program"],
        "command": ["--report", "--skip", "c", sys.executable, "program.py"],
    }[form]
    variables = {
        "file": [("AUTOTUNE_TRITON_INSTALL", "1"), ("AUTOTUNE_TRITON_ONLY", "a,b.*")],
        "module": [("AUTOTUNE_TRITON_HULL", "1"), ("AUTOTUNE_TRITON_INSTALL", "1")],
        "command": [("AUTOTUNE_TRITON_INSTALL", "1"), ("AUTOTUNE_TRITON_REPORT", "1"), ("AUTOTUNE_TRITON_SKIP", "c")],
    }[form]
    ran = subprocess.run(
        [sys.executable, "-m", "autotune", "run", *words, "--only", "x"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "next")}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 7, ran.stderr
    assert ran.stdout == f"['--only', 'x'] 1 [] {variables}\n"
    assert ran.stderr == "theirs\n" * 2, "of the command and of the program: their own file is executed as before"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nothing.py"], "there is no file nothing.py"),
        (["no-such-program", "--x"], "there is no program no-such-program"),
    ],
)
def test_a_program_that_is_not_there(words: list[str], text: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *words]) == ExitCode.ERROR
    assert capfd.readouterr().err.startswith(f"autotune: {text}")


def test_a_mistake_in_the_environment_is_told_first(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTOTUNE_EFFORT", "fast")
    assert main(["run", sys.executable]) == ExitCode.ERROR
    assert "AUTOTUNE_EFFORT" in capfd.readouterr().err


def test_the_folder_for_the_path_has_nothing_else_that_could_be_imported() -> None:
    assert {path.name for path in Path(FOLDER).glob("*.py")} == {"__init__.py", "sitecustomize.py"}
