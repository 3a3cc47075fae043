"""The strategies and their settings in words. The sources are the classes themselves: fields, bounds and docstrings."""

import inspect
import re
from enum import Enum
from importlib.metadata import entry_points
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec import Struct

from autotune.core.arguments import describe_ranges
from autotune.core.search.plan import LEAST_OF_SETTINGS, Settings
from autotune.core.strategies.registry import DEFAULT_STRATEGY, STRATEGIES, canonical_name
from autotune.shell.installed_strategies import GROUP, installed_names

SEARCH = "search"
"""The name under which the settings of the search are described, beside the names of strategies."""


class StrategyDescription(Struct, frozen=True, kw_only=True):
    """A strategy for a list. package: the one that brings it. line: the first sentence of its docstring."""

    name: str
    default: bool
    package: str
    line: str


class SettingDescription(Struct, frozen=True, kw_only=True):
    """A setting for a list. required: it has no default. range: the values allowed, in words; empty: all of its type.

    meaning: empty where the docstring of the class does not say it.
    """

    name: str
    type: str
    required: bool
    default: Any
    range: str
    meaning: str


def describe_strategies() -> list[StrategyDescription]:
    """The registered strategies, then those of installed packages, which are imported for it.

    StrategyError where a package cannot be imported, as `canonical_name` has it.
    """
    declared = {entry.name: entry for entry in entry_points(group=GROUP)}
    names = dict.fromkeys([*STRATEGIES, *map(canonical_name, installed_names())])
    return [
        StrategyDescription(
            name=name,
            default=name == DEFAULT_STRATEGY,
            package=declared[name].module.partition(".")[0]
            if name in declared
            else STRATEGIES[name].__module__.partition(".")[0],
            line=first_sentence(STRATEGIES[name]),
        )
        for name in names
    ]


def first_sentence(kind: type[Any]) -> str:
    """The first paragraph of the docstring of a class, on one line."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].split())


def describe_settings(name: str) -> list[SettingDescription]:
    """The settings of a strategy, or of the search where the name is "search"; StrategyError for an unknown name."""
    kind: type[Struct] = Settings if name == SEARCH else STRATEGIES[canonical_name(name)]
    ranges = describe_ranges(kind)
    if name == SEARCH:
        ranges |= {field: f"at least {least}" for field, least in LEAST_OF_SETTINGS.items()}
    meanings = _meanings(kind)
    return [
        SettingDescription(
            name=field.name,
            type=_type_words(field.type),
            required=field.required,
            default=_default(field),
            range=ranges.get(field.name, ""),
            meaning=meanings.get(field.name, ""),
        )
        for field in msgspec.structs.fields(kind)
    ]


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.required:
        return None
    made = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return msgspec.to_builtins(made, enc_hook=repr)


def _type_words(kind: Any) -> str:
    """A type as its name: int, float or None, one of the members of an enumeration."""
    if get_origin(kind) is Annotated:
        return _type_words(get_args(kind)[0])
    if kind is type(None):
        return "None"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "text"
    if isinstance(kind, type) and not get_args(kind):
        return kind.__name__
    if get_origin(kind) in (list, tuple, dict):
        return "list" if get_origin(kind) is not dict else "object"
    return " or ".join(map(_type_words, get_args(kind))) or str(kind)


def _meanings(kind: type[Struct]) -> dict[str, str]:
    """The meaning of each field: the sentences "name: meaning." of the class's docstring, else of its bases."""
    found: dict[str, str] = {}
    fields = "|".join(kind.__struct_fields__)
    names = re.compile(rf"(?:^|(?<=[.;)] ))((?:{fields})(?:, (?:{fields}))*): ")
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        parts = names.split(" ".join(text.partition("\n\n")[2].split()))
        for heading, meaning in zip(parts[1::2], parts[2::2], strict=True):
            found |= dict.fromkeys(heading.split(", "), meaning.strip().rstrip("."))
    return found
