"""Checks of a strategy's settings."""

from msgspec import Struct

from autotune.core.arguments import take_fields
from autotune.core.errors import StrategyError


def check_types(strategy: Struct, name: str) -> None:
    """Raises StrategyError, naming the setting, for one of another type than the strategy declares."""
    take_fields(strategy, name, StrategyError)


def require(holds: bool, strategy: str, setting: str, value: object, allowed: str) -> None:
    """Raises StrategyError, naming the setting and what is allowed, unless `holds`."""
    if not holds:
        raise StrategyError(f"{strategy}: {setting} = {value!r} is out of range; use {allowed}")
