"""Settings from the environment, in one place. An argument goes before the environment, that before the default."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from msgspec import Struct

from autotune.core.arguments import argument_error
from autotune.core.errors import PlanError, StrategyError
from autotune.core.search.effort import EFFORTS, Effort
from autotune.core.strategies.population import InitialPopulationStrategy
from autotune.core.strategies.registry import STRATEGIES, canonical_name

PREFIX = "AUTOTUNE_"

T = TypeVar("T")

DecoratorMode = Literal["tune", "lookup", "force", "off"]
DECORATOR_MODES: tuple[DecoratorMode, ...] = get_args(DecoratorMode)
"""Of a decorated kernel: tune what is not known; never tune; tune anew; neither tune nor look anything up."""


class Environment(Struct, frozen=True):
    """What the environment says; None where it says nothing. The variable of a field is AUTOTUNE_ and its name.

    cache_dir: root of the cache. effort, strategy, random_seed: as the arguments of `tune`. budget_seconds: of a
    search that is given no budget. force: look at no cached result and replace it. skip_cache: neither read nor write
    the cache. disallow: raise an error where something would have to be tuned. log: a directory that receives a journal
    of every search that is given none. progress: whether to show it. initial_population: of the strategies that leave
    it open. compile_timeout, benchmark_timeout: seconds. mode: of kernels decorated with `autotune.triton`.
    """

    cache_dir: Path | None = None
    effort: Effort | None = None
    budget_seconds: float | None = None
    random_seed: int | None = None
    force: bool | None = None
    skip_cache: bool | None = None
    disallow: bool | None = None
    log: Path | None = None
    progress: bool | None = None
    strategy: str | None = None
    initial_population: InitialPopulationStrategy | None = None
    compile_timeout: float | None = None
    benchmark_timeout: float | None = None
    mode: DecoratorMode | None = None


class Setting(NamedTuple):
    """How to read one variable. wanted: what it takes. default: what holds without it, in words."""

    read: Callable[[str], Any]
    wanted: str
    default: str
    meaning: str


def environment(variables: Mapping[str, str] | None = None) -> Environment:
    """The settings in the environment; empty variables count as not set.

    Raises PlanError, naming the variable, for a value that it cannot take.
    """
    source = os.environ if variables is None else variables
    if not isinstance(source, Mapping) or not all(isinstance(one, str) for one in source.values()):
        raise argument_error("variables", variables, "a mapping of names to texts", PlanError)
    found = {name: source[variable_name(name)] for name in SETTINGS if source.get(variable_name(name), "").strip()}
    return Environment(**{name: _read(name, text.strip()) for name, text in found.items()}) if found else NOTHING


def variable_name(name: str) -> str:
    """AUTOTUNE_CACHE_DIR for cache_dir."""
    return PREFIX + name.upper()


def unknown_variables(variables: Mapping[str, str] | None = None) -> list[str]:
    """Variables that begin with AUTOTUNE_ and mean nothing: mistyped, most likely."""
    source = os.environ if variables is None else variables
    known = {variable_name(name) for name in SETTINGS}
    return sorted(name for name in source if name.startswith(PREFIX) and name not in known)


def first_given(argument: T | None, setting: T | None, default: T) -> T:
    """The precedence of all settings: argument, environment, default."""
    if argument is not None:
        return argument
    return default if setting is None else setting


def timeout_setting(name: Literal["compile_timeout", "benchmark_timeout"], default: float) -> float:
    """The seconds that the environment gives for a timeout, else the default."""
    seconds: float | None = getattr(environment(), name)
    return default if seconds is None else seconds


def _read(name: str, text: str) -> Any:
    setting = SETTINGS[name]
    try:
        return setting.read(text)
    except (ValueError, StrategyError):
        raise PlanError(f"the environment has {variable_name(name)} = {text!r}; use {setting.wanted}") from None


def _truth(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError(text)


def _one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in names:
            raise ValueError(text)
        return text

    return read


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(text)
    return seconds


POPULATIONS: tuple[str, ...] = tuple(InitialPopulationStrategy)
TRUTH, SECONDS = "1 or 0", "a number of seconds above 0"

SETTINGS: dict[str, Setting] = {
    "cache_dir": Setting(Path, "a directory", "the user's cache directory", "root of the cache"),
    "effort": Setting(_one_of(EFFORTS), f"one of {', '.join(EFFORTS)}", "full", "how much to search"),
    "budget_seconds": Setting(_seconds, SECONDS, "no limit", "how long a search may take"),
    "random_seed": Setting(int, "an integer", "0", "the seed of all that is random"),
    "force": Setting(_truth, TRUTH, "0", "look at no cached result, and replace it"),
    "skip_cache": Setting(_truth, TRUTH, "0", "neither read nor write the cache"),
    "disallow": Setting(_truth, TRUTH, "0", "raise an error where something would have to be tuned"),
    "log": Setting(Path, "a directory", "no journal but those asked for", "receives a journal of every search"),
    "progress": Setting(_truth, TRUTH, "on a terminal", "whether to show progress"),
    "strategy": Setting(canonical_name, f"one of {', '.join(STRATEGIES)}", "the library's", "the strategy"),
    "initial_population": Setting(
        InitialPopulationStrategy, f"one of {', '.join(POPULATIONS)}", "as the effort says", "where strategies begin"
    ),
    "compile_timeout": Setting(_seconds, SECONDS, "60", "how long a config may take to compile"),
    "benchmark_timeout": Setting(_seconds, SECONDS, "the evaluator's", "how long a config may take to run"),
    "mode": Setting(
        _one_of(DECORATOR_MODES), f"one of {', '.join(DECORATOR_MODES)}", "tune", "what decorated kernels may do"
    ),
}
"""One entry for each field of `Environment`."""

NOTHING = Environment()
