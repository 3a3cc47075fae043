"""Counter-based random keys: the only source of randomness in the library.

A key is 128 bits. `fold(key, *path)` derives an independent key for a named purpose, so a draw depends on its purpose
alone and never on earlier draws. Draws use raw Philox-4x64 words (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011), which numpy guarantees to keep, and not numpy's distributions, which may change.
"""

from hashlib import blake2b
from typing import Any, NewType

import numpy as np
from numpy.typing import NDArray

Key = NewType("Key", int)
"""128 bits, as a non-negative Python integer."""

Words = NDArray[np.uint64]


def root(seed: int) -> Key:
    """The key from which all keys of a search are derived. `seed` is any Python integer."""
    return fold(Key(0), "seed", seed)


def fold(key: Key, *path: int | str | bytes) -> Key:
    """The key for the purpose that `path` names. Equal paths give equal keys; a different type or order another key."""
    digest = blake2b(key.to_bytes(16, "little"), digest_size=16)
    for part in path:
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(f"{type(part).__name__}:{len(data)}:".encode())
        digest.update(data)
    return Key(int.from_bytes(digest.digest(), "little"))


_LOW = (1 << 64) - 1

_idle: list[np.random.Philox] = []
"""Generators between two draws: creating one takes five times as long as a usual draw. A draw takes one out, so that no
two threads share a generator, and no forked process waits for a lock that a thread of its parent holds."""


def words(key: Key, n: int) -> Words:
    """`n` raw 64-bit words, shape [n]."""
    start: Any = {
        "bit_generator": "Philox",
        "state": {"counter": np.zeros(4, np.uint64), "key": np.array([key & _LOW, key >> 64], np.uint64)},
        "buffer": np.zeros(4, np.uint64),
        "buffer_pos": 4,  # nothing is left of an earlier draw
        "has_uint32": 0,
        "uinteger": 0,
    }
    try:
        generator = _idle.pop()
    except IndexError:
        generator = np.random.Philox(key=0)
    generator.state = start
    raw: Words = generator.random_raw(n)
    _idle.append(generator)
    return raw


def uniform(key: Key, *shape: int) -> NDArray[np.float64]:
    """Floats in [0, 1) with 53 random bits, of the given shape."""
    n = int(np.prod(shape, dtype=np.int64))
    drawn = (words(key, n) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return drawn.reshape(shape)


def integers(key: Key, bounds: int | NDArray[np.int64], n: int | None = None) -> NDArray[np.int64]:
    """Integers in [0, bound): one for each entry of `bounds`, in its shape, or `n` of them for one bound.

    The bias of the reduction modulo the bound is under bound / 2**64.
    """
    limits = np.full(n, bounds, np.int64) if n is not None else np.asarray(bounds, np.int64)
    drawn = words(key, limits.size).reshape(limits.shape) % limits.astype(np.uint64)
    return drawn.astype(np.int64)


def big_integer(key: Key, bound: int) -> int:
    """One integer in [0, bound) for a bound of any size; the bias is under 2**-64."""
    count = bound.bit_length() // 64 + 2
    return int.from_bytes(words(key, count).tobytes(), "little") % bound


def permutation(key: Key, n: int) -> NDArray[np.int64]:
    """A random order of range(n), shape [n]."""
    return np.argsort(words(key, n), kind="stable").astype(np.int64)


def permutations(key: Key, rows: int, n: int) -> NDArray[np.int64]:
    """`rows` independent random orders of range(n), shape [rows, n]."""
    return np.argsort(words(key, rows * n).reshape(rows, n), axis=1, kind="stable").astype(np.int64)
