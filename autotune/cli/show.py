"""`autotune show FILE`: what a journal or a recording holds, told by its content."""

import os
from pathlib import Path
from typing import Annotated

import typer

from autotune.cli import exits
from autotune.cli.options import AsJson, BetterDirection, ObjectiveName, ProblemOption, SaveConfig
from autotune.cli.output import stdout_for_results
from autotune.cli.problem_file import is_journal, load_problem
from autotune.core.config import Config
from autotune.core.errors import AutotuneError
from autotune.shell.files import check_writable
from autotune.shell.files import save_config as save


def show(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A journal, finished or not, or a recording (builtin:NAME as well).")
    ],
    problem: ProblemOption = None,
    objective: ObjectiveName = None,
    direction: BetterDirection = None,
    save_config: SaveConfig = None,
    as_json: AsJson = False,
) -> int:
    """Summarise a journal or a recording."""
    from autotune.studies.recordings.load import locate_recording

    file = locate_recording(file)
    if save_config is not None:
        check_writable(save_config)
    if os.path.isdir(file):
        raise AutotuneError(f"{file} is a directory; name a journal or a recording")
    if is_journal(file):
        if objective is not None or direction is not None:
            raise AutotuneError(
                f"{file} is a journal, whose objective is a time; leave --objective and --direction out"
            )
        best = _journal(file, problem, as_json)
    else:
        best = _recording(file, objective, direction, as_json)
    if save_config is not None:
        if best is None:
            raise AutotuneError(f"{file} holds no timed config, so there is none to save; leave --save-config out")
        save(best, save_config)
    return exits.DONE


def _journal(path: Path, problem: str | None, as_json: bool) -> Config | None:
    from autotune.cli.show_journal import show_journal

    if problem is None:
        return show_journal(path, None, as_json)
    with stdout_for_results():
        space = load_problem(problem).space
    return show_journal(path, space, as_json)


def _recording(path: Path, objective: str | None, direction: str | None, as_json: bool) -> Config | None:
    from autotune.cli.show_recording import show_recording

    return show_recording(path, objective, direction, as_json)
