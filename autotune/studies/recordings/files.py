"""Bytes in and out: plain or gzip by content, torn gzip as far as it goes; files that appear whole or not at all."""

import gzip
import zlib
from pathlib import Path

from autotune.core.errors import RecordingError
from autotune.shell.files import replace_file

MAX_BYTES = 2**31
"""A recording that unpacks to more is refused: the files are untrusted, and a small gzip can hold terabytes."""

_GZIP = b"\x1f\x8b"


def read_text(path: Path) -> tuple[bytes, bool]:
    """The JSON text of a file, unpacked if it is gzip (by its first bytes), and whether the gzip ends too early.

    Raises RecordingError when the file cannot be read, its gzip is damaged, or it unpacks to more than MAX_BYTES.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    if not content.startswith(_GZIP):
        return content.removeprefix(b"\xef\xbb\xbf"), False
    try:
        return _unpack(path, content)
    except zlib.error as error:
        raise RecordingError(f"{path}: damaged gzip data ({error}); fetch the file again") from None


def _unpack(path: Path, content: bytes) -> tuple[bytes, bool]:
    parts, size = [], 0
    while content.startswith(_GZIP):  # a gzip file may be several members in a row
        member = zlib.decompressobj(wbits=31)
        parts.append(member.decompress(content, MAX_BYTES + 1 - size))
        size += len(parts[-1])
        if size > MAX_BYTES:
            raise RecordingError(f"{path}: unpacks to more than {MAX_BYTES >> 20} MiB; split the recording")
        if not member.eof:
            return b"".join(parts), True
        content = member.unused_data
    return b"".join(parts), False


def publish(path: Path, text: bytes) -> None:
    """Write `text` to `path`, packed if it ends in .gz: the same text gives the same bytes, and the file appears whole.

    Raises RecordingError when the directory cannot be written.
    """
    content = gzip.compress(text, 9, mtime=0) if path.suffix == ".gz" else text
    try:
        replace_file(path, content)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be written ({error.strerror or error}); check the directory") from None


def stem(path: Path) -> str:
    """The name of a recording: the file's, without .autotune.json, .json and .gz."""
    return path.name.removesuffix(".gz").removesuffix(".json").removesuffix(".autotune")
