"""The command line `autotune`: one file a command, listed below. Results go to stdout, all else to stderr."""

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword
from typing import Any

import typer

from autotune.cli import exits
from autotune.core.errors import AutotuneError
from autotune.version import __version__

COMMANDS = {
    "tune": "Find the fastest config of the problem in a Python file.",
    "resume": "Go on with the search of a journal, in that journal.",
    "replay": "Check that the decisions of a journal can be repeated.",
    "show": "Summarise a journal or a recording.",
    "simulate": "Search a recorded space; no device is needed.",
    "record": "Measure every valid config of a problem's space.",
    "import": "Read tuned configs or a recording of another library.",
    "export": "Write configs as another library reads them.",
    "study": "Compare strategies on recordings, as a study file says.",
    "compile": "Compile a Triton kernel's configs; no GPU is needed.",
    "cache": "What earlier searches measured: list it, explain a miss, merge, export and prune.",
    "env": "Show the settings that come from the environment, and what holds without them.",
}
"""Each is a function, or a group of them, of its name in a module of its name (a keyword with _ after it); only the one
called is imported."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A disk, a quota or a file that is full: under a journal, or under stdout."""


def app_for(arguments: Sequence[str]) -> typer.Typer:
    """The application, with the command that the arguments call; of the others no more than help needs."""
    app = typer.Typer(
        name="autotune",
        help="Find the fastest configuration of a kernel.",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,  # plain help starts faster, and reads well in a pipe
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_version)
    called = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, text in COMMANDS.items():
        if name == called:
            own = f"{name}_" if iskeyword(name) else name
            command = getattr(import_module(f"autotune.cli.{own}"), own)
            if isinstance(command, typer.Typer):
                app.add_typer(command, name=name)
            else:
                app.command(name)(command)
        else:
            app.command(name, help=text)(_not_called)
    return app


def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        print(f"autotune {__version__}")
        raise typer.Exit


def _not_called() -> None:
    """In the place of a command whose help is one line of a list."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code; every error a user can cause is one line on stderr."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warned
            code = _run(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        _stop_writing()
        return exits.PIPE_CLOSED
    except OSError as error:
        if error.errno not in FULL:
            raise
        _stop_writing()
        return _said(f"nothing more can be written ({error.strerror}); make room, then resume the journal", exits.ERROR)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    return code


def _run(arguments: list[str]) -> int:
    command = typer.main.get_command(app_for(arguments))
    try:  # not `command.main`, which has exit codes of its own for a closed pipe and for Ctrl-C
        with command.make_context("autotune", arguments) as context:
            code = command.invoke(context)
    except AutotuneError as error:
        return _said(error, _code(error))
    except typer.Exit as end:
        return end.exit_code
    except Exception as error:
        if not hasattr(error, "format_message"):  # the argument parser's own; its classes moved between versions
            raise
        return _usage(error)
    return code if isinstance(code, int) else exits.DONE


def _code(error: AutotuneError) -> int:
    from autotune.core.search.result import TuningFailed  # loaded by now if it matters, and not to be for --help

    return exits.NOTHING_TIMED if isinstance(error, TuningFailed) else exits.ERROR


def shown(message: object) -> str:
    """A message with what its texts hold to steer a terminal escaped."""
    from autotune.shell.formatting import escape_control_lines

    return escape_control_lines(str(message))


def _stop_writing() -> None:
    """Or the interpreter would complain when it flushes stdout at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _said(error: Exception | str, code: int) -> int:
    print(f"autotune: {shown(error)}", file=sys.stderr)
    return code


def _usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message().rstrip(".\n")
    if type(error).__name__ == "NoArgsIsHelpError":  # the message is the whole help
        print(message, file=sys.stderr)
        return exits.USAGE
    place = context.command_path if context is not None else "autotune"
    print(f"{place}: {shown(message)}; see {place} --help", file=sys.stderr)
    return exits.USAGE


def _warned(message: Warning | str, *_: object, **__: object) -> None:
    print(f"autotune: warning: {shown(message)}", file=sys.stderr)
