"""The command line `autotune`: one file a command, and their exit codes. Results go to stdout, messages to stderr."""

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from enum import IntEnum
from importlib import import_module
from keyword import iskeyword
from typing import Any

import typer
from typer.core import TyperCommand

from autotune._extras import missing_module_remedy
from autotune.core.errors import AutotuneError
from autotune.version import __version__

COMMANDS = {
    "tune": "Find the fastest config of the problem in a Python file.",
    "resume": "Go on with the search of a journal, in that journal.",
    "replay": "Check that the decisions of a journal can be repeated.",
    "certify": "Print how certain the pick of a search is.",
    "ask": "Print the next config to measure, for a loop of your own.",
    "tell": "Tell the time or the failure of a config that ask has printed.",
    "show": "Summarise a journal or a recording, also as a page or a table.",
    "watch": "Watch a search that runs, from another terminal.",
    "simulate": "Search a recorded space; no device is needed.",
    "record": "Measure every valid config of a problem's space.",
    "import": "Read tuned configs or a recording of another library.",
    "export": "Write configs as another library reads them.",
    "study": "Compare strategies on recordings, as a study file says.",
    "compile": "Compile a Triton kernel's configs; no GPU is needed.",
    "run": "Run a program with autotune.triton for triton.autotune.",
    "cache": "List, explain, merge, export and prune earlier searches.",
    "cover": "Find the fewest configs that serve all cached shapes.",
    "strategies": "List the strategies, those of installed packages too.",
    "settings": "List the settings of a strategy or of the search.",
    "env": "Show the settings of the environment, and the defaults.",
}
"""The help of each command. A command is a function, or a group of functions, of its name in a module of its name (with
an underscore after a keyword); only the module of the command that is called is imported."""

_TAKE_A_COMMAND = frozenset({"run"})
"""Commands whose last argument is a command itself: the options after its first word belong to that."""

_LISTS_STRATEGIES = frozenset({"tune", "ask", "simulate"})
"""Commands whose help ends with the strategies."""

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A disk, a quota or a file is full: that of a journal, or of stdout."""


class ExitCode(IntEnum):
    """The exit codes of every command, as docs/reference/command_line.md lists them."""

    DONE = 0
    ERROR = 1
    """A mistake that the user can put right: one sentence on stderr names it, its place and the remedy."""
    USAGE = 2
    """An unknown option, a missing argument."""
    NOTHING_TIMED = 3
    """The search ended without one config that could be timed."""
    DIVERGED = 4
    """A replay decided otherwise than its journal."""
    OVER = 5
    """`ask` has no config: the search is over."""
    INTERRUPTED = 130
    """Ctrl-C (or SIGTERM); after one of them the best so far is printed all the same."""
    PIPE_CLOSED = 141
    """The reader of stdout went away, as `head` does."""


class StrictCommand(TyperCommand):
    """A command that refuses an option given twice where only the last one would count."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given: list[Any] = self.make_parser(ctx).parse_args(args=list(args))[2]
        for option in given:
            several = option.param_type_name == "argument" or option.multiple or option.count or option.is_flag
            if not several and given.count(option) > 1:
                ctx.fail(f"{option.opts[0]} is given {given.count(option)} times, and takes one value; give it once")
        return super().parse_args(ctx, args)


def _build_app(arguments: Sequence[str]) -> typer.Typer:
    """The application, with the command that the arguments call; of the others only the help text."""
    app = typer.Typer(
        name="autotune",
        help="Find the fastest configuration of a kernel.",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,  # plain help starts faster, and reads well in a pipe
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_print_version)
    called = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, text in COMMANDS.items():
        if name == called:
            own = f"{name}_" if iskeyword(name) else name
            command = getattr(import_module(f"autotune.cli.{own}"), own)
            if isinstance(command, typer.Typer):
                for part in command.registered_commands:
                    part.cls = StrictCommand
                app.add_typer(command, name=name)
            else:
                end = import_module("autotune.cli.strategies").list_for_help() if name in _LISTS_STRATEGIES else None
                heeds = {"allow_interspersed_args": name not in _TAKE_A_COMMAND}
                app.command(name, cls=StrictCommand, context_settings=heeds, epilog=end)(command)
        else:
            app.command(name, help=text)(_not_imported)
    return app


def _print_version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        print(f"autotune {__version__}")
        raise typer.Exit


def _not_imported() -> None:
    """Stands for a command that is not called."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every error that a user can cause is one line on stderr."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            code = _run(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        _stop_writing()
        return ExitCode.PIPE_CLOSED
    except OSError as error:
        if error.errno not in _FULL_DISK:
            raise
        _stop_writing()
        return _fail(f"nothing more can be written ({error.strerror}); make room, then resume the journal")
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return code


def _run(arguments: list[str]) -> int:
    command = typer.main.get_command(_build_app(arguments))
    try:  # not `command.main`, which has exit codes of its own for a closed pipe and for Ctrl-C
        with command.make_context("autotune", arguments) as context:
            code = command.invoke(context)
    except AutotuneError as error:
        from autotune.core.search.result import TuningFailed  # loaded by now if it matters, and not to be for --help

        return _fail(error, ExitCode.NOTHING_TIMED if isinstance(error, TuningFailed) else ExitCode.ERROR)
    except typer.Exit as end:
        return end.exit_code
    except ModuleNotFoundError as error:  # a lazy import of what an extra installs
        remedy = missing_module_remedy(error.name or "")
        if remedy is None:
            raise
        return _fail(f"{error.name} is not installed; {remedy}")
    except Exception as error:
        if not hasattr(error, "format_message"):  # the argument parser's own; its classes moved between versions
            raise
        return _fail_usage(error)
    return code if isinstance(code, int) else ExitCode.DONE


def _escape(message: object) -> str:
    """A message whose control characters, which could steer a terminal, are escaped."""
    from autotune.core.formatting import escape_control_lines

    return escape_control_lines(str(message))


def _stop_writing() -> None:
    """Point stdout at nothing, or the interpreter would complain when it flushes stdout at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _fail(error: Exception | str, code: ExitCode = ExitCode.ERROR) -> int:
    print(f"autotune: {_escape(error)}", file=sys.stderr)
    return code


def _fail_usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message().rstrip(".\n")
    if type(error).__name__ == "NoArgsIsHelpError":  # the message is the whole help
        print(message, file=sys.stderr)
        return ExitCode.USAGE
    place = context.command_path if context is not None else "autotune"
    print(f"{place}: {_escape(message)}; see {place} --help", file=sys.stderr)
    return ExitCode.USAGE


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"autotune: warning: {_escape(message)}", file=sys.stderr)
