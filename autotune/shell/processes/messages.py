"""The frames between a parent and a worker: a length and a message. No pickle ever comes back from a worker."""

import socket
import struct

import msgspec
from msgspec import Struct

LONGEST_FRAME = 1 << 22
"""Bytes; a longer frame is none of ours, but written to the socket by a kernel, say."""
_LENGTH = struct.Struct(">I")


class JobOrder(Struct, frozen=True):
    """The base of an order that begins a new job. A worker that an earlier job has changed does not take it."""


class Broken(Struct, frozen=True, tag="broken"):
    """A worker's reply where the workload itself cannot be used for any job."""

    message: str


_encoder = msgspec.msgpack.Encoder()


def encode(message: Struct) -> bytes:
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def split(buffer: bytearray) -> list[bytes]:
    """Take the complete frames off the front of `buffer` and return their bodies; raises ValueError for no frame."""
    bodies = []
    while len(buffer) >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(buffer)
        if length > LONGEST_FRAME:
            raise ValueError(f"a frame of {length} bytes")
        end = _LENGTH.size + length
        if len(buffer) < end:
            break
        bodies.append(bytes(buffer[_LENGTH.size : end]))
        del buffer[:end]
    return bodies


def receive_body(sock: socket.socket) -> bytes | None:
    """Wait for the next frame and return its body; None once the other side is gone."""
    length = _receive(sock, _LENGTH.size)
    return None if length is None else _receive(sock, _LENGTH.unpack(length)[0])


def _receive(sock: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        try:
            part = sock.recv(count - len(parts))
        except ConnectionError:
            return None
        if not part:
            return None
        parts += part
    return bytes(parts)
