"""JSON of unknown origin to typed values: Python's NaN and Infinity, and files that stop in the middle."""

import re
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from autotune.core.errors import RecordingError

T = TypeVar("T")

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_NON_FINITE = re.compile(_STRING + rb"|NaN|-?Infinity", re.DOTALL)
_STRUCTURE = re.compile(_STRING + rb"|[{}\[\]]|\"", re.DOTALL)

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

    Only a cut leaves an open object with whole entries and then one beginning: text in which further objects close
    after the last whole entry is damaged in the middle, and closing it there would lose entries in silence.
    """
    depth, key, end, inside = 0, b"", -1, False
    wanted = f'"{name}"'.encode()
    for match in _STRUCTURE.finditer(text):
        token = match.group()
        if token in (b"{", b"["):
            depth += 1
            if depth == 2 and token == b"{" and key == wanted:
                inside, end = True, match.end()
        elif token in (b"}", b"]"):
            depth -= 1
            if inside and depth == 2:
                end = match.end()
            inside = inside and depth >= 2
        elif token == b'"':
            break  # the string that the file stops in
        elif depth == 1:
            key = token
    torn = text[end:].strip(b" \t\r\n,") if end >= 0 else b""
    outside = re.sub(_STRING, b"", torn, flags=re.DOTALL).partition(b'"')[0]
    if depth <= 0 or end < 0 or (b"}" in outside and torn != b"}"):
        return None
    return Tear(end, b"" if torn == b"}" else torn)
