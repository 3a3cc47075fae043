"""`autotune tell JOURNAL [CONFIG]`: the time of a config that `autotune ask` gave, or its failure."""

from typing import Annotated, cast

import typer

from autotune.cli import ExitCode, options
from autotune.cli.ask import WAIT_S, SpaceOption, Wait, attach
from autotune.core.config import Config
from autotune.core.errors import PlanError
from autotune.core.outcomes import FailureKind
from autotune.shell.ask_tell import AskTell


def tell(
    journal: options.JournalFile,
    config: Annotated[
        str | None,
        typer.Argument(metavar="[CONFIG]", help="The config as JSON, or @FILE; without it, the one that is out."),
    ] = None,
    time_ms: Annotated[
        list[float] | None, typer.Option("--time-ms", metavar="X", help="The time in ms; repeat it for samples.")
    ] = None,
    failed: Annotated[str | None, typer.Option("--failed", metavar="MESSAGE", help="It gave no time: why.")] = None,
    kind: Annotated[
        str, typer.Option(help="The kind of failure, such as compile_error or wrong_answer.")
    ] = "run_error",
    space: SpaceOption = None,
    wait: Wait = WAIT_S,
) -> ExitCode:
    """Tell the time or the failure of a config that ask has printed."""
    if (failed is None) == (not time_ms):
        raise PlanError("give either --time-ms X or --failed MESSAGE")
    given = None if config is None else options.parse_config(config)
    with attach(journal, space, wait) as search:
        search.tell(
            _only_pending(search) if given is None else given, time_ms or None, failed=failed,
            kind=cast(FailureKind, kind),
        )  # fmt: skip
    return ExitCode.DONE


def _only_pending(search: AskTell) -> Config:
    """The one config that is out; PlanError where it is none or several."""
    match search.pending:
        case [config]:
            return config
        case []:
            raise PlanError("no config is out; name the config that was measured")
        case several:
            raise PlanError(
                f"{len(several)} configs are out; name the one that was measured, as `autotune ask` gave it"
            )
