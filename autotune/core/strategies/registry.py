"""The strategies by name, for `tune`, the command line, journals and the property tests."""

from difflib import get_close_matches
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from autotune.core.arguments import argument_error, check_text, plain, short_repr
from autotune.core.errors import StrategyError
from autotune.core.strategies.differential_evolution import DESurrogateHybrid, DifferentialEvolutionSearch
from autotune.core.strategies.gaussian_process import GaussianProcessSearch
from autotune.core.strategies.lfbo import LFBOPatternSearch, LFBOTreeSearch
from autotune.core.strategies.pattern_search import PatternSearch
from autotune.core.strategies.protocol import AnyStrategy, CheckedSettings, is_strategy
from autotune.core.strategies.random_search import FiniteSearch, RandomSearch

STRATEGIES: dict[str, type[Any]] = {
    "random_search": RandomSearch,
    "finite_search": FiniteSearch,
    "pattern_search": PatternSearch,
    "lfbo_pattern_search": LFBOPatternSearch,
    "lfbo_tree_search": LFBOTreeSearch,
    "differential_evolution": DifferentialEvolutionSearch,
    "de_surrogate_hybrid": DESurrogateHybrid,
    "gaussian_process": GaussianProcessSearch,
}
"""Name to class. A new strategy is one file and one line here; `register` adds a user's, and the entry point of an
installed package adds one when it is first asked for."""

DEFAULT_STRATEGY = "gaussian_process"


class StrategySource(Protocol):
    """A source of strategies that are not registered yet, such as installed packages."""

    def installed_names(self) -> list[str]:
        """The names of its strategies."""

    def load_installed(self, name: str) -> tuple[str, Any] | None:
        """The name and the class of a strategy, by its name or by the name of its class; None if there is none."""

    def find_installed(self, kind: type) -> str | None:
        """The name of a class; None if it is none of its strategies."""


_sources: list[StrategySource] = []


def add_source(source: Any) -> None:
    """Ask this `StrategySource`, such as a module, for names and classes that are not registered."""
    if source not in _sources:
        _sources.append(source)


class StrategySpec(Struct, frozen=True, omit_defaults=True):
    """A strategy as plain data: its name and the settings that differ from their defaults."""

    name: str
    settings: dict[str, Any] = {}


def register(name: str, strategy: type[Any]) -> None:
    """Register a strategy (a frozen msgspec Struct) under a name, so that journals can refer to it.

    A class takes the place of one of the same module and name, as when a cell of a notebook runs again. Raises
    StrategyError for a class that is no Struct, and for a name that another strategy has.
    """
    check_text(name, "the name of a strategy", "a text such as 'my_search'", StrategyError)
    if not (isinstance(strategy, type) and issubclass(strategy, Struct)):
        raise StrategyError(
            f"{short_repr(strategy)} is not a msgspec Struct; declare it as class …(Struct, frozen=True)"
        )
    known = STRATEGIES.setdefault(name, strategy)
    if (known.__module__, known.__qualname__) != (strategy.__module__, strategy.__qualname__):
        raise StrategyError(f"the name {name!r} is taken by {known.__name__}; choose another")
    STRATEGIES[name] = strategy


def canonical_name(name: str) -> str:
    """The short name for a short name or for the name of a class; raises StrategyError for an unknown one."""
    for known, strategy in STRATEGIES.items():
        if name in (known, strategy.__name__):
            return known
    for source in _sources:
        loaded = source.load_installed(name)
        if loaded is not None:
            register(*loaded)
            return loaded[0]
    names = [*STRATEGIES, *(known for source in _sources for known in source.installed_names())]
    near = get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(dict.fromkeys(names))}"
    own = "; a class in a file of yours is given as --strategy FILE.py:CLASS, or registered under a name"
    raise StrategyError(f"no strategy is called {name!r}; {hint}{own}")


def as_strategy(given: Any) -> str | AnyStrategy:
    """The short name of a registered strategy given by name or class; a strategy with its settings as it is.

    A class that is not registered becomes its instance with the defaults. Raises StrategyError for anything else.
    """
    if isinstance(given, str):
        return canonical_name(given)
    if isinstance(given, type):
        for name, known in STRATEGIES.items():
            if given is known:
                return name
        try:
            given = given()
        except Exception as error:  # the user's class may ask for arguments, or raise
            raise StrategyError(
                f"{given.__name__}() cannot be made without settings ({error}); give an instance as strategy"
            ) from None
    if not is_strategy(given):
        wanted = "a name such as 'pattern_search', or a strategy such as PatternSearch()"
        raise argument_error("strategy", given, wanted, StrategyError)
    strategy: AnyStrategy = given
    return strategy


def with_settings(strategy: AnyStrategy, settings: dict[str, Any]) -> AnyStrategy:
    """A strategy with single settings replaced; raises StrategyError as `make_strategy` does."""
    kind = type(strategy)
    if kind in STRATEGIES.values():
        spec = to_spec(strategy)
        return make_strategy(spec.name, {**spec.settings, **settings})
    if not settings:
        return strategy
    fields = kind.__struct_fields__ if issubclass(kind, Struct) else ()
    for setting in settings:
        if setting not in fields:
            raise _unknown_setting(kind.__name__, setting, fields)
    changed: AnyStrategy = msgspec.structs.replace(strategy, **settings)  # type: ignore[type-var]
    return changed


def _unknown_setting(name: str, setting: str, fields: tuple[str, ...]) -> StrategyError:
    near = get_close_matches(setting, fields, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(fields) or 'none'}"
    return StrategyError(f"{name} has no setting {setting!r}; {hint}")


def name_of(strategy: AnyStrategy) -> str:
    """The name of a strategy: the registered one, or that of its entry point; StrategyError if it has none."""
    kind = type(strategy)
    for name, known in STRATEGIES.items():
        if kind is known:
            return name
    for source in _sources:
        installed = source.find_installed(kind)
        if installed is not None:
            register(installed, kind)
            return installed
    raise StrategyError(
        f"{kind.__name__} has no name that a journal could use; call autotune.register('my_name', {kind.__name__})"
    )


def make_strategy(name: str, settings: dict[str, Any]) -> AnyStrategy:
    """The strategy of a name with these settings; raises StrategyError for an unknown name, and for a setting that is
    unknown, of another type or out of range."""
    kind = STRATEGIES[canonical_name(name)]
    fields = kind.__struct_fields__
    for setting in settings:
        if setting not in fields:
            raise _unknown_setting(name, setting, fields)
    values = {setting: plain(value) for setting, value in settings.items()}
    try:
        made: Any = kind(**values) if issubclass(kind, CheckedSettings) else msgspec.convert(values, kind)
    except (msgspec.ValidationError, TypeError) as error:  # of another type; a setting without default is missing
        raise StrategyError(f"{name}: {error}; see docs/reference/strategies.md for its settings") from None
    strategy: AnyStrategy = made
    return strategy


def to_spec(strategy: AnyStrategy) -> StrategySpec:
    """A registered strategy as plain data; raises StrategyError for any other."""
    settings = msgspec.to_builtins(strategy)
    settings.pop("type", None)
    return StrategySpec(name_of(strategy), settings)


def from_spec(spec: StrategySpec) -> AnyStrategy:
    """The strategy that `spec` describes."""
    return make_strategy(spec.name, spec.settings)
