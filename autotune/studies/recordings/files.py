"""The text of a recording's file: bytes in and out, plain or gzip by content, and JSON of unknown origin.

Torn gzip is read as far as it goes, JSON may hold Python's NaN and Infinity or stop in the middle, and files that are
written appear whole or not at all.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from autotune.core.errors import RecordingError
from autotune.shell.files import read_regular, suffix_conflict, translate_os_error, write_output

T = TypeVar("T")

_MAX_BYTES = 2**31
"""A recording of more text is refused: no published recording has a tenth of it."""

_MAX_RATIO = 100
"""A gzip that unpacks to more than this many times its size is refused past `_FREE_BYTES`: recordings shrink to between
a third and a tenth, indented JSON to a fortieth, and zeros to a thousandth."""

_FREE_BYTES = 2**24
"""A gzip of any size may unpack to so many bytes: decoded, they take some 0.5 GiB in the worst case."""

_PIECE, _CHUNK = 2**12, 2**20
"""A member of a gzip is unpacked in pieces, whose size in bytes doubles from the first number to the second: zlib
copies the rest of a piece at the end of a member, and a file can hold a million members."""

_GZIP = b"\x1f\x8b"

MARK = "\x00"

NON_FINITE = tuple(MARK + word for word in ("NaN", "Infinity", "-Infinity"))
"""Strings that stand for the numbers that Python writes but JSON does not have."""

# A string that never ends is taken to the end of the text, so that no text makes the search quadratic.
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)'

_NON_FINITE = re.compile(_STRING + rb"|NaN|-?Infinity", re.DOTALL)

_STRUCTURE = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)


def read_text(path: Path) -> tuple[bytes, bool]:
    """The text of a file, unpacked if it is gzip (by its first bytes), and whether the gzip ends too early.

    Raises RecordingError where the file cannot be read or is no regular file, its gzip is damaged, or it unpacks to
    more than _MAX_BYTES, or to more than _MAX_RATIO times its size.
    """
    with translate_os_error(RecordingError, f"{path}: cannot be read", "check the path"):
        content = read_regular(path, _MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise RecordingError(f"{path}: is larger than {_MAX_BYTES >> 20} MiB; split the recording")
    if not content.startswith(_GZIP):
        return content.removeprefix(b"\xef\xbb\xbf"), False
    text, whole = bytearray(), False
    limit = min(_MAX_BYTES, max(_FREE_BYTES, _MAX_RATIO * len(content)))
    try:
        for part, ended in _unpack(content):
            text += part
            whole = ended
            if len(text) > limit:
                raise RecordingError(
                    f"{path}: unpacks to more than {limit >> 20} MiB, which no recording of its size does; unpack it"
                    " yourself if you trust it, or split the recording"
                )
    except zlib.error as error:
        raise RecordingError(f"{path}: damaged gzip data ({error}); fetch the file again") from None
    return bytes(text).removeprefix(b"\xef\xbb\xbf"), not whole


def _unpack(content: bytes) -> Iterator[tuple[bytes, bool]]:
    """The text part by part, each with whether the gzip is whole with it; a file may be several members in a row."""
    rest = memoryview(content)
    while rest[:2] == _GZIP:
        member, left, size = zlib.decompressobj(wbits=31), rest, _PIECE
        while not member.eof and len(left):
            piece, left, size = left[:size], left[size:], min(2 * size, _CHUNK)
            part = member.decompress(piece, _CHUNK)
            yield part, member.eof
            while member.unconsumed_tail and not member.eof:
                part = member.decompress(member.unconsumed_tail, _CHUNK)
                yield part, member.eof
        if not member.eof:
            return
        rest = rest[len(rest) - len(left) - len(member.unused_data) :]


def write_text(path: Path, text: bytes) -> None:
    """Write `text`, which is JSON, to `path`, packed if it ends in .gz: the same text gives the same bytes, and the
    file appears whole.

    Raises RecordingError where the directory cannot be written, or the file's name ends as that of another format.
    """
    check_name(path)
    content = gzip.compress(text, 9, mtime=0) if path.suffix == ".gz" else text
    with translate_os_error(RecordingError, f"{path}: cannot be written", "check the directory"):
        write_output(path, content)


def check_name(path: Path) -> None:
    """Raises RecordingError for a name that says another format than JSON, packed or not."""
    packed = ".gz" if path.name.endswith(".gz") else ""
    if (fault := suffix_conflict(path.name.removesuffix(".gz"), ".json")) is not None:
        raise RecordingError(f"{path}: {fault}{packed}")


def recording_name(path: Path) -> str:
    """The name of a recording: the file's, without .autotune.json, .json and .gz."""
    return path.name.removesuffix(".gz").removesuffix(".json").removesuffix(".autotune")


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
    """The text with the strings of `NON_FINITE` in place of NaN and ±Infinity outside strings."""
    if b"NaN" not in text and b"Infinity" not in text:
        return text

    def mark(match: re.Match[bytes]) -> bytes:
        token = match.group()
        return token if token.startswith(b'"') else b'"\\u0000' + token + b'"'

    return _NON_FINITE.sub(mark, text)


class _Tear(NamedTuple):
    """The place at which a file that was cut off can be closed.

    end: the offset just after the last whole entry. torn: the rest of the text.
    """

    end: int
    torn: bytes


def find_tear(text: bytes) -> _Tear | None:
    """The place at which the object "cache" of a cut-off JSON object can be closed; None for other damage.

    A cut leaves whole entries and at most one beginning. Text that stops being JSON earlier, a second object that
    closes after the last whole entry, or an entry inside an entry (a lost brace) is damage in the middle: closing the
    text there would lose entries silently.
    """
    if _broken_at(text) < len(text) - len(b"-Infinity"):  # a word may be torn, such as Infini
        return None
    end = _last_entry(text)
    if end is None:
        return None
    torn = text[end:].strip(b" \t\r\n,")
    outside = re.sub(_STRING, b"", torn, flags=re.DOTALL)
    if b"}" in outside and torn != b"}":
        return None
    return _Tear(end, b"" if torn == b"}" else torn)


def _broken_at(text: bytes) -> int:
    """The offset at which a text that is not JSON cannot be continued to JSON; its length where it can."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        place = re.search(r"\(byte (\d+)\)", str(error))
        return int(place.group(1)) if place else len(text) if "truncated" in str(error) else 0
    except (ValueError, RecursionError):
        return 0
    return len(text)


def _last_entry(text: bytes) -> int | None:
    """The offset after the last whole entry of the object "cache"; None without it, or where entries are nested."""
    depth, key, nested = 0, b"", False
    end: int | None = None
    for match in _STRUCTURE.finditer(text):
        token = match.group()
        if token in (b"{", b"["):
            depth += 1
            nested = nested or (depth == 4 and token == b"{" and end is not None)
            if depth == 2 and key == b'"cache"':
                end = match.end()
        elif token in (b"}", b"]"):
            depth -= 1
            if depth == 2 and end is not None:
                if nested:
                    return None
                end = match.end()
            elif depth == 1 and end is not None:
                break  # the object is whole: no entry can be missing after it
        elif depth == 1:
            key = token
    return end
