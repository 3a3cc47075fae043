"""Arguments as they are meant, or one sentence that names the argument, says what was given and what to give."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.errors import AutotuneError

T = TypeVar("T")

Error = type[AutotuneError]


def plain(value: Any) -> Any:
    """The Python number, truth value or text of a scalar of numpy (float32 as a double); all else as it is."""
    return value.item() if isinstance(value, np.bool_ | np.number | np.str_) else value


def shown(value: object) -> str:
    """A value in a message: one line, not too long, whatever its class makes of `repr`."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a foreign class may fail at anything
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}…"


def refuse(what: str, value: object, wanted: str, error: Error) -> AutotuneError:
    """The error for an argument: what it is called, what was given, and what to give."""
    return error(f"{what} is {shown(value)}; give {wanted}")


def of_kind(value: Any, kind: type[T], what: str, wanted: str, error: Error) -> T:
    """The value, if it is of this class; otherwise an error."""
    if not isinstance(value, kind):
        raise refuse(what, value, wanted, error)
    return value


def integer(value: Any, what: str, error: Error, least: int | None = None) -> int:
    """A whole number, of numpy or not; an error for anything else, and for one below `least`."""
    number = plain(value)
    if not isinstance(number, int) or isinstance(number, bool) or (least is not None and number < least):
        raise refuse(what, value, "an integer" if least is None else f"an integer of at least {least}", error)
    return number


def truth(value: Any, what: str, error: Error) -> bool:
    """True or False, of numpy or not; an error for anything else."""
    return of_kind(plain(value), bool, what, "True or False", error)


def items(value: Any, what: str, wanted: str, error: Error) -> Iterator[Any]:
    """The items of a list or anything else that can be gone through, but no text and no mapping."""
    if isinstance(value, str | bytes | dict) or not isinstance(value, Iterable):
        raise refuse(what, value, wanted, error)
    return iter(value)


def text(value: Any, what: str, wanted: str, error: Error) -> str:
    """A text that can be written; an error for anything else."""
    if not isinstance(value, str) or not value.isprintable():
        raise refuse(what, value, wanted, error)
    return value


def codes(value: Any, what: str, width: int | None, error: Error, dimensions: int = 2) -> NDArray[np.int64]:
    """An array of whole numbers of so many dimensions, the last one of this width (None: any); else an error."""
    ready = isinstance(value, np.ndarray) and value.dtype == np.int64 and value.ndim == dimensions
    if ready and (width is None or value.shape[-1] == width):
        rows: NDArray[np.int64] = value
        return rows
    last = "m" if width is None else str(width)
    wanted = f"an array of integers of the shape [{'n, ' * (dimensions - 1)}{last}]"
    try:
        array = np.asarray(value)
    except ValueError:  # lists of several lengths
        raise refuse(what, value, wanted, error) from None
    fits = array.ndim == dimensions and (width is None or array.shape[-1] == width)
    if not fits or not (np.issubdtype(array.dtype, np.integer) or not array.size):
        raise refuse(what, value, wanted, error)
    return array.astype(np.int64)


def take_fields(settings: Struct, what: str, error: Error) -> None:
    """Give the fields of a new Struct the types that it declares (scalars of numpy become Python's, 5 a float where one
    is meant); an error that names the field for a value of another type, a NaN, or a number of more than 63 bits."""
    for field in msgspec.structs.fields(type(settings)):
        given = getattr(settings, field.name)
        try:
            value = msgspec.convert(plain(given), field.type)
        except (msgspec.ValidationError, UnicodeError) as wrong:
            raise error(f"{what}: {field.name} is {shown(given)}; {_told(str(wrong))}") from None
        numeric = isinstance(value, int | float)
        if numeric and (value != value or (isinstance(value, int) and abs(value) >= 2**63)):
            raise error(f"{what}: {field.name} is {shown(given)}; give a number of at most 63 bits")
        msgspec.structs.force_setattr(settings, field.name, value)


_WORDS = {"int": "an integer", "float": "a number", "bool": "True or False", "str": "a text", "null": "None"}


def _told(wrong: str) -> str:
    """What msgspec expected, in the words of these messages."""
    if not wrong.startswith("Expected "):
        return "give one of the values that the documentation names"
    expected = wrong.partition(", got")[0].removeprefix("Expected ").strip("`")
    return "give " + " or ".join(_WORDS.get(word, word) for word in expected.split(" | "))
