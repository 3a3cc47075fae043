"""The cache is a union of what its writers published, under any interleaving of writers, readers, damage and kills."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from autotune import Cache, CacheError, Config, Specialization, StrictKey
from autotune.shell.cache.entries import Entry, decode_entry, decode_head, encode_entry, new_run
from autotune.shell.cache.inspect import export_entries, list_removals, merge_stores
from autotune.shell.cache.keys import Constant
from autotune.shell.cache.store import Store
from autotune.testing import numbered_entry, numbered_key

KEYS = st.integers(0, 2)
TIMES = st.dictionaries(st.integers(0, 4), st.integers(1, 9).map(float), min_size=1, max_size=3)
Written = list[tuple[int, dict[int, float]]]


@contextmanager
def ignoring_broken() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class CacheMachine(RuleBasedStateMachine):
    """Against a dict from names to entries: two processes' caches over one directory, above a shipped one."""

    published = Bundle("published")

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.mine, self.shipped = self.folder / "mine", self.folder / "shipped"
        self.handles = [Cache(self.mine, shipped=[self.shipped]) for _ in range(2)]
        self.upper: dict[str, Entry] = {}
        self.lower: dict[str, Entry] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @rule(target=published, number=KEYS, times=TIMES, writer=st.integers(0, 1), finished=st.booleans())
    def publish(self, number: int, times: dict[int, float], writer: int, finished: bool) -> Entry:
        entry = numbered_entry(number, times, finished=finished, versions=str(number % 2))
        assert self.handles[writer].publish(entry) == Store(self.mine).path(entry.name)
        self.upper[entry.name] = entry
        return entry

    @rule(target=published, entry=published, times=TIMES, writer=st.integers(0, 1))
    def publish_more(self, entry: Entry, times: dict[int, float], writer: int) -> Entry:
        """The same run goes on: its file is replaced."""
        number = int(entry.key.loose.specialization.arguments["n"].value)  # type: ignore[union-attr]
        more = numbered_entry(number, times, run=entry.run, versions=entry.key.versions.autotune)
        self.handles[writer].publish(more)
        self.upper[more.name] = more
        return more

    @rule(target=published, number=KEYS, times=TIMES)
    def ship(self, number: int, times: dict[int, float]) -> Entry:
        entry = numbered_entry(number, times, versions=str(number % 2))
        Store(self.shipped).publish(entry)
        self.lower[entry.name] = entry
        return entry

    @rule(number=KEYS, times=TIMES, writer=st.integers(0, 1))
    def force(self, number: int, times: dict[int, float], writer: int) -> None:
        """What is there is replaced, in the shipped layer too, though that cannot be written to."""
        cache = self.handles[writer]
        with ignoring_broken():
            replaced = tuple(entry.name for entry in cache.entries(numbered_key(number, str(number % 2))))
        entry = numbered_entry(number, times, versions=str(number % 2), supersedes=replaced)
        cache.publish(entry)
        self.upper = {name: e for name, e in self.upper.items() if name not in replaced}
        self.upper[entry.name] = entry

    @rule(entry=published)
    def prune_one(self, entry: Entry) -> None:
        Store(self.mine).remove(entry.name)
        self.upper.pop(entry.name, None)

    @rule(entry=published, at=st.floats(0, 1), how=st.sampled_from(["cut", "flip", "empty"]))
    def damage(self, entry: Entry, at: float, how: str) -> None:
        """Not by a writer, which cannot: by a disk."""
        path = Store(self.mine).path(entry.name)
        content = path.read_bytes() if path.exists() else b""
        if len(content) < 2:
            return
        place = min(int(at * len(content)), len(content) - 2)
        flipped = bytes([content[place] ^ 1])
        broken = {"cut": content[:place], "flip": content[:place] + flipped + content[place + 1 :], "empty": b""}[how]
        path.unlink()  # a new file, as a restored disk would have; time stamps of files are not looked at
        path.write_bytes(broken)
        self.upper.pop(entry.name, None)

    @rule(number=KEYS, times=TIMES, cut=st.floats(0, 1))
    def die_while_writing(self, number: int, times: dict[int, float], cut: float) -> None:
        """What a writer that is killed leaves behind."""
        entry = numbered_entry(number, times)
        path, content = Store(self.mine).path(entry.name), encode_entry(entry)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.1-abcd.tmp").write_bytes(content[: int(cut * len(content))])

    @rule()
    def merge_the_shipped(self) -> None:
        with ignoring_broken():
            merge_stores(Store(self.shipped), Store(self.mine))
        self.upper = {**{n: e for n, e in self.lower.items() if self._newer(n, e)}, **self.upper}

    def _newer(self, name: str, entry: Entry) -> bool:
        return name not in self.upper

    @invariant()
    def every_reader_sees_the_model(self) -> None:
        if not hasattr(self, "folder"):
            return
        model = {**self.lower, **self.upper}
        gone = {name for entry in model.values() for name in entry.supersedes}
        with ignoring_broken():
            for cache in (*self.handles, Cache(self.mine, shipped=[self.shipped])):
                for number in range(3):
                    self._check(cache, number, {n: e for n, e in model.items() if n not in gone})
            names = [entry.name for entry in Cache(self.mine, shipped=[self.shipped]).newest()]
        assert sorted(names) == sorted(model)
        assert names == sorted(names, key=lambda name: name[42:], reverse=True)

    def _check(self, cache: Cache, number: int, model: dict[str, Entry]) -> None:
        key = numbered_key(number, str(number % 2))
        wanted = {name: entry for name, entry in model.items() if entry.key.digest == key.digest}
        seen = cache.entries(key)
        assert {entry.name: entry.measurements for entry in seen} == {n: e.measurements for n, e in wanted.items()}
        assert cache.entries(key.loose) == seen
        found = cache.find(key)
        finished = [entry for entry in wanted.values() if entry.finished]
        assert (found is None) == (not finished)
        if found is not None and found.result is not None:
            top = [entry for entry in finished if entry.name in self.upper] or finished
            assert found.result.best.time_ms == min(e.result.best.time_ms for e in top if e.result is not None)
        measured = {m.config for entry in wanted.values() for m in entry.measurements}
        assert set(cache.measurements(key)) == measured, "what two writers measured is merged"


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)


@given(KEYS, TIMES, st.integers(0, 10_000))
@settings(max_examples=200)
def test_a_cut_or_changed_file_is_never_taken_for_an_entry(number: int, times: dict[int, float], at: int) -> None:
    entry = numbered_entry(number, times)
    content = encode_entry(entry)
    assert decode_entry(content) == entry
    place = at % (len(content) - 1)
    if content[:place].rstrip(b"\n") != content.rstrip(b"\n"):
        for decode in (decode_entry, decode_head):
            with pytest.raises(CacheError):
                decode(content[:place])
    for decode in (decode_entry, decode_head):
        with pytest.raises(CacheError):
            decode(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])


@pytest.mark.parametrize("name", ["plain", "space", "measurements", ',"space":{', ',"measurements":['])
@pytest.mark.parametrize("value", [1, {"space": {}, "measurements": [1]}])
@pytest.mark.parametrize("finished", [True, False])
def test_the_head_of_an_entry_says_what_the_entry_says(name: str, value: object, finished: bool) -> None:
    """Whatever names are in its key: they may look like the parts that are left out."""
    entry = numbered_entry(1, {2: 3.0} if finished else {}, supersedes=("another",), rejects=(Config(n=4),))
    specialization = Specialization({name: Constant(value)}, {name: value})
    loose = msgspec.structs.replace(entry.key.loose, specialization=specialization)
    entry = msgspec.structs.replace(entry, key=StrictKey(loose, entry.key.versions))
    head = decode_head(encode_entry(entry))
    assert (head.key, head.best, head.finished) == (entry.key, entry.best, entry.finished)
    assert head.supersedes == entry.supersedes


@given(st.lists(st.tuples(KEYS, TIMES), max_size=6), st.lists(st.tuples(KEYS, TIMES), max_size=6))
@settings(max_examples=8, deadline=None)
def test_merging_loses_nothing_and_twice_is_once(a: Written, b: Written) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stores = [Store(Path(folder) / name) for name in "ab"]
        for store, entries in zip(stores, (a, b), strict=True):
            for number, times in entries:
                store.publish(numbered_entry(number, times))
        before = {name for store in stores for name in store.names()}
        assert merge_stores(stores[1], stores[0]).copied == len(b)
        assert set(stores[0].names()) == before
        assert merge_stores(stores[1], stores[0]).copied == 0
        out = Store(Path(folder) / "out")
        assert export_entries(stores[0], out, lambda entry: True, only_best=True) == len({n for n, _ in [*a, *b]})
        for number in {n for n, _ in [*a, *b]}:
            key = numbered_key(number)
            best, shipped = Cache(stores[0].directory).find(key), Cache(out.directory).find(key)
            assert best is not None
            assert shipped is not None
            assert best.ranking()[0][1] == shipped.ranking()[0][1]


def test_what_a_run_adds_later_counts_and_what_it_measured_last(tmp_path: Path) -> None:
    cache, early, late = Cache(tmp_path), new_run(), new_run()
    late = msgspec.structs.replace(late, written_at=early.written_at + 10)
    cache.publish(numbered_entry(0, {1: 5.0, 2: 6.0}, run=early))
    cache.publish(numbered_entry(0, {2: 7.0, 3: 8.0}, run=late))
    known = cache.measurements(numbered_key(0))
    assert {c["n"]: k.measurement.outcome.time_ms for c, k in known.items()} == {1: 5.0, 2: 7.0, 3: 8.0}  # type: ignore[union-attr]
    assert known[Config(n=2)].run == late


def test_modes_and_layers(tmp_path: Path) -> None:
    shipped, mine = tmp_path / "shipped", tmp_path / "mine"
    Cache(shipped).publish(numbered_entry(0, {1: 1.0}))
    for mode, sees in (("read_write", True), ("read_only", True), ("off", False)):
        cache = Cache(mine, shipped=[shipped], mode=mode)  # type: ignore[arg-type]
        assert (cache.find(numbered_key(0)) is not None) == sees
        assert bool(list(cache.newest())) == sees
    assert not mine.exists(), "reading makes no directory"
    assert Cache(mine, mode="read_only").publish(numbered_entry(1, {1: 1.0})) is None
    assert Cache(mine, mode="off").publish(numbered_entry(1, {1: 1.0})) is None
    assert not mine.exists()
    own = numbered_entry(0, {2: 3.0})
    assert Cache(mine, shipped=[shipped]).publish(own) is not None
    assert Cache(mine, shipped=[shipped]).find(numbered_key(0)) == own, "what is in the first layer goes before"
    assert len(list((shipped / "entries").rglob("*.json"))) == 1
    with pytest.raises(CacheError, match="read_write, read_only, off"):
        Cache(mine, mode="on")  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["read_write", "read_only"])
def test_a_rejected_config_is_no_hit_until_a_later_run_finds_it_again(tmp_path: Path, mode: str) -> None:
    Cache(tmp_path).publish(numbered_entry(0, {1: 1.0, 2: 2.0}))
    cache = Cache(tmp_path, mode=mode)  # type: ignore[arg-type]
    key = numbered_key(0)
    assert cache.find(key) is not None
    with pytest.warns(UserWarning, match="no longer works.*wrong by 3; it is tuned again"):
        cache.reject(key, {"n": 1}, "wrong by 3")
    assert cache.find(key) is None
    assert Config(n=2) in cache.measurements(key), "what else was measured stays"
    assert (Cache(tmp_path).find(key) is None) == (mode == "read_write"), "kept on disk where that is allowed"
    Cache(tmp_path).publish(numbered_entry(0, {1: 1.5}))
    assert cache.find(key) is not None


def test_broken_entries_are_skipped_with_one_warning(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(4):
        path = store.publish(numbered_entry(number, {1: 1.0}))
        if number:
            path.write_bytes([b"", b"{", b'{"format":"autotune-cache","version":99}'][number - 1])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cache = Cache(tmp_path)
        assert len(list(cache.newest())) == 1
        assert cache.find(numbered_key(1)) is None
        assert cache.find(numbered_key(3)) is None
    assert len(caught) == 1
    assert "broken cache entries left out" in str(caught[0].message)
    assert str(tmp_path) in str(caught[0].message)
    with pytest.warns(UserWarning, match="left out"):
        gone = list_removals(Store(tmp_path))
    assert sorted(r.why.partition(" (")[0] for r in gone)[0].startswith("broken: it")
    assert len(gone) == 3


def test_pruning_names_what_goes_and_keeps_the_fastest(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for time_ms in (1.0, 5.0, 4.0, 3.0):
        cache.publish(numbered_entry(0, {1: time_ms}))
    old = msgspec.structs.replace(new_run(), written_at=0.0)
    cache.publish(numbered_entry(1, {1: 1.0}, run=old))
    store = Store(tmp_path)
    assert list_removals(store) == []
    assert [r.why for r in list_removals(store, older_than_days=1)] == ["old"]
    surplus = list_removals(store, keep=1)
    assert [decode_entry(r.path.read_bytes()).result.best.time_ms for r in surplus] == [4.0, 5.0]  # type: ignore[union-attr]
    assert len(list_removals(store, other_versions=True)) == 5
    leftover = store.path("ab" + "0" * 60).with_name(".x.json.1-a.tmp")
    leftover.parent.mkdir(parents=True, exist_ok=True)
    leftover.write_bytes(b"{")
    assert list_removals(store) == [], "its writer may still be at it"
    os.utime(leftover, (0, 0))
    assert [r.path for r in list_removals(store)] == [leftover]


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot be written"):
        Cache(tmp_path / "file").publish(numbered_entry(0, {1: 1.0}))
    assert Cache(tmp_path / "file").find(numbered_key(0)) is None
