"""The cache as `tune` uses it: hits, answers, force and skip, other toolchains, and warm starts."""

import os
import socket
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from autotune import (
    Budget,
    Cache,
    CacheError,
    CallableEvaluator,
    Config,
    Device,
    Failed,
    FiniteSearch,
    Identity,
    Integer,
    LooseKey,
    PlanError,
    RandomSearch,
    SimulatedEvaluator,
    Space,
    Specialization,
    StrictKey,
    Timed,
    TuningFailed,
    WarmStart,
    explain,
    key_for,
    replay,
    resume,
    tune,
)
from autotune.cli import ExitCode, main
from autotune.shell.cache import cache as layers
from autotune.shell.cache import identity as devices
from autotune.shell.cache import reuse
from autotune.shell.cache.hit_rule import Requirements, shortfall
from autotune.shell.cache.keys import Tensor, Versions
from autotune.shell.cache.warm_start import best_available
from autotune.shell.journal import read_journal
from autotune.shell.signed_json import sign

SPACE = Space({"a": Integer(0, 9), "b": Integer(0, 9)}, default={"a": 0, "b": 0})


@dataclass
class Table:
    """Times that are least at `best`; remembers what was looked up. broken: configs that fail."""

    best: tuple[int, int] = (7, 3)
    broken: set[tuple[int, int]] = field(default_factory=set)
    asked: Counter[Config] = field(default_factory=Counter)

    def outcome(self, config: Config) -> Timed | Failed:
        self.asked[config] += 1
        if (config["a"], config["b"]) in self.broken:
            return Failed("compile_error", "ptxas does not like it")
        away = abs(config["a"] - self.best[0]) + abs(config["b"] - self.best[1])
        return Timed((1.0 + away / 4,), 0.1, 0.1)

    def samples(self, config: Config) -> Any:
        return np.array([])


def simulated(table: Table) -> SimulatedEvaluator:
    return SimulatedEvaluator(table)


def key(device: str = "H200", n: int = 64, **changed: Any) -> LooseKey:
    specialization = Specialization({"x": Tensor((n, n), "float16")})
    return LooseKey(
        **{
            "kernel": "k",
            "source": "s",
            "specialization": specialization,
            "device": Device(kind="cuda", name=device, architecture="sm_90"),
            "space": SPACE.fingerprint,
            **changed,
        }
    )


def search(table: Table, cache: Any, evaluations: int = 30, **options: Any) -> Any:
    options = {"key": key(), "budget": Budget(evaluations=evaluations), "strategy": "random_search", **options}
    options["settings"] = {"simplify_rounds": 0, **options.get("settings", {})}
    return tune(SPACE, simulated(table), cache=cache, **options)


def test_the_second_search_is_a_hit(tmp_path: Path) -> None:
    table = Table()
    first = search(table, tmp_path)
    assert len(table.asked) == 30
    looked_up = table.asked.total()
    again = search(table, tmp_path, journal=tmp_path / "j.jsonl")
    assert table.asked.total() == looked_up, "nothing was measured"
    assert msgspec.structs.replace(again, notes=first.notes) == first
    assert "from the cache: measured 20" in again.notes[-1]
    assert not (tmp_path / "j.jsonl").exists(), "nothing happened that a journal could tell"
    assert search(table, tmp_path, key=StrictKey(key(), devices.installed_versions())).best == first.best


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    table = Table()
    search(table, tmp_path, 20)
    before = set(table.asked)
    table.asked.clear()
    more = search(table, tmp_path, 40, seed=5)
    assert more.evaluations == 40
    assert not before & set(table.asked)
    table.asked.clear()
    assert search(table, tmp_path, 30).notes, "a search that did more is a hit for one that asks for less"
    assert search(table, tmp_path, 30, effort="quick").notes
    assert not table.asked
    entries = Cache(tmp_path).entries(key())
    assert sum(len(entry.measurements) for entry in entries) == len(Cache(tmp_path).measurements(key()))


def test_adding_a_config_measures_that_config(tmp_path: Path) -> None:
    table, configs = Table(), ({"a": 1, "b": 1}, {"a": 2, "b": 2})
    search(table, tmp_path, strategy=FiniteSearch(configs))
    table.asked.clear()
    search(table, tmp_path, strategy=FiniteSearch((*configs, {"a": 7, "b": 3})))
    assert set(table.asked) == {Config(a=7, b=3)}
    table.asked.clear()
    search(table, tmp_path, 10, seeds=[{"a": 9, "b": 9}])
    assert Config(a=9, b=9) in table.asked, "a config that is asked for is measured, hit or not"
    again = search(table, tmp_path, 10, seeds=[{"a": 9, "b": 9}, {"a": 1, "b": 1}])
    table.asked.clear()
    assert search(table, tmp_path, 10, seeds=[{"a": 9, "b": 9}, {"a": 1, "b": 1}]).best == again.best
    assert not table.asked, "what was taken from the cache counts as measured"


def test_force_and_skip(tmp_path: Path) -> None:
    search(Table((1, 1)), tmp_path, 100)
    moved = Table((8, 8))
    skipped = search(moved, tmp_path, 100, cache_use="skip")
    assert skipped.best.config == Config(a=8, b=8)
    assert search(moved, tmp_path, 100).best.config == Config(a=1, b=1), "skip has not written"
    assert len(moved.asked) == 100
    moved.asked.clear()
    forced = search(moved, tmp_path, 100, cache_use="force")
    assert forced.best.config == Config(a=8, b=8)
    assert len(moved.asked) == 100, "force has not read"
    assert search(moved, tmp_path, 100).best.config == Config(a=8, b=8), "and has replaced"
    assert len(Cache(tmp_path).entries(key())) == 1
    with pytest.raises(CacheError, match="normal, force, skip"):
        search(moved, tmp_path, cache_use="ignore")
    nowhere = Cache(tmp_path, mode="off")
    moved.asked.clear()
    assert not search(moved, nowhere, 10).notes
    assert len(moved.asked) == 10


def test_a_forced_search_that_is_cut_short_replaces_nothing(tmp_path: Path) -> None:
    first = search(Table(), tmp_path, 100)

    def impatient(now: Any, event: Any) -> None:
        if now.observed == 12:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        search(Table((1, 1)), tmp_path, 100, cache_use="force", progress=impatient)
    assert search(Table(), tmp_path, 100).best == first.best


def test_an_unfinished_search_is_no_hit_but_its_measurements_count(tmp_path: Path) -> None:
    table = Table()

    def impatient(now: Any, event: Any) -> None:
        if now.observed == 12:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        search(table, tmp_path, 30, progress=impatient)
    (entry,) = Cache(tmp_path).entries(key())
    assert not entry.finished
    assert len(entry.measurements) >= 11
    measured = set(entry.measurements and (m.config for m in entry.measurements))
    table.asked.clear()
    assert search(table, tmp_path, 30).evaluations == 30
    assert not measured & set(table.asked)


def test_a_search_under_way_is_kept_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "SAVE_EVERY_S", 0.0)
    seen = []

    def look(now: Any, event: Any) -> None:
        entries = Cache(tmp_path).entries(key())
        seen.append([(len(entry.measurements), entry.run.stopped) for entry in entries])

    search(Table(), tmp_path, 10, progress=look)
    assert any(found and 0 < found[0][0] < 10 and found[0][1] is None for found in seen)
    assert all(len(found) <= 1 for found in seen), "one file for the run"


def test_failures_that_would_come_again_are_not_tried_again(tmp_path: Path) -> None:
    table = Table(broken={(i, j) for i in range(0, 10, 2) for j in range(10)})
    search(table, tmp_path, 30)
    failed = {c for c in table.asked if c["a"] % 2 == 0}
    assert failed
    table.asked.clear()
    search(table, tmp_path, 60, seed=3)
    assert not failed & set(table.asked)
    lonely = tmp_path / "lonely"
    with pytest.raises(TuningFailed):
        search(Table(broken={(i, j) for i in range(10) for j in range(10)}), lonely, 10)
    mended = Table()
    search(mended, lonely, 10)
    assert len(mended.asked) == 10, "where nothing at all worked, the failures are not believed"


def test_a_result_of_another_toolchain_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table()
    first = search(table, tmp_path, 100)
    newer = msgspec.structs.replace(reuse.installed_versions(), triton="9.9")
    for module in (reuse, layers):
        monkeypatch.setattr(module, "installed_versions", lambda: newer)
    table.asked.clear()
    checked = search(table, tmp_path, 100)
    assert set(table.asked) == {first.best.config, SPACE.default}
    assert "as the toolchain changed: triton" in checked.notes[-1]
    assert checked.best.config == first.best.config
    table.asked.clear()
    assert search(table, tmp_path, 100).best.config == first.best.config
    assert not table.asked, "what was checked once is known"
    strict = StrictKey(key(), Versions(triton="10"))
    search(table, tmp_path, 100, key=strict)
    assert len(table.asked) == 100, "a strict key knows nothing of other toolchains"


def test_a_result_that_fails_now_is_a_loud_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = search(Table(), tmp_path, 100)
    assert first.best.config == Config(a=7, b=3)
    for module in (reuse, layers):
        monkeypatch.setattr(module, "installed_versions", lambda: Versions(triton="9.9"))
    table = Table(broken={(7, 3)})
    with (
        pytest.warns(UserWarning, match=r"the toolchain changed \(.*triton.*compile_error: ptxas.*tuned again"),
        pytest.warns(UserWarning, match="1 of 20 configs of earlier runs fail here"),
    ):
        again = search(table, tmp_path, 100)
    assert again.best.config != first.best.config
    assert again.best.time_ms == 1.25
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert search(table, tmp_path, 100).best.config == again.best.config
    assert reuse.version_changes(Versions(torch="1"), Versions(torch="2")) == ["torch 1 to 2"]


def test_disallow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTUNE_DISALLOW", "1")
    with pytest.raises(PlanError, match="AUTOTUNE_DISALLOW is set and the cache has no result for k"):
        search(Table(), tmp_path)
    with pytest.raises(PlanError, match="has no cache"):
        search(Table(), None)
    monkeypatch.delenv("AUTOTUNE_DISALLOW")
    search(Table(), tmp_path)
    monkeypatch.setenv("AUTOTUNE_DISALLOW", "1")
    assert search(Table(), tmp_path).notes


def test_the_directory_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTUNE_CACHE_DIR", str(tmp_path / "there"))
    search(Table(), True)
    assert len(list(Cache().newest())) == 1
    assert Cache().directory == tmp_path / "there"
    monkeypatch.setenv("AUTOTUNE_SKIP_CACHE", "1")
    table = Table()
    search(table, True)
    assert len(table.asked) == 30
    monkeypatch.setenv("AUTOTUNE_FORCE", "1")
    assert search(table, True, cache_use="normal").notes, "the argument goes before the environment"


def test_a_cache_that_cannot_be_written_does_not_cost_the_result(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="cannot be written"):
        assert search(Table(), tmp_path / "file").evaluations == 30


def test_who_does_not_say_what_is_measured_needs_a_key() -> None:
    with pytest.raises(CacheError, match="SimulatedEvaluator does not say what it measures"):
        tune(SPACE, simulated(Table()), cache="/nowhere")

    class Own(SimulatedEvaluator):
        def identity(self) -> Identity:
            return Identity(
                kernel="own", source="s", specialization=Specialization(), device=Device(kind="cpu", name="x")
            )

    assert key_for(SPACE, Own(Table())).kernel == "own"


def test_the_key_of_a_callable(tmp_path: Path) -> None:
    base = CallableEvaluator(build_one, (np.zeros((2, 3)), 4), reference=np.zeros(2))
    known = key_for(SPACE, base)
    assert known.kernel == "tests.test_cache.build_one" or known.kernel.endswith("test_cache.build_one")
    assert known.device.kind == "cpu"
    assert key_for(SPACE, replace(base)) == known
    others = [
        replace(base, args=(np.zeros((2, 4)), 4)),
        replace(base, args=(np.zeros((2, 3)), 5)),
        replace(base, build=build_two),
        replace(base, reference=np.ones(2)),
        replace(base, rtol=0.5),
        replace(base, timer=lambda call: 1.0),
        replace(base, args=(), make_args=lambda: (np.zeros((2, 3)), 4)),
    ]
    assert len({key_for(SPACE, other).digest for other in (base, *others)}) == 1 + len(others)
    assert key_for(SPACE, replace(base, workers=2)) == known, "how fast it is tuned is no part of what is measured"


def build_one(config: Config) -> Any:
    return lambda x, n: x.sum(1) + config["a"]


def build_two(config: Config) -> Any:
    return lambda x, n: x.sum(1) + config["b"]


def published(cache: Path, table: Table, where: LooseKey, evaluations: int = 40) -> None:
    search(table, cache, evaluations, key=where, cache_use="force")


def test_a_warm_start_takes_the_same_device_shape_and_space(tmp_path: Path) -> None:
    published(tmp_path, Table(), key(source="older"))
    published(tmp_path, Table((1, 1)), key("H100"))
    published(tmp_path, Table((2, 2)), key(n=128))
    cache = Cache(tmp_path)
    found = best_available(cache, key(), SPACE)
    assert len(found) == 20
    assert {origin.hardware for origin in found} == {"cuda H200 sm_90"}
    assert {origin.distance for origin in found} == {1.0}
    assert [origin.time_ms for origin in found] == sorted(origin.time_ms for origin in found)
    assert len(best_available(cache, key(), SPACE, WarmStart(at_most=3))) == 3
    assert best_available(cache, key(), SPACE, WarmStart(scan=1)) == (), "the newest entry is of another shape"
    assert best_available(cache, key(), SPACE, WarmStart(at_most=0)) == ()


def test_other_devices_and_shapes_when_asked_nearest_first(tmp_path: Path) -> None:
    published(tmp_path, Table((1, 1)), key("H100", 512))
    published(tmp_path, Table((2, 2)), key("H100"))
    published(tmp_path, Table((3, 3)), key(n=128))
    published(tmp_path, Table((4, 4)), key(n=64, kernel="another"))
    cache = Cache(tmp_path)
    devices_only = best_available(cache, key(), SPACE, WarmStart(other_devices=True))
    assert {origin.hardware for origin in devices_only} == {"cuda H100 sm_90"}
    both = best_available(cache, key(), SPACE, WarmStart(other_devices=True, other_shapes=True))
    nearest = [origin.distance for origin in both[:3]]
    assert nearest == sorted(nearest)
    assert len(set(nearest)) == 3, "the sources take turns"
    assert "another" not in {origin.kernel for origin in both}
    small = Space({"a": Integer(0, 2), "b": Integer(0, 9)})
    fitting = best_available(cache, key(space=small.fingerprint), small, WarmStart(other_shapes=True))
    assert fitting
    assert all(origin.config["a"] <= 2 for origin in fitting)
    with pytest.raises(CacheError, match="scan = -1"):
        WarmStart(scan=-1)


def test_where_a_search_began_is_in_its_journal(tmp_path: Path) -> None:
    published(tmp_path, Table(), key("H100"))
    journal, table = tmp_path / "j.jsonl", Table()
    result = search(
        table, tmp_path, 40, strategy="pattern_search", journal=journal, settings={"initial_population": 5},
        warm_start=WarmStart(at_most=5, other_devices=True),
    )  # fmt: skip
    read = read_journal(journal)
    origins = read.header.warm_start
    assert [Config(o.config) for o in origins] == list(read.plan().best_available)
    assert {o.hardware for o in origins} == {"cuda H100 sm_90"}
    assert getattr(read.plan().strategy, "initial_population_strategy") == "from_best_available"  # noqa: B009
    assert {Config(o.config) for o in origins} <= set(table.asked)
    assert result.best.config == Config(a=7, b=3)
    assert replay(journal).divergence is None
    with pytest.raises(PlanError, match="without a cache"):
        search(table, None, warm_start=WarmStart())


def test_configs_of_earlier_runs_that_fail_here_are_warned_about(tmp_path: Path) -> None:
    published(tmp_path, Table(), key("H100"), 100)
    options = {"strategy": "pattern_search", "warm_start": WarmStart(at_most=5, other_devices=True), "effort": "quick"}
    with pytest.warns(UserWarning, match="1 of 5 configs of earlier runs fail here.*compile_error: ptxas"):
        result = search(Table(broken={(7, 3)}), tmp_path, 40, **options)
    assert result.best.time_ms == 1.25


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
def test_a_journal_with_answers_of_the_cache_resumes_and_replays(tmp_path: Path, cut: float) -> None:
    search(Table(), tmp_path / "cache", 15)
    journal = tmp_path / "whole.jsonl"
    whole = search(Table(), tmp_path / "cache", 50, journal=journal, seed=3)
    text = journal.read_text()
    assert '"cached":"' in text
    assert replay(journal).divergence is None
    torn = tmp_path / "torn.jsonl"
    torn.write_text(text[: int(len(text) * cut)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = resume(torn, simulated(Table()))
    assert again.best.time_ms == whole.best.time_ms
    assert replay(torn).divergence is None


def test_why_it_missed(tmp_path: Path) -> None:
    published(tmp_path, Table(), key("H100"))
    published(tmp_path, Table(), key(n=66))
    cache = Cache(tmp_path)
    nearest = explain(cache, key())
    assert [d.field for d in nearest[0].differences] == ["specialization.arguments.x.shape"]
    assert nearest[0].differences[0][1:] == ((64, 64), (66, 66))
    assert not nearest[0].hit
    assert [near.distance for near in nearest] == sorted(near.distance for near in nearest)
    assert explain(cache, key("H100"))[0].hit
    changed = StrictKey(key("H100"), Versions(torch="0"))
    assert {d.field.partition(".")[0] for d in explain(cache, changed)[0].differences} == {"versions"}
    assert explain(Cache(tmp_path / "empty"), key()) == ()


def test_random_search_is_told_by_count_not_by_name() -> None:
    """A strategy with settings of its own is used as it is given."""
    assert search(Table(), None, 50, strategy=RandomSearch(count=8)).evaluations >= 8


# What somebody else has put there


def hostile(shard: Path, name: str) -> None:
    """Files among the entries that are none."""
    os.mkfifo(shard / f"{name}ax.json")
    (shard / f"{name}bx.json").symlink_to("/dev/zero")
    (shard / f"{name}cx.json").mkdir()
    with open(shard / f"{name}dx.json", "wb") as file:
        file.truncate(10 << 30)
    (shard / f"{name}ex.json").symlink_to(shard / "nowhere")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fspath(shard / "s"))  # the whole name would be too long for a socket
    (shard / "s").rename(shard / f"{name}fx.json")


def test_files_that_are_no_entries_stop_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    where = tmp_path / "c"
    cache, table = Cache(where), Table()
    result = search(table, cache)
    (good,) = (where / "entries").glob("??/*.json")
    hostile(good.parent, good.name[:-6])
    for number, odd in enumerate((1e300, -1.0, 9e18)):
        content = msgspec.json.decode(good.read_bytes())
        content.pop("sum")
        content["run"]["began_at"] = odd
        (good.parent / f"{good.name[:-9]}{number:04x}.json").write_bytes(sign(msgspec.json.encode(content)) + b"\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert search(table, Cache(where)).best == result.best
        assert len(list(Cache(where).newest())) == 1
    said = next(str(one.message) for one in caught)
    assert "broken cache entries left out" in said
    for what in (
        "a FIFO",
        "a device",
        "a directory",
        "bytes, which no entry has",
        "a socket",
        "a link to nothing",
        "began_at",
    ):
        assert what in said
    out = str(tmp_path / "out")
    for arguments in (["list"], ["export", out, "--best"], ["merge", str(where), "--cache-dir", out], ["prune"]):
        place = [] if "--cache-dir" in arguments else ["--cache-dir", str(where)]
        assert main(["cache", *arguments, *place]) == ExitCode.DONE, arguments
    capfd.readouterr()
    left = sorted(path.name for path in good.parent.iterdir())
    assert left == [good.name], "what is no entry is prunable"


def test_a_rejected_config_stays_rejected_where_a_clock_was_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now + 3600)
        patch.setattr(time, "time_ns", lambda: int((now + 3600) * 1e9))
        published(tmp_path, Table(), key())
    cache = Cache(tmp_path)
    entry = cache.find(key())
    assert entry is not None
    with pytest.warns(UserWarning, match="no longer works"):
        cache.reject(key(), entry.best, "wrong by 3")
    assert cache.find(key()) is None
    assert Cache(tmp_path).find(key()) is None


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        ({}, {}, ""),
        ({"effort": "quick"}, {"effort": "full"}, "its effort was 'quick', and 'full' is asked for"),
        ({"evaluations": 5}, {"evaluations": 9}, "it was allowed 5 evaluations, and 9 evaluations is asked for"),
        ({"evaluations": 9}, {"evaluations": 9, "seeds": 12}, ""),
        ({"evaluations": 60}, {"evaluations": 60, "seeds": 4}, "of the 4 configs that are asked for"),
    ],
)
def test_explain_says_what_tune_does(first: Any, then: Any, said: str, tmp_path: Path) -> None:
    """One decision, in words and in deeds."""
    table, cache, seeds = Table(), Cache(tmp_path), SPACE.enumerate()
    listed = {12: seeds[-12:], 4: seeds[33:37], None: []}[then.get("seeds")]
    before = {**first, "seeds": listed if len(listed) == 12 else []}

    def tuned(effort: str = "full", evaluations: int = 30, seeds: Any = ()) -> Any:
        return search(table, cache, evaluations, effort=effort, seeds=seeds, progress=False)

    tuned(**before)
    (entry,) = cache.entries(key())
    budget = Budget(evaluations=then.get("evaluations", 30))
    wanted = Requirements(effort=then.get("effort", "full"), budget=budget, configs=tuple(map(Config, listed)))
    why = shortfall(entry, wanted)
    assert said in why
    assert bool(why) == bool(said)
    tuned(**{**then, "seeds": listed})
    assert (len(cache.entries(key())) == 1) == (not said)
