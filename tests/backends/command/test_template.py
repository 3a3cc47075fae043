"""Templates of commands: a value is one argument whatever it holds, and forms that cannot be meant are named."""

import subprocess
import sys

import pytest

from autotune import EvaluatorError
from autotune.backends.command.template import as_command, fill, list_fields, write_value

NASTY = "a b; rm -rf $HOME `id` 'q' \"d\" {x} *\n"


def values(**given: object) -> dict[str, tuple[str, ...]]:
    return {name: write_value(name, value, None) for name, value in given.items()}


def test_a_value_stays_one_argument() -> None:
    words = fill(as_command(["prog", "-D{x}", "{x}"], "run", False), values(x=NASTY), "run")
    assert words == ["prog", f"-D{NASTY}", NASTY]


def test_a_shell_gets_values_quoted() -> None:
    code = "import sys; print(sys.argv[1:])"
    line = fill(as_command(f'{sys.executable} -c "{code}" {{x}} | cat', "run", True), values(x=NASTY), "run")
    assert isinstance(line, str)
    assert subprocess.run(line, shell=True, capture_output=True, text=True, check=True).stdout == f"{[NASTY]!r}\n"


@pytest.mark.parametrize(
    ("value", "form", "written"),
    [
        (3, None, ("3",)),
        (True, None, ("1",)),
        (None, None, ()),
        ((1, "a"), None, ("1,a",)),
        (2, "-O{}", ("-O2",)),
        (True, "-funroll-loops", ("-funroll-loops",)),
        (False, "-funroll-loops", ()),
        (None, "-O{}", ()),
        ("a", {"a": ["-x", "1"], "b": None}, ("-x", "1")),
        ("b", {"a": ["-x", "1"], "b": None}, ()),
    ],
)
def test_formats(value: object, form: object, written: tuple[str, ...]) -> None:
    assert write_value("name", value, form) == written  # type: ignore[arg-type]


def test_a_word_that_is_one_field_may_become_none_or_several() -> None:
    command = as_command(["g++", "{flags}", "{none}", "-o{{x}}"], "build", False)
    assert fill(command, {"flags": ("-a", "-b"), "none": ()}, "build") == ["g++", "-a", "-b", "-o{x}"]
    assert list_fields(command, "build") == {"flags", "none"}
    with pytest.raises(EvaluatorError, match=r"'flags' gives 2 arguments, and is a part of '-x\{flags\}'"):
        fill(("-x{flags}",), {"flags": ("-a", "-b")}, "build")


@pytest.mark.parametrize(
    ("given", "shell", "message"),
    [
        ("prog {x}", False, "give a list with one item for each argument, or shell=True"),
        (["prog"], True, "with shell=True give the line"),
        ([], False, "give a list with the program"),
        (["prog", "{x"], False, "cannot be read"),
        (["prog", "{x!r}"], False, r"a field that is not \{name\}"),
        (["prog", "{x:>4}"], False, r"a field that is not \{name\}"),
        (["prog", "{}"], False, r"a field that is not \{name\}"),
    ],
)
def test_mistakes(given: object, shell: bool, message: str) -> None:
    with pytest.raises(EvaluatorError, match=message):
        as_command(given, "run", shell)


def test_formats_that_lose_a_value_are_refused() -> None:
    with pytest.raises(EvaluatorError, match=r"the format '-O' of 'level' has no \{\} for the value 2"):
        write_value("level", 2, "-O")
    with pytest.raises(EvaluatorError, match=r"the format of 'level' has no entry for 3"):
        write_value("level", 3, {2: "-O2"})
