"""Checks of arguments: the value in its plain form, or an error that names the argument, its value and the remedy.

what: the argument's name in the error. wanted: the values to give. error: the class of the error.
"""

from collections.abc import Iterable, Iterator
from copy import copy
from enum import StrEnum
from functools import lru_cache
from math import isfinite
from types import NoneType
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from autotune.core.errors import AutotuneError

T = TypeVar("T")

Error = type[AutotuneError]


def plain(value: Any) -> Any:
    """The Python number, bool or text of a numpy scalar (float32 as a double); any other value itself."""
    return value.item() if isinstance(value, np.bool_ | np.number | np.str_) else value


def short_repr(value: object) -> str:
    """A value in a message: its `repr` on one line, not too long, even if the class's `repr` fails."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a foreign class may raise anything
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}…"


def argument_error(what: str, value: object, wanted: str, error: Error) -> AutotuneError:
    """The error for an argument: its name, its value, and the values to give."""
    return error(f"{what} is {short_repr(value)}; give {wanted}")


def check_kind(value: Any, kind: type[T], what: str, wanted: str, error: Error) -> T:
    """The value, if it is of this class; otherwise raises the error."""
    if not isinstance(value, kind):
        raise argument_error(what, value, wanted, error)
    return value


def check_integer(value: Any, what: str, error: Error, least: int | None = None) -> int:
    """A Python or numpy integer of at least `least`; raises the error for anything else."""
    number = plain(value)
    if not isinstance(number, int) or isinstance(number, bool) or (least is not None and number < least):
        raise argument_error(what, value, "an integer" if least is None else f"an integer of at least {least}", error)
    return number


def check_bool(value: Any, what: str, error: Error) -> bool:
    """A Python or numpy bool; raises the error for anything else."""
    return check_kind(plain(value), bool, what, "True or False", error)


def check_items(value: Any, what: str, wanted: str, error: Error) -> Iterator[Any]:
    """The items of an iterable that is neither text nor a mapping; raises the error for anything else."""
    if isinstance(value, str | bytes | dict) or not isinstance(value, Iterable):
        raise argument_error(what, value, wanted, error)
    return iter(value)


def check_text(value: Any, what: str, wanted: str, error: Error) -> str:
    """A printable text; raises the error for anything else."""
    if not isinstance(value, str) or not value.isprintable():
        raise argument_error(what, value, wanted, error)
    return value


def check_codes(value: Any, what: str, width: int | None, error: Error, dimensions: int = 2) -> NDArray[np.int64]:
    """An int64 array of so many dimensions, the last of this width (None: any); raises the error for anything else."""
    ready = isinstance(value, np.ndarray) and value.dtype == np.int64 and value.ndim == dimensions
    if ready and (width is None or value.shape[-1] == width):
        rows: NDArray[np.int64] = value
        return rows
    last = "m" if width is None else str(width)
    wanted = f"an array of integers of the shape [{'n, ' * (dimensions - 1)}{last}]"
    try:
        array = np.asarray(value)
    except ValueError:  # lists of several lengths
        raise argument_error(what, value, wanted, error) from None
    fits = array.ndim == dimensions and (width is None or array.shape[-1] == width)
    if not fits or not (np.issubdtype(array.dtype, np.integer) or not array.size):
        raise argument_error(what, value, wanted, error)
    return array.astype(np.int64)


def convert_fields(settings: Struct, what: str, error: Error) -> None:
    """Convert the fields of a new Struct to their declared types (numpy scalars to Python's, 5 to a float field's 5.0).

    Raises the error, which names the field, for a value of another type, a NaN, or a number of more than 63 bits.
    """
    for field in msgspec.structs.fields(type(settings)):
        given = getattr(settings, field.name)
        try:
            value = msgspec.convert(plain(given), field.type)
        except (msgspec.ValidationError, UnicodeError) as wrong:
            raise error(f"{what}: {field.name} is {short_repr(given)}; {_expected_words(str(wrong))}") from None
        numeric = isinstance(value, int | float)
        if numeric and (value != value or (isinstance(value, int) and abs(value) >= 2**63)):
            raise error(f"{what}: {field.name} is {short_repr(given)}; give a number of at most 63 bits")
        msgspec.structs.force_setattr(settings, field.name, value)


_WORDS = {"int": "an integer", "float": "a number", "bool": "True or False", "str": "a text", "null": "None"}


def _expected_words(wrong: str) -> str:
    """The type that msgspec expected, in the words of these messages."""
    if not wrong.startswith("Expected "):
        return "give one of the values that the documentation names"
    expected = wrong.partition(", got")[0].removeprefix("Expected ").strip("`")
    return "give " + " or ".join(_WORDS.get(word, word) for word in expected.split(" | "))


AtLeast0 = Annotated[int, Meta(ge=0)]
AtLeast1 = Annotated[int, Meta(ge=1)]
AtLeast4 = Annotated[int, Meta(ge=4)]
Nonnegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
PositiveShare = Annotated[float, Meta(gt=0, le=1)]
Proportion = Annotated[float, Meta(ge=0, le=1)]


def check_settings(settings: Struct, what: str, error: Error, convert: bool = True) -> None:
    """Check the types of the fields of a new Struct, and the bounds of their `msgspec.Meta`.

    Every Struct of settings with bounds calls it, so that all of them say alike which values they take. convert: also
    give the fields their declared types, as `convert_fields` does. Raises the error, which names the field and the
    allowed values.
    """
    for field, allowed in _allowed_values(type(settings)).items():
        value = plain(getattr(settings, field))
        if value is not None and not allowed.hold(value):
            raise error(f"{what}: {field} = {short_repr(value)} {allowed.words}")
    convert_fields(settings if convert else copy(settings), what, error)


class _Bounds(NamedTuple):
    """Bounds of a number; a value of another type is left to the check of types."""

    meta: Meta
    words: str

    def hold(self, value: object) -> bool:
        meta = self.meta
        return not isinstance(value, int | float) or (
            isfinite(value)
            and (meta.ge is None or value >= meta.ge)
            and (meta.gt is None or value > meta.gt)
            and (meta.le is None or value <= meta.le)
            and (meta.lt is None or value < meta.lt)
        )


class _Members(NamedTuple):
    """The members of an enumeration of texts."""

    kind: type[StrEnum]
    words: str

    def hold(self, value: object) -> bool:
        return isinstance(value, str) and value in tuple(self.kind)


@lru_cache(maxsize=64)
def _allowed_values(kind: type[Struct]) -> dict[str, _Bounds | _Members]:
    """The values that each setting may have, apart from their types, in the order of the settings."""
    found: dict[str, _Bounds | _Members] = {}
    for field in msgspec.structs.fields(kind):
        parts = [field.type] if get_origin(field.type) is Annotated else [field.type, *get_args(field.type)]
        optional = ", or None" if NoneType in parts else ""
        for part in parts:
            if isinstance(part, type) and issubclass(part, StrEnum):
                found[field.name] = _Members(part, f"is unknown; use one of {', '.join(part)}{optional}")
            for meta in get_args(part) if get_origin(part) is Annotated else ():
                if isinstance(meta, Meta):
                    found[field.name] = _Bounds(meta, f"is out of range; use {_words(meta)}{optional}")
    return found


def describe_ranges(kind: type[Struct]) -> dict[str, str]:
    """The values that settings with bounds or names may have, in words, by the setting."""
    return {name: allowed.words.partition("; use ")[2] for name, allowed in _allowed_values(kind).items()}


def _words(meta: Meta) -> str:
    """The numbers within bounds, in words."""
    if meta.ge is not None:
        return f"at least {meta.ge:g}" if meta.le is None else f"a number from {meta.ge:g} to {meta.le:g}"
    if meta.le is not None:
        return f"a number above {meta.gt:g} up to {meta.le:g}"
    return f"a number above {meta.gt:g}" if meta.lt is None else f"a number between {meta.gt:g} and {meta.lt:g}"
