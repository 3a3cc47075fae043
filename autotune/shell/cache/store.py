"""One directory of entries. Writing is a rename to a name nobody else uses, so nobody needs a lock.

    DIRECTORY/entries/ab/abcdef…-12345678-0018…-89abcdef.json

A file that is being written begins with a dot; a writer that is killed leaves such a file and nothing else.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from autotune.core.errors import CacheError
from autotune.shell.cache.entries import Entry, Found, decode_entry, encode_entry
from autotune.shell.files import replace_file

PathLike = str | os.PathLike[str]

SETTLED_NS = 2_000_000_000
"""A directory that was changed less than this long ago may change again without a new time stamp."""

CHUNK = 1 << 16

HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Store:
    """The entries in one directory, which need not exist to be read.

    writable: False for a directory that is shared and only read. `broken` collects files that could not be read; the
    first one of a store is warned about.
    """

    directory: Path
    writable: bool = True
    broken: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def root(self) -> Path:
        return self.directory / "entries"

    def path(self, name: str) -> Path:
        """Where an entry of that name is or would be."""
        return self.root / name[:2] / name

    def stamp(self, digest: str) -> int:
        """A number that changes when an entry with that digest comes or goes; 0 where there are none; see `settled`."""
        try:
            return os.stat(f"{self.directory}/entries/{digest[:2]}").st_mtime_ns
        except OSError:
            return 0

    def names(self, digest: str = "") -> list[str]:
        """The names of the entries whose loose digest begins like that, oldest first."""
        return sorted(self.unordered(digest), key=age)

    def unordered(self, digest: str = "") -> list[str]:
        """The same names in no order."""
        shards = [digest[:2]] if len(digest) >= 2 else self._shards()
        found = [name for shard in shards for name in self._shard(shard)]
        return [name for name in found if name.startswith(digest)] if digest else found

    def read(self, name: str) -> Entry | None:
        """The entry of that name; None if it is gone, or broken, of which the first is warned about."""
        return self.decoded(name, decode_entry)

    def decoded(self, name: str, decode: Callable[[bytes], Found]) -> Found | None:
        """What `decode`, which raises CacheError, makes of the entry of that name; None as for `read`."""
        try:
            return decode(_content(f"{self.directory}/entries/{name[:2]}/{name}"))
        except FileNotFoundError:
            return None
        except (OSError, CacheError) as error:
            self._complain(name, error)
            return None

    def entries(self, digest: str = "") -> Iterator[Entry]:
        """The entries whose loose digest begins like that, newest first, read one by one."""
        for name in reversed(self.names(digest)):
            entry = self.read(name)
            if entry is not None:
                yield entry

    def publish(self, entry: Entry) -> Path:
        """Write an entry, whole or not at all, in place of an earlier one of the same run and key.

        Raises CacheError where the directory cannot be written to.
        """
        path = self.path(entry.name)
        try:
            write_whole(path, encode_entry(entry))
        except OSError as error:
            raise CacheError(
                f"the cache {self.directory} cannot be written ({error.strerror}); "
                "name another in AUTOTUNE_CACHE_DIR, or use it read-only"
            ) from None
        return path

    def remove(self, name: str) -> bool:
        """Remove an entry; whether it was there."""
        with suppress(OSError):
            self.path(name).unlink()
            return True
        return False

    def leftovers(self, older_than_s: float = 3600.0) -> list[Path]:
        """What killed writers left: unfinished files that nobody has written to for so long."""
        since = time.time() - older_than_s
        found = []
        for shard in self._shards():
            for path in (self.root / shard).glob(".*.tmp"):
                with suppress(OSError):
                    if path.stat().st_mtime < since:
                        found.append(path)
        return found

    def _shards(self) -> list[str]:
        return sorted(name for name in _listed(self.root) if len(name) == 2 and HEX.issuperset(name))

    def _shard(self, shard: str) -> list[str]:
        return [n for n in _listed(f"{self.directory}/entries/{shard}") if n[-5:] == ".json" and n[0] != "."]

    def _complain(self, name: str, error: Exception) -> None:
        first = not self.broken
        self.broken[name] = str(error)
        if first:
            warnings.warn(
                f"{self.path(name)} is left out: {error}. Other broken entries of this cache are left out without a "
                "word; `autotune cache prune` removes them",
                stacklevel=5,
            )


def _content(path: str) -> bytes:
    """What a file holds. Without a file object, which costs as much as reading a small file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(descriptor, CHUNK):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _listed(directory: PathLike) -> list[str]:
    """What is in a directory, nothing where it cannot be listed."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


age = itemgetter(slice(42, None))
"""What orders names by when their runs began; ties by the run."""


def settled(stamp: int) -> bool:
    """Whether a stamp is old enough for a later change to have another one, whatever the clock's resolution."""
    return time.time_ns() - stamp > SETTLED_NS


def write_whole(path: Path, content: bytes) -> None:
    """Put content at `path`, in a directory that is made where it is missing, so that a crash cannot take it back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content)
    with suppress(OSError):  # not every file system lets a directory be synchronised
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
