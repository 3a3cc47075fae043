"""What the parent and a worker say to each other: typed messages in length-prefixed frames; no pickle comes back."""

import socket
import struct

import msgspec
from msgspec import Struct

from autotune.core.outcomes import Outcome

LONGEST_FRAME = 1 << 22
_HEAD = struct.Struct(">I")


class Build(Struct, frozen=True, tag="build"):
    """Build this config (one JSON object). The reply is Built, or Ended with a failure."""

    config: str


class Run(Struct, frozen=True, tag="run"):
    """Check and time what was built; stop sampling after `budget_s` seconds. The reply is Ended."""

    cutoff_ms: float | None
    budget_s: float


class Prepare(Struct, frozen=True, tag="prepare"):
    """Check and warm up what was built, for samples to come. The reply is Done, or Ended with a failure."""


class Sample(Struct, frozen=True, tag="sample"):
    """Take one sample. The reply is Done, or Ended with a failure."""


class Verify(Struct, frozen=True, tag="verify"):
    """Check what was sampled once more. The reply is Done, or Ended with a failure."""


Order = Build | Run | Prepare | Sample | Verify


class Ready(Struct, frozen=True, tag="ready"):
    """The worker has loaded its workload."""


class Broken(Struct, frozen=True, tag="broken"):
    """The workload itself cannot be used, whatever the config."""

    message: str


class Built(Struct, frozen=True, tag="built"):
    """Built, in this many seconds (pauses included)."""

    seconds: float


class Done(Struct, frozen=True, tag="done"):
    """Prepared, or sampled; `seconds` is what it took in all, `time_ms` the sample."""

    seconds: float
    time_ms: float | None = None


class Ended(Struct, frozen=True, tag="ended"):
    """The config has its outcome and the worker has dropped it."""

    outcome: Outcome


Reply = Ready | Broken | Built | Done | Ended

_encoder = msgspec.msgpack.Encoder()
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
_orders: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)


def encode(message: Struct) -> bytes:
    """The frame of a message."""
    body = _encoder.encode(message)
    return _HEAD.pack(len(body)) + body


def decode_reply(body: bytes) -> Reply:
    """The reply in a frame's body; raises msgspec.DecodeError for anything else."""
    return _replies.decode(body)


def split(buffer: bytearray) -> list[bytes]:
    """Take the whole frames off the front of `buffer`; raises ValueError where that cannot be a frame."""
    bodies = []
    while len(buffer) >= _HEAD.size:
        (length,) = _HEAD.unpack_from(buffer)
        if length > LONGEST_FRAME:
            raise ValueError(f"a frame of {length} bytes")
        end = _HEAD.size + length
        if len(buffer) < end:
            break
        bodies.append(bytes(buffer[_HEAD.size : end]))
        del buffer[:end]
    return bodies


def decode_order(body: bytes) -> Order:
    """The order in a frame's body."""
    return _orders.decode(body)


def receive_body(sock: socket.socket) -> bytes | None:
    """The body of the next frame, waiting for it; None once the other side is gone."""
    head = _receive(sock, _HEAD.size)
    return None if head is None else _receive(sock, _HEAD.unpack(head)[0])


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
