"""JSON of unknown origin to typed values: Python's NaN and Infinity, and files that stop in the middle."""

import re
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from autotune.core.errors import RecordingError

T = TypeVar("T")

# A string that never ends is taken to the end of the text, so that no text makes the search quadratic.
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)'
_NON_FINITE = re.compile(_STRING + rb"|NaN|-?Infinity", re.DOTALL)
_STRUCTURE = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)

MARK = "\x00"
NON_FINITE = tuple(MARK + word for word in ("NaN", "Infinity", "-Infinity"))
"""Stand in for the numbers that Python writes but JSON does not have."""


def decode(
    kind: type[T] | msgspec.json.Decoder[T], text: bytes | msgspec.Raw, path: Path, place: str, remedy: str
) -> T:
    """The typed value of JSON text; raises RecordingError naming the file, the place and the remedy."""
    decoder = kind if isinstance(kind, msgspec.json.Decoder) else msgspec.json.Decoder(kind)
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecordingError(f"{path}: {place}: {error}; {remedy}") from None


def is_json(text: bytes) -> bool:
    """Whether text is one whole JSON value."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def _broken_at(text: bytes) -> int:
    """The offset where text that is not JSON stops being a beginning of JSON; its length when only more was to come."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        place = re.search(r"\(byte (\d+)\)", str(error))
        return int(place.group(1)) if place else len(text) if "truncated" in str(error) else 0
    except (ValueError, RecursionError):
        return 0
    return len(text)


def without_non_finite(text: bytes) -> bytes:
    """The text with NaN and ±Infinity, outside strings, replaced by marked strings that JSON can hold."""
    if b"NaN" not in text and b"Infinity" not in text:
        return text

    def mark(match: re.Match[bytes]) -> bytes:
        token = match.group()
        return token if token.startswith(b'"') else b'"\\u0000' + token + b'"'

    return _NON_FINITE.sub(mark, text)


class Tear(NamedTuple):
    """Where a file that was cut off can be closed again."""

    end: int
    """The offset just after the last whole entry."""
    torn: bytes
    """What follows it."""


def find_tear(text: bytes, name: str) -> Tear | None:
    """Where the object `name` of a cut-off JSON object can be closed; None when the text was not merely cut.

    A cut leaves whole entries and at most one beginning. Text that stops being JSON earlier, a second object that
    closes after the last whole entry, or an entry inside an entry (a lost brace) is damage in the middle: closing the
    text there would lose entries in silence.
    """
    if _broken_at(text) < len(text) - len(b"-Infinity"):  # a word may be torn, such as Infini
        return None
    end = _last_entry(text, f'"{name}"'.encode())
    if end is None:
        return None
    torn = text[end:].strip(b" \t\r\n,")
    outside = re.sub(_STRING, b"", torn, flags=re.DOTALL)
    if b"}" in outside and torn != b"}":
        return None
    return Tear(end, b"" if torn == b"}" else torn)


def _last_entry(text: bytes, name: bytes) -> int | None:
    """The offset after the last whole entry of the object `name`; None without it or where an entry holds an object."""
    depth, key, nested = 0, b"", False
    end: int | None = None
    for match in _STRUCTURE.finditer(text):
        token = match.group()
        if token in (b"{", b"["):
            depth += 1
            nested = nested or (depth == 4 and token == b"{" and end is not None)
            if depth == 2 and key == name:
                end = match.end()
        elif token in (b"}", b"]"):
            depth -= 1
            if depth == 2 and end is not None:
                if nested:
                    return None
                end = match.end()
            elif depth == 1 and end is not None:
                break  # the object is whole, and what follows cannot be missing an entry
        elif depth == 1:
            key = token
    return end
