"""Checks of a strategy's settings."""

from autotune.core.errors import StrategyError


def require(holds: bool, strategy: str, setting: str, value: object, allowed: str) -> None:
    """Raises StrategyError, naming the setting and what is allowed, unless `holds`."""
    if not holds:
        raise StrategyError(f"{strategy}: {setting} = {value!r} is out of range; use {allowed}")
