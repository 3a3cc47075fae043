"""The page of the environment: every variable, the values that it takes, and its default."""

from autotune.shell.settings import SETTINGS, variable_name
from site_pages import rst


def pages() -> dict[str, str]:
    rows = [
        (f"``{variable_name(name)}``", rst.escape(one.meaning), rst.escape(one.wanted), rst.escape(one.default))
        for name, one in SETTINGS.items()
    ]
    text = (
        "An argument goes before the environment, and the environment before the default. ``autotune env`` prints the "
        "settings that are in force, with their origin. Simulations and studies take nothing from the environment."
    )
    table = rst.table(["variable", "meaning", "takes", "without it"], rows)
    return {"environment.rst": "\n".join([rst.heading("Environment variables"), text, "", table])}
