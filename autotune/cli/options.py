"""The options that several commands share, and the parsing of their texts."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from autotune.core.config import Config
from autotune.core.errors import PlanError
from autotune.shell.files import load_config

if TYPE_CHECKING:
    from autotune.studies.recordings.objective import Direction

Target = Annotated[
    str, typer.Argument(metavar="FILE[:NAME]", help="A Python file, and the Problem in it ('problem' if not named).")
]
JournalFile = Annotated[Path, typer.Argument(metavar="JOURNAL", help="The journal of a search.")]
ProblemOption = Annotated[
    str | None,
    typer.Option(
        "--problem", metavar="FILE[:NAME]", help="The problem's file, where a journal needs it: Python constraints."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else.")]
UseCache = Annotated[
    bool, typer.Option("--cache", help="Use the results and measurements in the cache, and add to them.")
]
CacheDir = Annotated[
    Path | None, typer.Option("--cache-dir", metavar="DIR", help="The cache; else AUTOTUNE_CACHE_DIR, else the user's.")
]
Force = Annotated[bool, typer.Option("--force", help="Use the cache, but ignore and replace its result.")]
SaveConfig = Annotated[
    Path | None, typer.Option("--save-config", metavar="PATH", help="Also write the best config to this file, as JSON.")
]
ShowProgress = Annotated[
    bool | None,
    typer.Option(
        "--progress/--quiet", help="Progress on stderr; if neither is given: on a terminal.", show_default=False
    ),
]

ObjectiveName = Annotated[
    str | None,
    typer.Option(
        "--objective", metavar="NAME", help="The measurement that ranks a recording's points; else the file's."
    ),
]
BetterDirection = Annotated[
    str | None,
    typer.Option("--direction", metavar="lower|higher", help="Which values of the objective are better."),
]

StrategyName = Annotated[str | None, typer.Option(help="The strategy's name.")]
Effort = Annotated[str | None, typer.Option(help="none, quick or full.")]
Evaluations = Annotated[int | None, typer.Option(help="Measure at most so many configs.")]
Seconds = Annotated[float | None, typer.Option(help="Take at most so long, verification included.")]
Generations = Annotated[int | None, typer.Option(help="At most so many batches of the strategy.")]
Seed = Annotated[int | None, typer.Option(help="The seed of all that is random.")]
NewJournal = Annotated[
    Path | None,
    typer.Option(help="A new file for the journal.", show_default="FILE.journal.jsonl here, or FILE-2, FILE-3, …"),
]
NoJournal = Annotated[bool, typer.Option("--no-journal", help="Write no journal; no resume, no replay.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of the strategy or of the search; repeatable."),
]
SeedConfigs = Annotated[
    list[str] | None, typer.Option("--seed-config", metavar="JSON|@PATH", help="A config to try first; repeatable.")
]

SeedsFile = Annotated[
    Path | None,
    typer.Option(
        "--seeds", metavar="FILE", help="Configs to try first: a file that `autotune import` writes or reads."
    ),
]


def parse_direction(text: str | None) -> "Direction | None":
    """The direction that --direction names; raises PlanError for another word."""
    match text:
        case None | "lower" | "higher":
            return text
    raise PlanError(f"--direction {text}: unknown; use lower or higher")


def parse_settings(texts: Iterable[str], option: str = "--set", example: str = "copies=3") -> dict[str, Any]:
    """KEY=VALUE texts as a dictionary; a value is JSON, and a string where it is not."""
    settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise PlanError(f"{option} {text}: not of the form key=value; write {option} {example}, for example")
        try:
            settings[key.strip()] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            settings[key.strip()] = value
    return settings


def parse_config(text: str) -> Config:
    """A config given as JSON, or as @FILE; raises ConfigError."""
    return load_config(text[1:]) if text.startswith("@") else Config.from_json(text)
