"""The laws of a cache store: it behaves like a dict from names to entries, whichever process writes, reads or dies."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import cloudpickle
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autotune.core.errors import CacheError
from autotune.shell.cache.entries import Entry
from autotune.shell.cache.store import age
from autotune.testing.cache_entries import numbered_entry, numbered_key

_TIMES = st.dictionaries(st.integers(0, 4), st.integers(1, 9).map(float), min_size=1, max_size=3)
_ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["publish"] * 4 + ["publish more", "remove", "remove again", "reopen", "supersede"]),
        st.integers(0, 30),
        _TIMES,
    ),
    max_size=12,
)


class EntryStore(Protocol):
    """The methods of a cache store: see `autotune.shell.cache.store.Store`."""

    def names(self, digest: str = "") -> list[str]:
        """The names of the entries whose loose digest begins like that, oldest first."""

    def read(self, name: str) -> Entry | None:
        """The entry of that name, or None."""

    def entries(self, digest: str = "") -> Iterable[Entry]:
        """The entries whose loose digest begins like that, newest first."""

    def publish(self, entry: Entry) -> object:
        """Keep an entry in place of an earlier one of the same run and key; CacheError where that is impossible."""

    def remove(self, name: str) -> bool:
        """Remove an entry; whether it was there."""

    def stamp(self, digest: str) -> int:
        """A number that changes when an entry with that digest comes or goes; 0 where there are none."""


class StoreLaws:
    """Law 7 for a cache store. Subclass it under a name that begins with `Test`, and define `open_store`:

        class TestMyStore(StoreLaws):
            def open_store(self, directory):
                return MyStore(directory)

    Two stores opened with one directory are two handles of one store, as two processes have them.
    """

    def open_store(self, directory: Path) -> EntryStore:
        """A handle of the store of a directory, which need not exist yet."""
        raise NotImplementedError(f"{type(self).__name__} must define open_store(self, directory)")

    def damage(self, store: EntryStore, name: str) -> bool:
        """Make one stored entry unreadable, as a failing disk does; False where the store has no such way.

        As it is, it cuts the file `store.path(name)` in half, for a store that has one.
        """
        path = getattr(store, "path", lambda name: None)(name)
        if not isinstance(path, Path) or not path.is_file():
            return False
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[: len(content) // 2])
        return True

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(actions=_ACTIONS)
    def test_it_behaves_like_a_dict(self, actions: list[tuple[str, int, dict[int, float]]]) -> None:
        """Any sequence of actions of two handles and of new ones; each handle sees all at once."""
        with tempfile.TemporaryDirectory() as folder:
            handles = [self.open_store(Path(folder) / "store") for _ in range(2)]
            model: dict[str, Entry] = {}
            numbers: dict[str, int] = {}
            for action, number, times in actions:
                handle = handles[number % 2]
                known = sorted(model)
                match action:
                    case "publish":
                        entry = numbered_entry(number % 3, times)
                        handle.publish(entry)
                        model[entry.name] = entry
                    case "publish more" if known:  # the same run goes on
                        old = model[known[number % len(known)]]
                        entry = numbered_entry(numbers[old.name], times, run=old.run)
                        handle.publish(entry)
                        model[entry.name] = entry
                    case "supersede" if known:
                        entry = numbered_entry(number % 3, times, supersedes=(known[number % len(known)],))
                        handle.publish(entry)
                        model[entry.name] = entry
                    case "remove" if known:
                        assert handle.remove(known[number % len(known)]) is True
                        model.pop(known[number % len(known)])
                    case "remove again":
                        assert handle.remove(numbered_entry(0, times).name) is False
                    case "reopen":
                        handles[number % 2] = self.open_store(Path(folder) / "store")
                numbers.update(dict.fromkeys(model.keys() - numbers.keys(), number % 3))
                for reader in (*handles, self.open_store(Path(folder) / "store")):
                    self._check(reader, model)

    def _check(self, store: EntryStore, model: dict[str, Entry]) -> None:
        assert sorted(store.names()) == sorted(model)
        assert [age(name) for name in store.names()] == sorted(age(name) for name in model), "not oldest first"
        for name, entry in model.items():
            assert store.read(name) == entry
        found = list(store.entries())
        assert [entry.name for entry in found] == list(reversed(store.names())), "not newest first"
        assert {entry.name: entry for entry in found} == model
        for number in range(3):
            loose = numbered_key(number).loose.digest
            wanted = {name for name, entry in model.items() if entry.key.loose.digest == loose}
            assert set(store.names(loose)) == wanted
            assert {entry.name for entry in store.entries(loose)} == wanted
            if wanted:
                assert store.stamp(loose) != 0

    def test_reading_an_absent_store_makes_nothing(self, tmp_path: Path) -> None:
        store = self.open_store(tmp_path / "absent")
        name = numbered_entry(0, {1: 1.0}).name
        assert store.names() == []
        assert list(store.entries()) == []
        assert store.read(name) is None
        assert store.remove(name) is False
        assert store.stamp(numbered_key(0).loose.digest) == 0
        assert not (tmp_path / "absent").exists(), "reading made the directory"

    def test_the_stamp_changes_with_the_entries(self, tmp_path: Path) -> None:
        """Another handle must see from the stamp alone that it has to look again."""
        writer, reader = self.open_store(tmp_path), self.open_store(tmp_path)
        digest = numbered_key(0).loose.digest
        stamps = [reader.stamp(digest)]
        for entry in (numbered_entry(0, {1: 1.0}), numbered_entry(0, {2: 2.0})):
            time.sleep(0.02)  # a file system's clock may tick every 10 ms
            writer.publish(entry)
            stamps.append(reader.stamp(digest))
            assert reader.stamp(digest) == stamps[-1], "the stamp changes by itself"
        time.sleep(0.02)
        writer.remove(reader.names()[0])
        stamps.append(reader.stamp(digest))
        assert len(set(stamps)) == len(stamps), "an entry came or went, and the stamp is the same"

    def test_writers_at_once_lose_nothing(self, tmp_path: Path) -> None:
        """Eight threads with a handle each, on the same keys, and a reader beside them."""
        entries = [[numbered_entry(i % 2, {n: 1.0 + i}) for i in range(10)] for n in range(8)]
        errors: list[BaseException] = []

        def write(mine: list[Entry]) -> None:
            try:
                store = self.open_store(tmp_path)
                for entry in mine:
                    store.publish(entry)
                    assert store.read(entry.name) == entry
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=write, args=(mine,)) for mine in entries]
        for thread in threads:
            thread.start()
        reader = self.open_store(tmp_path)
        while any(thread.is_alive() for thread in threads):
            names = reader.names()
            assert all(reader.read(name) is not None for name in names), "a reader saw half of an entry"
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        self._check(self.open_store(tmp_path), {entry.name: entry for mine in entries for entry in mine})

    @pytest.mark.skipif(os.name != "posix", reason="kills processes")
    def test_a_killed_writer_leaves_whole_entries(self, tmp_path: Path) -> None:
        """A process that publishes without end is killed at any moment: every entry that is there can be read."""
        kept = numbered_entry(0, {1: 1.0})
        self.open_store(tmp_path / "store").publish(kept)
        script = tmp_path / "writer"
        script.write_bytes(cloudpickle.dumps(self))
        for turn in range(3):
            with subprocess.Popen(
                [sys.executable, "-c", _WRITER, str(script), str(tmp_path / "store"), *sys.path],
                stdout=subprocess.PIPE, text=True,
            ) as writer:  # fmt: skip
                assert writer.stdout is not None
                assert writer.stdout.readline() == "writing\n"
                time.sleep(0.01 + 0.03 * turn)
                writer.send_signal(signal.SIGKILL)
                writer.wait()
            with warnings.catch_warnings(action="error"):
                store = self.open_store(tmp_path / "store")
                assert store.read(kept.name) == kept
                assert all(store.read(name) is not None for name in store.names())
                assert len(store.names()) > 1

    def test_a_damaged_entry_is_left_out_with_a_warning(self, tmp_path: Path) -> None:
        """It costs itself: the others are read."""
        store = self.open_store(tmp_path)
        entries = [numbered_entry(number, {1: 1.0}) for number in range(3)]
        for entry in entries:
            store.publish(entry)
        if not self.damage(store, entries[1].name):
            return
        for read in (lambda s: list(s.entries()), lambda s: s.read(entries[1].name)):
            fresh = self.open_store(tmp_path)
            with warnings.catch_warnings(record=True, action="always") as caught:
                found: Any = read(fresh)
            assert caught, "nothing is said of a damaged entry"
            if isinstance(found, list):
                assert {entry.name for entry in found} == {entries[0].name, entries[2].name}
            else:
                assert found is None, "a damaged entry was taken for a whole one"
        assert self.open_store(tmp_path).read(entries[0].name) == entries[0]
        assert self.open_store(tmp_path).remove(entries[1].name) is True

    def test_a_place_that_cannot_be_written_is_one_sentence(self, tmp_path: Path) -> None:
        """CacheError, in one line that names the place; reading finds nothing there."""
        (tmp_path / "file").write_text("")
        store = self.open_store(tmp_path / "file")
        with pytest.raises(CacheError, match="file") as caught:
            store.publish(numbered_entry(0, {1: 1.0}))
        assert "\n" not in str(caught.value)
        assert store.names() == []


_WRITER = """
import pickle, sys
sys.path[:] = sys.argv[3:]
from pathlib import Path
with open(sys.argv[1], "rb") as file:
    laws = pickle.load(file)
from autotune.testing import numbered_entry
store = laws.open_store(Path(sys.argv[2]))
store.publish(numbered_entry(1, {1: 1.0}))
print("writing", flush=True)
while True:
    store.publish(numbered_entry(1, {n: 1.0 for n in range(200)}))
"""
