"""Where a config that a search begins with comes from."""

from typing import Any

from msgspec import Struct


class Origin(Struct, frozen=True, omit_defaults=True):
    """Where one of the best available configs comes from; the journal's header has one for each, in order.

    entry: the name of the cache entry. distance: how far its key is away, 0 for the same. time_ms: what it took there.
    """

    config: dict[str, Any]
    entry: str
    run: str
    kernel: str
    hardware: str
    distance: float
    time_ms: float
