"""`autotune settings NAME`: what `--set` takes, for a strategy or for the search itself."""

from typing import Annotated, Any

import typer

from autotune.cli.options import AsJson
from autotune.cli.output import print_json
from autotune.shell.codec import encode
from autotune.shell.descriptions import SettingDescription, describe_settings
from autotune.shell.tables import print_table


def settings(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A strategy, or `search`: the settings of every search.")],
    as_json: AsJson = False,
) -> None:
    """List the settings of a strategy or of the search."""
    found = describe_settings(name)
    if as_json:
        print_json({one.name: one for one in found})
        return
    header = ("setting", "type", "default", "range", "meaning")
    print_table(header, [(one.name, one.type, _default(one), one.range or "-", one.meaning) for one in found])


def _default(setting: SettingDescription) -> str:
    value: Any = setting.default
    return "required" if setting.required else "None" if value is None else encode(value).decode()
