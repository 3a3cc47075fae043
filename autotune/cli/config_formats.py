"""A config as a program in another language reads it: JSON, assignments of a shell, or flags of a command line."""

import re
import shlex
from collections.abc import Callable, Mapping

from autotune.core.config import Config, Value, token
from autotune.core.errors import PlanError

CONFIG_VARIABLE = "AUTOTUNE_CONFIG"
"""The variable that holds the whole config as JSON, for `autotune tell`."""

_READ_BY_OTHERS = re.compile(
    r"PATH|IFS|ENV|CDPATH|HOME|TMPDIR|SHELL.*|BASH.*|ZDOTDIR|FPATH|PS[0-4]|PROMPT_COMMAND|POSIXLY_CORRECT|GLOBIGNORE"
    r"|(LD|DYLD|PYTHON|PERL|RUBY|NODE|JAVA|GIT|LC|GCC|CUDA|AUTOTUNE)_?.*|LANG|LANGUAGE|EDITOR|PAGER|VISUAL"
)
"""Variables by which shells, loaders and interpreters find what they execute: no journal may set them."""


def format_config(config: Config, form: str) -> str:
    """The config in one of FORMS; raises PlanError for another form, and where the form cannot hold a name."""
    if form not in FORMS:
        raise PlanError(f"--format {form}: unknown; use one of {', '.join(FORMS)}")
    return FORMS[form](config)


def _as_assignments(config: Config) -> str:
    """A line NAME=value for each parameter, quoted for a shell, and one for the whole config.

    A journal may come from elsewhere, so it must not set a variable such as PATH.
    """
    for name in config:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise PlanError(f"{name!r} cannot be the name of a variable of a shell; use --format json")
        if _READ_BY_OTHERS.fullmatch(name):
            raise PlanError(f"{name!r} is a variable that shells and programs read themselves; use --format json")
    lines = [f"{name}={shlex.quote(_word(value))}" for name, value in config.items()]
    return "\n".join([*lines, f"{CONFIG_VARIABLE}={shlex.quote(config.to_json())}"])


def _as_flags(config: Config) -> str:
    """--name=value for each parameter, quoted for a shell; --name alone for true, nothing for false and null."""
    flags = []
    for name, value in config.items():
        if value is True:
            flags.append(f"--{name}")
        elif value is not False and value is not None:
            flags.append(f"--{name}={_word(value)}")
    return " ".join(map(shlex.quote, flags))


def _word(value: Value) -> str:
    """A text as it is, the items of a list between commas, anything else as in JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return ",".join(map(_word, value))
    return token(value).decode()


FORMS: Mapping[str, Callable[[Config], str]] = {
    "json": Config.to_json,
    "shell": _as_assignments,
    "flags": _as_flags,
}
