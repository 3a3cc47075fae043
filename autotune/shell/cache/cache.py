"""The cache as it is used: a directory to write to above read-only ones, and a memory of what was looked up.

Where caches are on this machine.

The entries of a cache as saved best configs, newest first.
"""

import os
import stat
import tempfile
import warnings
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
    Run,
    decode_entry,
    decode_head,
    make_entry,
    new_run,
)
from autotune.shell.cache.identity import installed_versions
from autotune.shell.cache.keys import Device, Key, StrictKey, Versions, canonical_json
from autotune.shell.cache.store import PathLike, Store, age, is_settled
from autotune.shell.files import as_path
from autotune.shell.settings import environment


def get_cache_dir() -> Path:
    """The root directory of all that this library caches: AUTOTUNE_CACHE_DIR, else the user's cache directory."""
    named = environment().cache_dir
    try:
        if named is not None:
            return named.expanduser()
        import platformdirs  # only where nobody says otherwise

        found = Path(platformdirs.user_cache_dir("autotune", appauthor=False))
    except RuntimeError:  # there is no HOME, and no entry for the user
        return _homeless()
    return found if found.is_absolute() else _homeless()


@cache
def _homeless() -> Path:
    """A directory for a user without a home: among the temporary ones, and nobody else's."""
    folder = Path(tempfile.gettempdir()) / f"autotune-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = os.lstat(folder)
        own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    except OSError:
        own = False
    if not own:
        with suppress(OSError):  # where nothing can be written, the cache says so when it comes to that
            folder = Path(tempfile.mkdtemp(prefix="autotune-"))
    warnings.warn(
        f"this user has no home directory, and what is to be kept goes to {folder}; set AUTOTUNE_CACHE_DIR to one"
        " that lasts",
        stacklevel=3,
    )
    return folder


def triton_cache_dir(device_index: int) -> Path:
    """The directory under the cache root for what Triton compiles for one device: give it to TRITON_CACHE_DIR.

    Devices have one each, so that processes that tune on several at the same time do not meet in one.
    """
    if not isinstance(device_index, int) or isinstance(device_index, bool) or device_index < 0:
        raise CacheError(f"device_index = {device_index!r} is not the number of a device; use 0, 1, …")
    return get_cache_dir() / "triton" / str(device_index)


CacheMode = Literal["read_write", "read_only", "off"]
CACHE_MODES: tuple[CacheMode, ...] = get_args(CacheMode)

REMEMBERED = 4096
"""Keys that are remembered at most; then all are looked up again."""


class CachedMeasurement(NamedTuple):
    """A measurement, the run that made it, and the toolchain of that run."""

    measurement: Measurement
    run: Run
    versions: Versions


@dataclass(frozen=True)
class _Looked:
    """What was found under a digest when the layers had these stamps."""

    stamps: tuple[int, ...]
    entries: tuple[tuple[int, Entry], ...]


class Cache:
    """Entries by key, in layers.

    directory: where new entries go; None: `get_cache_dir()`. shipped: further directories that are only read, such as
    one that came with a package; what is in an earlier directory goes before. mode: "read_write"; "read_only", where
    nothing is ever written; "off", where nothing is read either.
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
        self.stores = (Store(first, mode == "read_write"), *(Store(other, writable=False) for other in others))
        self._looked: dict[str, _Looked] = {}
        self._rejections: dict[str, list[Entry]] = {}

    @property
    def directory(self) -> Path:
        """Where new entries go."""
        return self.stores[0].directory

    def __repr__(self) -> str:
        layers = ", ".join(os.fspath(store.directory) for store in self.stores)
        return f"Cache({layers}; {self.mode})"

    def entries(self, key: Key) -> tuple[Entry, ...]:
        """All that is known of a key that was not superseded: of the first layer first, newest first within it.

        A loose key finds the entries of every toolchain, a strict one those of its own.
        """
        return tuple(entry for _, entry in self._layered(key))

    def find(self, key: Key, accept: Callable[[Entry], bool] | None = None) -> Entry | None:
        """The best finished entry of a key, or None.

        For a loose key the entries made with the installed toolchain go before. Then the first layer goes before the
        others, the faster result before the slower, the newer before the older. accept: which entries will do.
        """
        layered = self._layered(key)
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
        """A cached config that no longer compiles or answers wrongly: say so, and never give it for this key again.

        It is remembered on disk for the installed toolchain, if the cache may be written to; what else was measured
        stays. Tune again afterwards.
        """
        bad = Config(config)
        warnings.warn(
            f"the cached config of {key.loose.kernel} no longer works: {bad}: {why}; it is tuned again", stacklevel=2
        )
        strict = key if isinstance(key, StrictKey) else StrictKey(key, installed_versions())
        failed = Measurement(bad, Failed("unknown", why), "cache")
        # By name, too: the clock of the host that wrote one may be ahead of this one's.
        barred = tuple(e.name for e in self.entries(strict) if e.best == bad)
        entry = make_entry(strict, new_run(), (failed,), rejects=(bad,), barred=barred)
        self._rejections.setdefault(key.loose.digest, []).append(entry)
        self._looked.pop(key.loose.digest, None)
        self.publish(entry)

    def measurements(self, key: Key) -> dict[Config, CachedMeasurement]:
        """What all runs on a key measured, merged: for a config measured by several, the run that ended last."""
        merged: dict[Config, CachedMeasurement] = {}
        for entry in sorted(self.entries(key), key=lambda e: (e.run.written_at, e.run.id)):
            for measurement in entry.measurements:
                merged[measurement.config] = CachedMeasurement(measurement, entry.run, entry.key.versions)
        return merged

    def newest(self, max_scan: int | None = None) -> Iterator[Entry]:
        """The entries of all layers, newest first, of which at most `max_scan` are read; broken ones are left out."""
        return (entry for _, entry in self._newest(max_scan, decode_entry))

    def heads(self, max_scan: int | None = None) -> Iterator[tuple[str, EntryHead]]:
        """The names of the same entries with what is at their head; `read` gives the rest."""
        return self._newest(max_scan, decode_head)

    def read(self, name: str) -> Entry | None:
        """The entry of that name, of the first layer that has it whole; None where none has."""
        return next((entry for store in self.stores if (entry := store.read(name)) is not None), None)

    def _newest(self, max_scan: int | None, decode: Callable[[bytes], Found]) -> Iterator[tuple[str, Found]]:
        if self.mode == "off":
            return
        found = self._located()
        newest = sorted(found, key=age, reverse=True) if max_scan is None else nlargest(max_scan, found, key=age)
        try:
            for name in newest:
                read = (store.decoded(name, decode) for store in found[name])
                entry = next((one for one in read if one is not None), None)
                if entry is not None:
                    yield name, entry
        finally:
            for store in self.stores:
                store.warn_of_broken()

    def _located(self) -> dict[str, tuple[Store, ...]]:
        """Every entry by name, with the layers that have it."""
        found: dict[str, tuple[Store, ...]] = {}
        for store in self.stores:
            names = store.unordered()
            more: dict[str, tuple[Store, ...]] = dict.fromkeys(names, (store,))
            found = (
                {**more, **found, **{name: (*found[name], store) for name in found.keys() & more}} if found else more
            )
        return found

    def publish(self, entry: Entry) -> Path | None:
        """Keep an entry; None where nothing is to be written. What it supersedes is removed where that is possible."""
        if self.mode != "read_write":
            return None
        path = self.stores[0].publish(entry)
        for name in entry.supersedes:
            if name != entry.name:
                self.stores[0].remove(name)
        self._looked.pop(entry.key.loose.digest, None)
        return path

    def _layered(self, key: Key) -> tuple[tuple[int, Entry], ...]:
        """(layer, entry) of a key, newest first within a layer."""
        if self.mode == "off":
            return ()
        digest = key.loose.digest
        stamps = tuple([store.stamp(digest) for store in self.stores])
        looked = self._looked.get(digest)
        if looked is None or looked.stamps != stamps:
            looked = _Looked(stamps, self._look(digest))
            if len(self._looked) >= REMEMBERED:
                self._looked.clear()
            if all(map(is_settled, stamps)):
                self._looked[digest] = looked
            else:
                self._looked.pop(digest, None)
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


class SavedBestConfig(Struct, frozen=True):
    """The best config of one entry.

    hardware: the device, such as "cuda NVIDIA H200 sm_90". specialization_key: the canonical JSON of arguments and
    constants. config_spec_hash: the fingerprint of the space. flat_config: the values in the order of the config.
    """

    device_label: str
    specialization_key: str
    config: Config
    config_spec_hash: str
    flat_config: tuple[Any, ...]


def iter_cache_entries(cache_path: PathLike, *, max_scan: int | None = None) -> Iterator[SavedBestConfig]:
    """The best config of every entry in a directory that has one, newest first.

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
    """The best config of an entry; None where its run found none."""
    if entry.best is None:
        return None
    key = entry.key.loose
    return SavedBestConfig(
        device_label(key.device),
        canonical_json(key.specialization).decode(),
        entry.best,
        key.space,
        tuple(entry.best.values()),
    )


def device_label(device: Device) -> str:
    """A device in a few words."""
    return " ".join(part for part in (device.kind, device.name, device.architecture) if part)
