"""The cache: a directory that is written above directories that are only read, and the entries that were read last.

`get_cache_dir` says where caches are on this machine; `iter_cache_entries` lists saved best configs, newest first.
"""

import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from heapq import nlargest
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from msgspec import Struct

from autotune.core.arguments import check_integer, check_items, short_repr
from autotune.core.config import Config, Value
from autotune.core.errors import CacheError
from autotune.core.outcomes import Failed
from autotune.shell.cache.entries import (
    Entry,
    EntryHead,
    Found,
    Measurement,
    Provenance,
    decode_entry,
    decode_head,
    make_entry,
    new_run,
)
from autotune.shell.cache.identity import installed_versions
from autotune.shell.cache.keys import Device, Key, StrictKey, Versions, canonical_json
from autotune.shell.cache.store import Store, age, is_settled
from autotune.shell.files import PathLike, as_path
from autotune.shell.settings import environment
from autotune.shell.warn import warn_user


def get_cache_dir() -> Path:
    """The root directory of this library's caches: AUTOTUNE_CACHE_DIR, else the user's cache directory."""
    named = environment().cache_dir
    try:
        if named is not None:
            return named.expanduser()
        import platformdirs  # only where the variable is not set

        found = Path(platformdirs.user_cache_dir("autotune", appauthor=False))
    except RuntimeError:  # there is no HOME, and no entry for the user
        return _directory_without_home()
    return found if found.is_absolute() else _directory_without_home()


@cache
def _directory_without_home() -> Path:
    """A directory for a user without a home: a temporary one that only this user may write to."""
    folder = Path(tempfile.gettempdir()) / f"autotune-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = os.lstat(folder)
        own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    except OSError:
        own = False
    if not own:
        with suppress(OSError):  # where nothing can be written, the cache says so when it writes
            folder = Path(tempfile.mkdtemp(prefix="autotune-"))
    warn_user(
        f"this user has no home directory, so the cache is in {folder}; set AUTOTUNE_CACHE_DIR to a directory"
        " that lasts",
    )
    return folder


def triton_cache_dir(device_index: int) -> Path:
    """The directory under the cache root for the kernels that Triton compiles for one device, for TRITON_CACHE_DIR.

    Each device has its own, so that processes that tune on different devices do not share one. Raises CacheError for
    a negative number.
    """
    if not isinstance(device_index, int) or isinstance(device_index, bool) or device_index < 0:
        raise CacheError(f"device_index = {device_index!r} is not the number of a device; use 0, 1, …")
    return get_cache_dir() / "triton" / str(device_index)


CacheMode = Literal["read_write", "read_only", "off"]
CACHE_MODES: tuple[CacheMode, ...] = get_args(CacheMode)

REMEMBERED = 4096
"""Keys whose entries are kept in memory at most; then all are read again. A process with more keys is rare, and an
entry takes some kilobytes."""


class CachedMeasurement(NamedTuple):
    """A measurement, the run that made it, and the toolchain of that run."""

    measurement: Measurement
    run: Provenance
    versions: Versions


@dataclass(frozen=True)
class _Lookup:
    """The entries under a digest, with their layers, when the layers had these stamps."""

    stamps: tuple[int, ...]
    entries: tuple[tuple[int, Entry], ...]


class Cache:
    """Entries by key, in layers.

    directory: where new entries go; None: `get_cache_dir()`. shipped: further directories that are only read, such as
    one that came with a package; an earlier directory goes before a later one. mode: "read_write"; "read_only": nothing
    is ever written; "off": nothing is read either. Raises CacheError for other arguments.
    """

    def __init__(
        self, directory: PathLike | None = None, *, shipped: Iterable[PathLike] = (), mode: CacheMode = "read_write"
    ) -> None:
        if not isinstance(mode, str) or mode not in CACHE_MODES:
            raise CacheError(f"no cache mode is called {short_repr(mode)}; there are {', '.join(CACHE_MODES)}")
        others = [as_path(one, "shipped: a directory", CacheError) for one in
                  check_items(shipped, "shipped", "a list of directories", CacheError)]  # fmt: skip
        self.mode: CacheMode = mode
        first = get_cache_dir() if directory is None else as_path(directory, "the cache's directory", CacheError)
        self.stores = (Store(first), *map(Store, others))
        self._lookups: dict[str, _Lookup] = {}
        self._rejections: dict[str, list[Entry]] = {}
        self._heads: dict[str, EntryHead] = {}

    @property
    def directory(self) -> Path:
        """Where new entries go."""
        return self.stores[0].directory

    def __repr__(self) -> str:
        layers = ", ".join(os.fspath(store.directory) for store in self.stores)
        return f"Cache({layers}; {self.mode})"

    def entries(self, key: Key) -> tuple[Entry, ...]:
        """The entries of a key that are not superseded: the first layer first, newest first within a layer.

        A loose key finds the entries of every toolchain, a strict key the entries of its own toolchain.
        """
        return tuple(entry for _, entry in self._find_layers(key))

    def find(self, key: Key, accept: Callable[[Entry], bool] | None = None) -> Entry | None:
        """The best finished entry of a key, or None.

        For a loose key the entries of the installed toolchain go before the others. Then the first layer goes before
        the others, the faster result before the slower, the newer before the older. accept: says which entries will do.
        """
        layered = self._find_layers(key)
        rejected = {(c, e.key.versions): e.run.began_at for _, e in reversed(layered) for c in e.rejects}
        barred = {name for _, e in layered for name in e.barred}
        found = [
            (layer, entry)
            for layer, entry in layered
            if entry.finished
            and entry.name not in barred
            and not (rejected and _is_rejected(entry, rejected))
            and (accept is None or accept(entry))
        ]
        if len(found) < 2:
            return found[0][1] if found else None
        mixed = len({entry.key.versions for _, entry in found}) > 1
        installed = installed_versions() if mixed else None

        def order(item: tuple[int, Entry]) -> tuple[bool, int, float, float, str]:
            layer, entry = item
            assert entry.result is not None
            other = mixed and entry.key.versions != installed
            return other, layer, entry.result.best.time_ms, -entry.run.began_at, entry.name

        return min(found, key=order)[1]

    def reject(self, key: Key, config: Mapping[str, Value], why: str) -> None:
        """Warn that a cached config no longer compiles or answers wrongly, and never give it for this key again.

        The rejection is written to disk for the installed toolchain, if the cache may be written to; other measurements
        stay. Tune again afterwards.
        """
        bad = Config(config)
        warn_user(f"the cached config of {key.loose.kernel} no longer works: {bad}: {why}; it is tuned again")
        strict = key if isinstance(key, StrictKey) else StrictKey(key, installed_versions())
        failed = Measurement(bad, Failed("unknown", why), "cache")
        # By name, too: the clock of the host that wrote one may be ahead of this one's.
        barred = tuple(e.name for e in self.entries(strict) if e.best == bad)
        entry = make_entry(strict, new_run(), (failed,), rejects=(bad,), barred=barred)
        self._rejections.setdefault(key.loose.digest, []).append(entry)
        self._lookups.pop(key.loose.digest, None)
        self.publish(entry)

    def measurements(self, key: Key) -> dict[Config, CachedMeasurement]:
        """The measurements of all runs on a key; of a config that several runs measured, by the run that ended last."""
        merged: dict[Config, CachedMeasurement] = {}
        for entry in sorted(self.entries(key), key=lambda e: (e.run.written_at, e.run.id)):
            for measurement in entry.measurements:
                merged[measurement.config] = CachedMeasurement(measurement, entry.run, entry.key.versions)
        return merged

    def newest(self, max_scan: int | None = None) -> Iterator[Entry]:
        """The entries of all layers, newest first; at most `max_scan` are read, and broken ones are left out."""
        return (entry for _, entry in self._newest(max_scan, decode_entry))

    def heads(self, max_scan: int | None = None) -> Iterator[tuple[str, EntryHead]]:
        """The names and heads of the same entries; `read` gives the rest. The heads of finished entries, which no
        longer change, are remembered."""
        for name, head in self._newest(max_scan, decode_head, self._heads):
            if head.finished and name not in self._heads:
                if len(self._heads) >= REMEMBERED:
                    self._heads.clear()
                self._heads[name] = head
            yield name, head

    def read(self, name: str) -> Entry | None:
        """The entry of that name, from the first layer that has it whole; None if none has."""
        return next((entry for store in self.stores if (entry := store.read(name)) is not None), None)

    def _newest(
        self, max_scan: int | None, decode: Callable[[bytes], Found], known: Mapping[str, Found] | None = None
    ) -> Iterator[tuple[str, Found]]:
        """known: entries by name that need not be read."""
        known = {} if known is None else known
        if self.mode == "off":
            return
        found = self._entries_by_name()
        newest = sorted(found, key=age, reverse=True) if max_scan is None else nlargest(max_scan, found, key=age)
        try:
            for name in newest:
                read = (store.decode(name, decode) for store in found[name])
                entry = known.get(name) or next((one for one in read if one is not None), None)
                if entry is not None:
                    yield name, entry
        finally:
            for store in self.stores:
                store.warn_of_broken()

    def _entries_by_name(self) -> dict[str, tuple[Store, ...]]:
        """The layers that have each entry, by its name."""
        found: dict[str, tuple[Store, ...]] = {}
        for store in self.stores:
            names = store.list_names()
            more: dict[str, tuple[Store, ...]] = dict.fromkeys(names, (store,))
            found = (
                {**more, **found, **{name: (*found[name], store) for name in found.keys() & more}} if found else more
            )
        return found

    def publish(self, entry: Entry) -> Path | None:
        """Write an entry and remove the entries that it supersedes; None where the mode forbids to write.

        Raises CacheError where the directory cannot be written to.
        """
        if self.mode != "read_write":
            return None
        path = self.stores[0].publish(entry)
        for name in entry.supersedes:
            if name != entry.name:
                self.stores[0].remove(name)
        self._lookups.pop(entry.key.loose.digest, None)
        return path

    def _find_layers(self, key: Key) -> tuple[tuple[int, Entry], ...]:
        """The entries of a key with the numbers of their layers, newest first within a layer."""
        if self.mode == "off":
            return ()
        digest = key.loose.digest
        stamps = tuple([store.stamp(digest) for store in self.stores])
        looked = self._lookups.get(digest)
        if looked is None or looked.stamps != stamps:
            looked = _Lookup(stamps, self._look(digest))
            if len(self._lookups) >= REMEMBERED:
                self._lookups.clear()
            if all(map(is_settled, stamps)):
                self._lookups[digest] = looked
            else:
                self._lookups.pop(digest, None)
        if isinstance(key, StrictKey):
            return tuple([(layer, e) for layer, e in looked.entries if e.key.versions == key.versions])
        return looked.entries

    def _look(self, digest: str) -> tuple[tuple[int, Entry], ...]:
        found: dict[str, tuple[int, Entry]] = {}
        if self.mode != "read_write":
            found |= {entry.name: (0, entry) for entry in self._rejections.get(digest, ())}
        for layer, store in enumerate(self.stores):
            for entry in store.entries(digest):
                if entry.key.loose.digest == digest:
                    found.setdefault(entry.name, (layer, entry))
        superseded = {name for _, entry in found.values() for name in entry.supersedes}
        return tuple(item for name, item in found.items() if name not in superseded)


def _is_rejected(entry: Entry, rejected: Mapping[tuple[Config, Versions], float]) -> bool:
    """Whether the config of an entry was found not to work after that entry was written."""
    assert entry.result is not None
    return entry.run.began_at < rejected.get((entry.result.best.config, entry.key.versions), 0.0)


class SavedBestConfig(Struct, frozen=True, kw_only=True):
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
    """The best config of every finished entry in a directory, newest first.

    max_scan: read at most so many entries. Broken ones are left out, with one warning.
    """
    if max_scan is not None:
        max_scan = check_integer(max_scan, "max_scan", CacheError, 0)
    as_path(cache_path, "cache_path", CacheError)
    cache = Cache(cache_path, mode="read_only")
    for _, head in cache.heads(max_scan):
        saved = saved_best_config(head)
        if saved is not None:
            yield saved


def saved_best_config(entry: Entry | EntryHead) -> SavedBestConfig | None:
    """The best config of an entry with its key, in words; None if its run found none."""
    if entry.best is None:
        return None
    key = entry.key.loose
    return SavedBestConfig(
        hardware=device_label(key.device),
        specialization_key=canonical_json(key.specialization).decode(),
        config=entry.best,
        config_spec_hash=key.space,
        flat_config=tuple(entry.best.values()),
    )


def device_label(device: Device) -> str:
    """A device in a few words, such as "cuda NVIDIA H200 sm_90"."""
    return " ".join(part for part in (device.kind, device.name, device.architecture) if part)
