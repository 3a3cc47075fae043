"""`autotune run [OPTIONS] PROGRAM [ARGUMENTS]`: run a program of others with `autotune.triton` in the place of
`triton.autotune`.

The program takes the place of this process, so its arguments, signals and exit code are its own. What to install is in
the environment, so it also holds for the processes that the program starts.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from autotune.backends.triton_decorator.startup import FOLDER
from autotune.core.errors import PlanError
from autotune.shell.settings import environment, variable_name


def run(
    program: Annotated[
        list[str],
        typer.Argument(metavar="PROGRAM [ARGUMENTS]…", help="A Python file or any command, and its arguments."),
    ],
    module: Annotated[
        bool, typer.Option("--module", "-m", help="PROGRAM is a Python module, as for `python -m`.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="MODULE", help="Take over the kernels of this module alone; repeatable."),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option("--skip", metavar="MODULE", help="Leave the kernels of this module alone; repeatable."),
    ] = None,
    hull: Annotated[
        bool, typer.Option("--hull", help="Search everything between the configs of each list, not the list alone.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Print what was tuned when the program ends, on stderr.")
    ] = False,
) -> None:
    """Run a program with autotune.triton for triton.autotune."""
    given = {"triton_only": only, "triton_skip": skip}
    variables = {variable_name(name): ",".join(patterns) for name, patterns in given.items() if patterns}
    flags = {"triton_install": True, "triton_hull": hull, "triton_report": report}
    variables |= {variable_name(name): "1" for name, chosen in flags.items() if chosen}
    paths = [FOLDER, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment({**os.environ, **variables})  # a mistake is told now
    _become(_command(program, module), {**os.environ, **variables, "PYTHONPATH": os.pathsep.join(paths)})


def _command(program: Sequence[str], module: bool) -> list[str]:
    """The words of the command; raises PlanError where there is no such program."""
    if module:
        return [sys.executable, "-m", *program]
    if program[0].endswith(".py"):
        if not os.path.isfile(program[0]):
            raise PlanError(f"there is no file {program[0]}")
        return [sys.executable, *program]
    found = shutil.which(program[0])
    if found is None:
        raise PlanError(f"there is no program {program[0]}; name a Python file, a command, or a module after -m")
    return [found, *program[1:]]


def _become(command: Sequence[str], variables: dict[str, str]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], [*command], variables)
