"""The suite for cache stores: an honest one of somebody else passes it, and every planted fault breaks its law."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar
from warnings import warn

import pytest

from autotune import CacheError
from autotune.shell.cache.entries import Entry, decode_entry, encode_entry
from autotune.shell.cache.store import Store, age
from autotune.testing import StoreLaws
from tests.testing.runner import break_of


class Database:
    """An honest store: one SQLite file for all entries."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "entries.sqlite"

    @contextmanager
    def _open(self, make: bool = False) -> Iterator[sqlite3.Connection | None]:
        if make:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        elif not self.file.is_file():
            yield None
            return
        with closing(sqlite3.connect(self.file, timeout=60)) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS entries (name TEXT PRIMARY KEY, content BLOB)")
            connection.execute("CREATE TABLE IF NOT EXISTS stamps (digest TEXT PRIMARY KEY, stamp INTEGER)")
            with connection:
                yield connection

    def names(self, digest: str = "") -> list[str]:
        with self._open() as db:
            rows = db.execute("SELECT name FROM entries WHERE name LIKE ?", (f"{digest}%",)) if db else ()
            return sorted((name for (name,) in rows), key=age)

    def read(self, name: str) -> Entry | None:
        with self._open() as db:
            row = db and db.execute("SELECT content FROM entries WHERE name = ?", (name,)).fetchone()
        try:
            return decode_entry(row[0]) if row else None
        except CacheError as error:
            warn(f"{name}: {error}", stacklevel=2)
            return None

    def entries(self, digest: str = "") -> Iterable[Entry]:
        return [entry for name in reversed(self.names(digest)) if (entry := self.read(name)) is not None]

    def publish(self, entry: Entry) -> object:
        try:
            with self._open(make=True) as db:
                assert db is not None
                db.execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", (entry.name, encode_entry(entry)))
                self._stamp(db, entry.name)
        except (OSError, sqlite3.Error) as error:
            raise CacheError(f"{self.file} cannot be written ({error})") from None
        return entry.name

    def remove(self, name: str) -> bool:
        with self._open() as db:
            if db is None or not db.execute("DELETE FROM entries WHERE name = ?", (name,)).rowcount:
                return False
            self._stamp(db, name)
            return True

    def _stamp(self, db: sqlite3.Connection, name: str) -> None:
        db.execute(
            "INSERT INTO stamps VALUES (?, 1) ON CONFLICT (digest) DO UPDATE SET stamp = stamp + 1", (name[:32],)
        )

    def stamp(self, digest: str) -> int:
        with self._open() as db:
            row = db and db.execute("SELECT stamp FROM stamps WHERE digest = ?", (digest,)).fetchone()
            return row[0] if row else 0

    def damage(self, name: str) -> None:
        with self._open() as db:
            assert db is not None
            db.execute("UPDATE entries SET content = substr(content, 1, 40) WHERE name = ?", (name,))


class Laws(StoreLaws):
    kind: type = Database

    def open_store(self, directory: Path) -> Any:
        return self.kind(directory)

    def damage(self, store: Any, name: str) -> bool:
        if isinstance(store, Store):
            return super().damage(store, name)
        store.damage(name)
        return True


class TestAnHonestStore(Laws):
    pass


class Overwrites(Store):
    """One file for all entries of a key."""

    def publish(self, entry: Entry) -> Path:
        for name in self.names(entry.key.loose.digest):
            self.remove(name)
        return super().publish(entry)


class KeepsTheFirst(Store):
    """An entry of a run that went on is not replaced."""

    def publish(self, entry: Entry) -> Path:
        return self.path(entry.name) if self.read(entry.name) else super().publish(entry)


class Remembers(Store):
    """It reads the names once."""

    def names(self, digest: str = "") -> list[str]:
        if "all" not in self.__dict__.get("_seen", {}):
            object.__setattr__(self, "_seen", {"all": super().names()})
        return [name for name in self.__dict__["_seen"]["all"] if name.startswith(digest)]


class Unordered(Store):
    """Its names come in the order of their digests."""

    def names(self, digest: str = "") -> list[str]:
        return sorted(super().names(digest))


class NeverRemoves(Store):
    def remove(self, name: str) -> bool:
        return True


class MakesDirectories(Store):
    def names(self, digest: str = "") -> list[str]:
        self.root.mkdir(parents=True, exist_ok=True)
        return super().names(digest)


class StandsStill(Store):
    def stamp(self, digest: str) -> int:
        return 1 if self.names(digest) else 0


class Torn(Store):
    """It writes in place, bit by bit."""

    def publish(self, entry: Entry) -> Path:
        path = self.path(entry.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb", buffering=0) as file:
            for byte in encode_entry(entry):
                file.write(bytes([byte]))
        return path


class Silent(Store):
    def warn_of_broken(self) -> None:
        pass


class Chokes(Store):
    """A damaged entry costs all."""

    def entries(self, digest: str = "") -> Iterator[Entry]:
        for name in reversed(self.names(digest)):
            yield decode_entry(self.path(name).read_bytes())


class Raises(Store):
    """It lets the error of the system out, and writes in place."""

    def publish(self, entry: Entry) -> Path:
        path = self.path(entry.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_entry(entry))
        return path


class CountsUp(Store):
    """Its stamp is another one at each look."""

    looks: ClassVar[list[int]] = [0]

    def stamp(self, digest: str) -> int:
        self.looks[0] += 1
        return self.looks[0] if self.names(digest) else 0


DICT = "test_it_behaves_like_a_dict"
BROKEN = [
    (Overwrites, DICT),
    (Overwrites, "test_writers_at_once_lose_nothing"),
    (KeepsTheFirst, DICT),
    (Remembers, DICT),
    (Unordered, DICT),
    (NeverRemoves, DICT),
    (NeverRemoves, "test_reading_an_absent_store_makes_nothing"),
    (MakesDirectories, "test_reading_an_absent_store_makes_nothing"),
    (StandsStill, "test_the_stamp_changes_with_the_entries"),
    (CountsUp, "test_the_stamp_changes_with_the_entries"),
    (Torn, "test_a_killed_writer_leaves_whole_entries"),
    (Silent, "test_a_damaged_entry_is_left_out_with_a_warning"),
    (Chokes, "test_a_damaged_entry_is_left_out_with_a_warning"),
    (Raises, "test_a_place_that_cannot_be_written_is_one_sentence"),
]


@pytest.mark.parametrize(("kind", "law"), BROKEN, ids=lambda part: part if isinstance(part, str) else part.__name__)
def test_a_planted_fault_breaks_its_law(kind: type, law: str, tmp_path: Path) -> None:
    suite = type("Suite", (Laws,), {"kind": kind, "__module__": __name__})
    assert break_of(suite, law, tmp_path) is not None


@pytest.mark.parametrize("law", sorted({law for _, law in BROKEN} - {"test_a_killed_writer_leaves_whole_entries"}))
def test_an_honest_store_breaks_none(law: str, tmp_path: Path) -> None:
    """The runner itself breaks nothing."""
    assert break_of(type("Suite", (Laws,), {"kind": Store, "__module__": __name__}), law, tmp_path) is None
