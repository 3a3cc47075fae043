"""Settings from environment variables. An argument goes before the environment, that before the default."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from msgspec import Struct

import autotune.shell.installed_strategies  # noqa: F401  # the registry asks it for names that it lacks
from autotune.core.arguments import argument_error
from autotune.core.errors import PlanError, StrategyError
from autotune.core.search.effort import EFFORTS, Effort
from autotune.core.strategies.population import InitialPopulationStrategy
from autotune.core.strategies.registry import STRATEGIES, canonical_name

_PREFIX = "AUTOTUNE_"

T = TypeVar("T")

DecoratorMode = Literal["tune", "lookup", "force", "off"]
DECORATOR_MODES: tuple[DecoratorMode, ...] = get_args(DecoratorMode)
"""Of a decorated kernel: tune calls that are not in the cache; never tune; tune again; neither tune nor look up."""

OnExisting = Literal["continue", "new", "error"]
ON_EXISTING: tuple[OnExisting, ...] = get_args(OnExisting)
"""Of a journal that exists: go on with its search, which must be the same one; leave it, and write to a new file beside
it; refuse. None: go on with the same search, and leave any other."""

Miss = Literal["first", "nearest"]
MISSES: tuple[Miss, ...] = get_args(Miss)
"""The config of a call that is not in the cache and may not be tuned: the first one, or that of the nearest shape."""


class Environment(Struct, frozen=True, kw_only=True):
    """The settings in the environment; None where a variable is not set. The variable of `effort` is AUTOTUNE_EFFORT.

    cache_dir: root of the cache. effort, strategy, random_seed: as the arguments of `tune`. budget_seconds: the budget
    of searches without one. force: ignore cached results and replace them. skip_cache: neither read nor write the
    cache. disallow: raise an error if a search would begin. log: a directory that receives a journal of every search
    without one. on_existing: of a journal that exists. progress: whether to show it. initial_population: of strategies
    that leave it open. compile_timeout, benchmark_timeout: seconds. mode, miss: of kernels decorated with
    `autotune.triton`. triton_install: put `autotune.triton` in the place of `triton.autotune` when autotune is
    imported. triton_only, triton_skip, triton_hull, triton_report: as the arguments of `autotune.triton.install`.
    """

    cache_dir: Path | None = None
    effort: Effort | None = None
    budget_seconds: float | None = None
    random_seed: int | None = None
    force: bool | None = None
    skip_cache: bool | None = None
    disallow: bool | None = None
    log: Path | None = None
    on_existing: OnExisting | None = None
    progress: bool | None = None
    strategy: str | None = None
    initial_population: InitialPopulationStrategy | None = None
    compile_timeout: float | None = None
    benchmark_timeout: float | None = None
    mode: DecoratorMode | None = None
    miss: Miss | None = None
    triton_install: bool | None = None
    triton_only: tuple[str, ...] | None = None
    triton_skip: tuple[str, ...] | None = None
    triton_hull: bool | None = None
    triton_report: bool | None = None


class Setting(NamedTuple):
    """How to read one variable. wanted: the values it takes; default: the value without it; meaning: all in words."""

    read: Callable[[str], Any]
    wanted: str
    default: str
    meaning: str


def environment(variables: Mapping[str, str] | None = None) -> Environment:
    """The settings in the environment (or in `variables`); empty variables count as not set.

    Raises PlanError, naming the variable, for a value that it cannot take.
    """
    source = os.environ if variables is None else variables
    if not isinstance(source, Mapping) or not all(isinstance(one, str) for one in source.values()):
        raise argument_error("variables", variables, "a mapping of names to texts", PlanError)
    found = {name: source[variable_name(name)] for name in SETTINGS if source.get(variable_name(name), "").strip()}
    return Environment(**{name: _read(name, text.strip()) for name, text in found.items()}) if found else _UNSET


def variable_name(name: str) -> str:
    """The variable of a field: AUTOTUNE_CACHE_DIR for cache_dir."""
    return _PREFIX + name.upper()


def unknown_variables(variables: Mapping[str, str] | None = None) -> list[str]:
    """Variables that begin with AUTOTUNE_ and have no meaning: mistyped, most likely."""
    source = os.environ if variables is None else variables
    known = {variable_name(name) for name in SETTINGS}
    return sorted(name for name in source if name.startswith(_PREFIX) and name not in known)


def resolve_setting(argument: T | None, setting: T | None, default: T) -> T:
    """The argument, else the setting of the environment, else the default: the precedence of all settings."""
    if argument is not None:
        return argument
    return default if setting is None else setting


def timeout_setting(name: Literal["compile_timeout", "benchmark_timeout"], default: float) -> float:
    """A timeout of the environment, in seconds, else the default."""
    seconds: float | None = getattr(environment(), name)
    return default if seconds is None else seconds


@contextmanager
def set_variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process inside of the context; they are restored at its end."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


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


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in map(str.strip, text.split(",")) if name)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(text)
    return seconds


POPULATION_NAMES: tuple[str, ...] = tuple(InitialPopulationStrategy)
_TRUTH_WORDS, _SECONDS_WORDS = "1 or 0", "a number of seconds above 0"
_PATTERN_WORDS = "patterns of module names, separated by commas"

SETTINGS: dict[str, Setting] = {
    "cache_dir": Setting(Path, "a directory", "the user's cache directory", "root of the cache"),
    "effort": Setting(_one_of(EFFORTS), f"one of {', '.join(EFFORTS)}", "full", "how much to search"),
    "budget_seconds": Setting(_seconds, _SECONDS_WORDS, "no limit", "how long a search may take"),
    "random_seed": Setting(int, "an integer", "0", "the seed of every random draw"),
    "force": Setting(_truth, _TRUTH_WORDS, "0", "ignore cached results, and replace them"),
    "skip_cache": Setting(_truth, _TRUTH_WORDS, "0", "neither read nor write the cache"),
    "disallow": Setting(_truth, _TRUTH_WORDS, "0", "raise an error where a search would begin"),
    "log": Setting(Path, "a directory", "no journal but those asked for", "receives a journal of every search"),
    "on_existing": Setting(
        _one_of(ON_EXISTING),
        f"one of {', '.join(ON_EXISTING)}",
        "continue the same search, else a new file",
        "what becomes of a journal that exists",
    ),
    "progress": Setting(_truth, _TRUTH_WORDS, "on a terminal and in a notebook", "whether to show progress"),
    "strategy": Setting(canonical_name, f"one of {', '.join(STRATEGIES)}", "the library's", "the strategy"),
    "initial_population": Setting(
        InitialPopulationStrategy,
        f"one of {', '.join(POPULATION_NAMES)}",
        "as the effort says",
        "where strategies begin",
    ),
    "compile_timeout": Setting(_seconds, _SECONDS_WORDS, "60", "how long a config may take to compile"),
    "benchmark_timeout": Setting(_seconds, _SECONDS_WORDS, "the evaluator's", "how long a config may take to run"),
    "mode": Setting(
        _one_of(DECORATOR_MODES), f"one of {', '.join(DECORATOR_MODES)}", "tune", "what decorated kernels do"
    ),
    "miss": Setting(
        _one_of(MISSES), f"one of {', '.join(MISSES)}", "first", "the config of calls that may not be tuned"
    ),
    "triton_install": Setting(_truth, _TRUTH_WORDS, "0", "put autotune.triton in the place of triton.autotune"),
    "triton_only": Setting(_names, _PATTERN_WORDS, "all modules", "modules whose kernels the installation takes over"),
    "triton_skip": Setting(_names, _PATTERN_WORDS, "no module", "modules whose kernels it leaves alone"),
    "triton_hull": Setting(_truth, _TRUTH_WORDS, "0", "search between the configs of the lists that it takes over"),
    "triton_report": Setting(_truth, _TRUTH_WORDS, "0", "print what decorated kernels tuned at the program's end"),
}
"""One entry for each field of `Environment`."""

_UNSET = Environment()
