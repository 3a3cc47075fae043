"""Templates of command lines: from a config to the arguments of a program. Pure.

A template is a list of words, each one argument of the program. `{name}` in a word stands for the value of a parameter,
written as its format says. A value is never split or read by a shell: whatever it holds, it stays one argument.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from string import Formatter

from autotune.core.arguments import short_repr
from autotune.core.config import Value, token
from autotune.core.errors import EvaluatorError

Format = str | Mapping[Value, str | Sequence[str] | None]
"""How to write a parameter: a text with {} for its value; a text without {}, given where the value is true; or a text,
a list of arguments or None (no argument) for each value."""

Command = tuple[str, ...] | str
"""The words of a command, or the line that a shell reads."""

FOLDER, PROGRAM = "folder", "program"
"""Fields of every template: the folder of the build, and the path of a program in it."""


def as_command(given: object, what: str, shell: bool) -> Command:
    """The template of a command; raises EvaluatorError for another form, or for fields that cannot be read."""
    if shell:
        if not isinstance(given, str) or not given.strip():
            raise EvaluatorError(f"{what} is {short_repr(given)}; with shell=True give the line that the shell reads")
        list_fields((given,), what)
        return given
    if isinstance(given, str):
        raise EvaluatorError(
            f"{what} is the text {short_repr(given)}; give a list with one item for each argument, or shell=True"
        )
    words = tuple(map(str, given)) if isinstance(given, Sequence) else ()
    if not words:
        raise EvaluatorError(f"{what} is {short_repr(given)}; give a list with the program and its arguments")
    list_fields(words, what)
    return words


def list_fields(words: Iterable[str], what: str) -> set[str]:
    """The names in the fields of these words."""
    return {name for word in words for _, name in _parse(word, what) if name is not None}


def words_of(command: Sequence[str] | str) -> tuple[str, ...]:
    """The words of a template; the whole line where a shell reads it."""
    return (command,) if isinstance(command, str) else tuple(command)


def _parse(word: str, what: str) -> list[tuple[str, str | None]]:
    """The pieces of a word: a text, and the name in the field after it, if any."""
    try:
        pieces = list(Formatter().parse(word))
    except ValueError as error:
        raise EvaluatorError(f"{what}: {word!r} cannot be read ({error}); write {{{{ and }}}} for braces") from None
    for _, name, specification, conversion in pieces:
        if name is not None and (not name or specification or conversion):
            raise EvaluatorError(
                f"{what}: {word!r} has a field that is not {{name}}; write {{{{ and }}}} for braces, and use formats="
            )
    return [(text, name) for text, name, _, _ in pieces]


def write_value(name: str, value: Value, form: Format | None) -> tuple[str, ...]:
    """The arguments that stand for a value: one, none, or several.

    Without a format, a text is itself, true and false are 1 and 0, a list has commas, and None is no argument.
    """
    if isinstance(form, Mapping):
        if value not in form:
            raise EvaluatorError(f"the format of {name!r} has no entry for {value!r}; add one")
        found = form[value]
        return () if found is None else (found,) if isinstance(found, str) else tuple(map(str, found))
    if value is None:
        return ()
    if form is None:
        return (_plain(value),)
    if "{}" in form:
        return (form.replace("{}", _plain(value)),)
    if not isinstance(value, bool):
        raise EvaluatorError(f"the format {form!r} of {name!r} has no {{}} for the value {value!r}; write one")
    return (form,) if value else ()


def _plain(value: Value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(int(value))
    return ",".join(map(_plain, value)) if isinstance(value, tuple) else token(value).decode()


def fill(command: Command, values: Mapping[str, tuple[str, ...]], what: str) -> list[str] | str:
    """The arguments of a command, or the line for a shell in which every value is quoted."""
    if isinstance(command, str):
        return "".join(
            text + ("" if name is None else " ".join(map(shlex.quote, values[name])))
            for text, name in _parse(command, what)
        )
    filled: list[str] = []
    for word in command:
        pieces = _parse(word, what)
        if len(pieces) == 1 and pieces[0][0] == "" and pieces[0][1] is not None:  # the field is the whole word
            filled += values[pieces[0][1]]
        else:
            filled.append(fill_word(word, values, what))
    return filled


def fill_word(word: str, values: Mapping[str, tuple[str, ...]], what: str) -> str:
    """One word with its fields filled, each by one argument or none."""
    return "".join(text + ("" if name is None else _single(name, values, word)) for text, name in _parse(word, what))


def _single(name: str, values: Mapping[str, tuple[str, ...]], word: str) -> str:
    found = values[name]
    if len(found) > 1:
        raise EvaluatorError(f"{name!r} gives {len(found)} arguments, and is a part of {word!r}; give it its own word")
    return found[0] if found else ""
