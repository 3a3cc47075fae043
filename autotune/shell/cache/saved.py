"""The entries of a cache as saved best configs, newest first."""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from autotune.core.arguments import integer
from autotune.core.config import Config
from autotune.core.errors import CacheError
from autotune.shell.cache.entries import Entry, Head
from autotune.shell.cache.keys import Device, canonical
from autotune.shell.cache.layers import Cache
from autotune.shell.cache.store import PathLike
from autotune.shell.files import as_path


class SavedBestConfig(Struct, frozen=True):
    """The best config of one entry.

    hardware: the device, such as "cuda NVIDIA H200 sm_90". specialization_key: the canonical JSON of arguments and
    constants. config_spec_hash: the fingerprint of the space. flat_config: the values in the order of the config.
    """

    hardware: str
    specialization_key: str
    config: Config
    config_spec_hash: str
    flat_config: tuple[Any, ...]


def iter_cache_entries(cache_path: PathLike, *, max_scan: int | None = None) -> Iterator[SavedBestConfig]:
    """The best config of every entry in a directory that has one, newest first.

    max_scan: read at most so many entries. Broken ones are left out, with one warning.
    """
    if max_scan is not None:
        max_scan = integer(max_scan, "max_scan", CacheError, 0)
    as_path(cache_path, "cache_path", CacheError)
    cache = Cache(cache_path, mode="read_only")
    for _, head in cache.heads(max_scan):
        saved = saved_best(head)
        if saved is not None:
            yield saved


def saved_best(entry: Entry | Head) -> SavedBestConfig | None:
    """The best config of an entry; None where its run found none."""
    if entry.best is None:
        return None
    key = entry.key.loose
    return SavedBestConfig(
        hardware(key.device), canonical(key.specialization).decode(), entry.best, key.space, tuple(entry.best.values())
    )


def hardware(device: Device) -> str:
    """A device in a few words."""
    return " ".join(part for part in (device.kind, device.name, device.architecture) if part)
