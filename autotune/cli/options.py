"""The options that several commands share, and the parsing of their texts."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from autotune.core.config import Config
from autotune.core.errors import PlanError
from autotune.shell.files import load_config

if TYPE_CHECKING:
    from autotune.shell.options import Progress
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
CacheDir = Annotated[
    Path | None, typer.Option("--cache-dir", metavar="DIR", help="The cache; else AUTOTUNE_CACHE_DIR, else the user's.")
]
SaveConfig = Annotated[
    Path | None, typer.Option("--save-config", metavar="PATH", help="Also write the best config to this file, as JSON.")
]
StrategyName = Annotated[
    str | None,
    typer.Option(
        "--strategy", metavar="NAME|FILE.py:CLASS", help="The strategy's name, or your own strategy's class in a file."
    ),
]
OwnStrategy = Annotated[
    str | None,
    typer.Option(
        "--strategy", metavar="FILE.py:CLASS", help="The class in a file, where the journal is of a strategy of yours."
    ),
]
ShowProgress = Annotated[
    bool | None,
    typer.Option(
        "--progress/--quiet",
        help="Progress on stderr; if neither is given: on a terminal.",
        show_default=False,
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

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="A setting that `autotune settings STRATEGY|search` lists; repeatable."
    ),
]


def searching_progress(progress: bool | None) -> "Progress":
    """The progress of a search: where neither --progress nor --quiet is given and stderr is no terminal, its failures,
    and its beginning if it takes long."""
    return "brief" if progress is None else progress


def parse_direction(text: str | None) -> "Direction | None":
    """The direction that --direction names; raises PlanError for another word."""
    match text:
        case None | "lower" | "higher":
            return text
    raise PlanError(f"--direction {text}: unknown; use lower or higher")


def parse_pairs(texts: Iterable[str], option: str, example: str) -> dict[str, str]:
    """KEY=VALUE texts as a dictionary; raises PlanError, with an example, for another form."""
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise PlanError(f"{option} {text}: not of the form key=value; write {option} {example}, for example")
        pairs[key.strip()] = value
    return pairs


def parse_settings(texts: Iterable[str], option: str = "--set", example: str = "copies=3") -> dict[str, Any]:
    """KEY=VALUE texts as a dictionary; a value is JSON, and a string where it is not."""
    settings: dict[str, Any] = parse_pairs(texts, option, example)
    for key, value in settings.items():
        with suppress(msgspec.DecodeError):
            settings[key] = msgspec.json.decode(value)
    return settings


def parse_config(text: str) -> Config:
    """A config given as JSON, or as @FILE; raises ConfigError."""
    return load_config(text[1:]) if text.startswith("@") else Config.from_json(text)
