"""One directory of entries. Each is written by a rename to a name of its own, so no process needs a lock.

    DIRECTORY/entries/ab/abcdef…-12345678-0018…-89abcdef.json

The name of a file in writing begins with a dot; a writer that is killed leaves such a file and nothing else.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from autotune.core.errors import CacheError
from autotune.core.formatting import format_count
from autotune.shell.cache.entries import Entry, Found, decode_entry, encode_entry
from autotune.shell.files import PathLike, refuse_irregular, replace_file, translate_os_error
from autotune.shell.warn import warn_user

_SETTLED_NS = 2_000_000_000
"""A directory that was changed less than this long ago may change again without a new time stamp: FAT counts in steps
of two seconds, the coarsest of the file systems in use."""

_CHUNK = 1 << 16
"""Bytes of one read; most entries are smaller."""

LARGEST_ENTRY = 1 << 30
"""Bytes; a run of a million configs takes about a fifth of them."""

_MOST_NAMED = 20
"""Broken files that one warning names at most."""

_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Store:
    """The entries in one directory, which need not exist to be read.

    broken: why files could not be read, by their names; each is named in one warning, together with the others that the
    same call found broken.
    """

    directory: Path
    broken: dict[str, str] = field(default_factory=dict, compare=False)
    _told: set[str] = field(default_factory=set, compare=False)

    @property
    def root(self) -> Path:
        return self.directory / "entries"

    def path(self, name: str) -> Path:
        """The file of an entry with that name, whether or not it exists."""
        return self.root / name[:2] / name

    def stamp(self, digest: str) -> int:
        """A number that changes when an entry with that digest comes or goes; 0 where there is none; `is_settled`."""
        try:
            return os.stat(f"{self.directory}/entries/{digest[:2]}").st_mtime_ns
        except OSError:
            return 0

    def names(self, digest: str = "") -> list[str]:
        """The names of the entries whose loose digest begins with `digest`, oldest first."""
        return sorted(self.list_names(digest), key=age)

    def list_names(self, digest: str = "") -> list[str]:
        """The same names, not ordered."""
        shards = [digest[:2]] if len(digest) >= 2 else self._shards()
        found = [name for shard in shards for name in self._shard(shard)]
        return [name for name in found if name.startswith(digest)] if digest else found

    def read(self, name: str) -> Entry | None:
        """The entry of that name; None if there is none, and, with a warning, if it is broken."""
        entry = self.decode(name, decode_entry)
        self.warn_of_broken()
        return entry

    def decode(self, name: str, decode: Callable[[bytes], Found]) -> Found | None:
        """The entry of that name as `decode` returns it; None if there is none or it is broken (CacheError)."""
        try:
            found = decode(_content(f"{self.directory}/entries/{name[:2]}/{name}"))
            if isinstance(found, Entry) and found.name != name:
                raise CacheError(f"its content is that of {found.name}")
            return found
        except FileNotFoundError:
            if os.path.islink(self.path(name)):
                self.broken[name] = "it is a link to nothing"
            return None
        except (OSError, CacheError) as error:
            self.broken[name] = str(error) if isinstance(error, CacheError) else str(error.strerror)
            return None

    def warn_of_broken(self) -> None:
        """Warn once of all files that were found broken since the last warning."""
        new = [name for name in self.broken if name not in self._told]
        if not new:
            return
        self._told.update(new)
        shown = "; ".join(f"{self.path(name)}: {self.broken[name]}" for name in new[:_MOST_NAMED])
        more = f"; and {len(new) - _MOST_NAMED} more" if len(new) > _MOST_NAMED else ""
        warn_user(
            f"{format_count(len(new), 'broken cache entry', 'broken cache entries')} left out: {shown}{more}; "
            "`autotune cache prune` removes them",
        )

    def entries(self, digest: str = "") -> Iterator[Entry]:
        """The entries whose loose digest begins with `digest`, newest first, read one by one."""
        try:
            for name in reversed(self.names(digest)):
                entry = self.decode(name, decode_entry)
                if entry is not None:
                    yield entry
        finally:
            self.warn_of_broken()

    def publish(self, entry: Entry) -> Path:
        """Write an entry, whole or not at all; it replaces an earlier one of the same run and key.

        Raises CacheError where the directory cannot be written to.
        """
        path = self.path(entry.name)
        remedy = "name another in AUTOTUNE_CACHE_DIR, or use it read-only"
        with translate_os_error(CacheError, f"the cache {self.directory} cannot be written", remedy):
            write_durably(path, encode_entry(entry))
        return path

    def remove(self, name: str) -> bool:
        """Remove an entry; whether it was there."""
        return remove_path(self.path(name))

    def leftovers(self, older_than_s: float = 3600.0) -> list[Path]:
        """Unfinished files of killed writers: not written to for `older_than_s` seconds."""
        since = time.time() - older_than_s
        found = []
        for shard in self._shards():
            for path in (self.root / shard).glob(".*.tmp"):
                with suppress(OSError):
                    if path.stat().st_mtime < since:
                        found.append(path)
        return found

    def _shards(self) -> list[str]:
        return sorted(name for name in _list_directory(self.root) if len(name) == 2 and _HEX.issuperset(name))

    def _shard(self, shard: str) -> list[str]:
        return [n for n in _list_directory(f"{self.directory}/entries/{shard}") if n[-5:] == ".json" and n[0] != "."]


def _content(path: str) -> bytes:
    """The content of a file, read without a file object, which costs as much as reading a small file.

    Never waits and never grows without bound: raises OSError for a file that is not regular or too large.
    """
    _refuse(path, os.stat(path))  # before it is opened: to open a device can be an action
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse(path, os.fstat(descriptor))
        parts = []
        while part := os.read(descriptor, _CHUNK):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def remove_path(path: Path) -> bool:
    """Remove a file of any kind, or an empty directory. Returns whether that was possible."""
    with suppress(OSError):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        return True
    return False


def _refuse(path: str, found: os.stat_result) -> None:
    refuse_irregular(path, found.st_mode)
    if found.st_size > LARGEST_ENTRY:
        raise OSError(errno.EFBIG, f"it has {found.st_size:,} bytes, which no entry has")


def _list_directory(directory: PathLike) -> list[str]:
    """The names in a directory; none where it cannot be listed."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


age = itemgetter(slice(42, None))
"""The part of a name that orders entries by the beginning of their runs, ties by the run."""


def is_settled(stamp: int) -> bool:
    """Whether a stamp is so old that a later change gets another one on any file system."""
    return time.time_ns() - stamp > _SETTLED_NS


def write_durably(path: Path, content: bytes) -> None:
    """Write a file, making its directory if needed, so that it survives a crash of the machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content)
    with suppress(OSError):  # not every file system can synchronise a directory
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
