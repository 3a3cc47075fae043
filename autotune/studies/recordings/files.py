"""Bytes in and out: plain or gzip by content, torn gzip as far as it goes; files that appear whole or not at all."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from autotune.core.errors import RecordingError
from autotune.shell.files import contradiction, read_regular, write_output

MAX_BYTES = 2**31
"""A recording of more text is refused: no recording that was ever published has a tenth of it."""

MAX_RATIO = 100
"""A gzip that unpacks to more than this many times its size is refused past `FREE_BYTES`: recordings shrink to between
a third and a tenth, indented JSON to a fortieth, and a thousand times is what gzip can do to zeros."""

FREE_BYTES = 2**24
"""So many bytes a gzip may unpack to whatever its size: decoded, they take some 0.5 GiB at the very worst."""

_PIECE, _CHUNK = 2**12, 2**20
"""A member is unpacked in pieces of so many bytes, from the first size doubling to the second: zlib copies the rest of
a piece at the end of a member, and a file can hold a million members."""

_GZIP = b"\x1f\x8b"


def read_text(path: Path) -> tuple[bytes, bool]:
    """The text of a file, unpacked if it is gzip (by its first bytes), and whether the gzip ends too early.

    Raises RecordingError when the file cannot be read or is no regular file, its gzip is damaged, or it unpacks to more
    than MAX_BYTES, or to more than MAX_RATIO times its size.
    """
    try:
        content = read_regular(path, MAX_BYTES + 1)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    if len(content) > MAX_BYTES:
        raise RecordingError(f"{path}: is larger than {MAX_BYTES >> 20} MiB; split the recording")
    if not content.startswith(_GZIP):
        return content.removeprefix(b"\xef\xbb\xbf"), False
    text, whole = bytearray(), False
    limit = min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * len(content)))
    try:
        for part, ended in _unpacked(content):
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


def _unpacked(content: bytes) -> Iterator[tuple[bytes, bool]]:
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


def publish(path: Path, text: bytes) -> None:
    """Write `text`, which is JSON, to `path`, packed if it ends in .gz: the same text gives the same bytes, and the
    file appears whole.

    Raises RecordingError when the directory cannot be written, or the file's name says that it is something else.
    """
    check_name(path)
    content = gzip.compress(text, 9, mtime=0) if path.suffix == ".gz" else text
    try:
        write_output(path, content)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be written ({error.strerror or error}); check the directory") from None


def check_name(path: Path) -> None:
    """Raises RecordingError for a name that says another format than JSON, packed or not."""
    packed = ".gz" if path.name.endswith(".gz") else ""
    if (fault := contradiction(path.name.removesuffix(".gz"), ".json")) is not None:
        raise RecordingError(f"{path}: {fault}{packed}")


def stem(path: Path) -> str:
    """The name of a recording: the file's, without .autotune.json, .json and .gz."""
    return path.name.removesuffix(".gz").removesuffix(".json").removesuffix(".autotune")
