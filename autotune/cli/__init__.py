"""The command line `autotune`: one file a command, registered below. Results go to stdout, all else to stderr."""

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import typer

from autotune.cli import exits
from autotune.cli.record import record
from autotune.cli.replay import replay
from autotune.cli.resume import resume
from autotune.cli.show import show
from autotune.cli.simulate import simulate
from autotune.cli.tune import tune
from autotune.core.errors import AutotuneError
from autotune.core.search.result import TuningFailed
from autotune.version import __version__

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A disk, a quota or a file that is full: under a journal, or under stdout."""

app = typer.Typer(
    name="autotune",
    help="Find the fastest configuration of a kernel.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help starts faster, and reads well in a pipe
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(tune)
app.command()(resume)
app.command()(replay)
app.command()(show)
app.command()(simulate)
app.command()(record)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        print(f"autotune {__version__}")
        raise typer.Exit


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
    command = typer.main.get_command(app)
    try:  # not `command.main`, which has exit codes of its own for a closed pipe and for Ctrl-C
        with command.make_context("autotune", arguments) as context:
            code = command.invoke(context)
    except TuningFailed as error:
        return _said(error, exits.NOTHING_TIMED)
    except AutotuneError as error:
        return _said(error, exits.ERROR)
    except typer.Exit as end:
        return end.exit_code
    except Exception as error:
        if not hasattr(error, "format_message"):  # the argument parser's own; its classes moved between versions
            raise
        return _usage(error)
    return code if isinstance(code, int) else exits.DONE


def _stop_writing() -> None:
    """Or the interpreter would complain when it flushes stdout at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _said(error: Exception | str, code: int) -> int:
    print(f"autotune: {error}", file=sys.stderr)
    return code


def _usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message().rstrip(".\n")
    if type(error).__name__ == "NoArgsIsHelpError":  # the message is the whole help
        print(message, file=sys.stderr)
        return exits.USAGE
    place = context.command_path if context is not None else "autotune"
    print(f"{place}: {message}; see {place} --help", file=sys.stderr)
    return exits.USAGE


def _warned(message: Warning | str, *_: object, **__: object) -> None:
    print(f"autotune: warning: {message}", file=sys.stderr)
