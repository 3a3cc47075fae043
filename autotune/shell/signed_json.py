"""JSON objects with a checksum of their text as the last field: the headers of journals, and cache entries."""

import zlib

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The errors of decoding text that is not JSON of the right shape; RecursionError for a hundred thousand brackets."""

_MARK = b',"sum":"'
"""Between an object's last field and its checksum."""


def sign(text: bytes) -> bytes:
    """A JSON object with the CRC-32 of its text, in hexadecimal digits, as its last field "sum"."""
    return b'%s%s%08x"}' % (text[:-1], _MARK, zlib.crc32(text))


def is_signed(line: bytes) -> bool:
    """Whether a line ends with the checksum of the object before it."""
    return line == sign(line.rpartition(_MARK)[0] + b"}")
