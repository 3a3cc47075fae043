"""`autotune ask JOURNAL`: the next config to measure, for scripts and programs in any language."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from autotune.cli import ExitCode, options
from autotune.cli.config_formats import FORMS, format_config
from autotune.cli.space_file import load_space
from autotune.core.errors import JournalError, PlanError
from autotune.core.search.plan import Budget
from autotune.core.search.report import describe_ending, format_measured
from autotune.core.search.result import TuningFailed
from autotune.core.space_spec import FunctionSpec
from autotune.shell.ask_tell import AskTell
from autotune.shell.journal import read_header

SpaceOption = Annotated[
    str | None,
    typer.Option(
        "--space", metavar="FILE[:NAME]",
        help="The space: a file of JSON (FILE.json), or a Python file with a Space or a Problem.",
    ),
]  # fmt: skip
Wait = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", help="How long to wait for another process that uses the journal.")
]
WAIT_S = 60.0


def ask(
    journal: options.JournalFile,
    space: SpaceOption = None,
    strategy: Annotated[str | None, typer.Option(help="The strategy's name.")] = None,
    effort: Annotated[str | None, typer.Option(help="none, quick or full.")] = None,
    evaluations: Annotated[int | None, typer.Option(help="Ask for at most so many configs.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Take at most so long, verification included.")] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of all that is random.")] = None,
    settings: options.Set = None,
    exact: Annotated[bool, typer.Option("--exact", help="A config always takes the same time: compare none.")] = False,
    form: Annotated[str, typer.Option("--format", metavar="|".join(FORMS), help="How to print the config.")] = "json",
    wait: Wait = WAIT_S,
) -> ExitCode:
    """Print the next config to measure, for a loop of your own.

    `autotune tell` takes its time. The first call makes the journal, with --space and the options of the search; later
    ones may repeat them. The exit code is 5 once the search is over.
    """
    if form not in FORMS:
        raise PlanError(f"--format {form}: unknown; use one of {', '.join(FORMS)}")
    if not os.path.exists(journal):
        if space is None:
            raise PlanError(f"{journal} does not exist yet; name the space with --space FILE to begin a search")
        limits = Budget(evaluations=evaluations, seconds=seconds)
        try:
            AskTell(
                load_space(space), strategy, effort=effort, budget=limits if limits != Budget() else None, seed=seed,
                journal=journal, settings=options.parse_settings(settings or ()), exact=exact,
            ).close()  # fmt: skip
        except JournalError:
            if not os.path.exists(journal):  # else another process has begun it at the same moment
                raise
    with attach(journal, space, wait) as search:
        _check_options(journal, search, {"evaluations": evaluations, "seconds": seconds, "seed": seed})
        config = search.ask()
        if config is not None:
            print(format_config(config, form))
            return ExitCode.DONE
        print(f"autotune: {_ending(search)}; autotune show {journal} has the rest", file=sys.stderr)
        return ExitCode.OVER


def attach(journal: Path, space: str | None, wait: float) -> AskTell:
    """The search of a journal. A Python file is executed only where a constraint of the journal is a function."""
    needed = any(isinstance(one, FunctionSpec) for one in read_header(journal, wait).plan.space.constraints)
    given = space is not None and (needed or space.endswith(".json"))
    return AskTell.attach(journal, space=load_space(space or "") if given else None, wait_s=wait)


def _check_options(journal: Path, search: AskTell, given: dict[str, float | None]) -> None:
    """Refuse options of another search than the journal's: they would have no effect."""
    plan = search.search.plan
    known = {"evaluations": plan.budget.evaluations, "seconds": plan.budget.seconds, "seed": plan.seed}
    for name, value in given.items():
        if value is not None and value != known[name]:
            raise JournalError(
                f"{journal} was begun with {name} = {known[name]}, which --{name} {value:g} cannot change; leave the "
                "option out, or name a new journal"
            )


def _ending(search: AskTell) -> str:
    try:
        found = search.result()
    except TuningFailed as error:
        return f"the search is over: {error}"
    best = f"{format_measured(found.best)} with {found.best.config.to_json()}"
    return f"the search is over ({describe_ending(found)}): {best}"
