"""`autotune env`: the settings that environment variables can make, their values, and where these come from."""

from pathlib import Path
from typing import Any

from autotune.cli.options import AsJson
from autotune.cli.output import print_json
from autotune.shell.cache.cache import get_cache_dir
from autotune.shell.settings import SETTINGS, environment, unknown_variables, variable_name
from autotune.shell.tables import print_table
from autotune.shell.warn import warn_user


def env(as_json: AsJson = False) -> None:
    """Show the settings of the environment, and the defaults."""
    settings = environment()
    rows = [_row(name, getattr(settings, name)) for name in SETTINGS]
    for name in unknown_variables():
        warn_user(f"{name} is set and has no meaning; `autotune env` lists the variables")
    if as_json:
        print_json({row["variable"]: row for row in rows})
        return
    header = ("variable", "value", "origin", "meaning")
    print_table(header, [tuple("-" if row[name] is None else str(row[name]) for name in header) for row in rows])


def _row(name: str, value: Any) -> dict[str, Any]:
    setting = SETTINGS[name]
    if name == "cache_dir" and value is None:
        shown: Any = str(get_cache_dir())
    elif value is None:
        shown = setting.default
    else:
        shown = ",".join(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
    origin = "default" if value is None else "environment"
    return {"variable": variable_name(name), "value": shown, "origin": origin, "meaning": setting.meaning}
