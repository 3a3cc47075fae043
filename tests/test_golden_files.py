"""Journals and cache entries of this version and of earlier ones are read, replayed and resumed."""

import shutil
import sys
from pathlib import Path

import pytest

from autotune import STRATEGIES, Cache, TuningFailed, replay, result, resume
from autotune.shell.tuning import read_search

GOLDEN = Path(__file__).parent / "golden"
TODAY = sorted((GOLDEN / "today").glob("*.jsonl"))
FIRST = sorted((GOLDEN / "0.1.0").glob("*.jsonl"))
FAILED = "all_failed"


@pytest.fixture
def golden(monkeypatch):
    monkeypatch.syspath_prepend(str(GOLDEN))
    yield __import__("make")
    sys.modules.pop("make")


def outcome(path):
    """The result of a journal, or what is said where there is none."""
    try:
        return result(read_search(path)[1])
    except TuningFailed as error:
        return str(error)


def resumed(path, golden):
    failing, exact = path.stem.startswith(FAILED), path.stem.startswith("exact")
    try:
        return resume(path, golden.evaluator(*[golden.fails] * failing, exact=exact), progress=False)
    except TuningFailed as error:
        return str(error)


def test_there_is_one_of_every_strategy():
    assert {*STRATEGIES, "exact", FAILED} == {path.stem for path in TODAY}


@pytest.mark.parametrize("path", TODAY, ids=lambda path: path.stem)
def test_journals_of_today_are_replayed(path):
    found = replay(path)
    assert found.divergence is None
    assert found.checked >= 2
    assert found.results == 1


@pytest.mark.filterwarnings("ignore:.*the code of the functions", "ignore:.*another evaluator")
@pytest.mark.parametrize("path", [*TODAY, *FIRST], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_finished_ones_give_their_result(path, golden, tmp_path):
    copy = shutil.copy(path, tmp_path / path.name)
    found = outcome(path)
    assert found.startswith("all 4 configs failed: 4 compile error") if path.stem == FAILED else found.complete
    assert resumed(copy, golden) == found


@pytest.mark.filterwarnings("ignore:.*the code of the functions", "ignore:.*another evaluator")
@pytest.mark.parametrize("path", [*TODAY, *FIRST], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_those_that_were_cut_off_go_on(path, golden, tmp_path):
    lines = path.read_bytes().splitlines(keepends=True)
    for count in (1, 2, len(lines) // 2, len(lines) - 1):
        copy = tmp_path / f"{path.stem}-{count}.jsonl"
        copy.write_bytes(b"".join(lines[:count]))
        found = resumed(copy, golden)
        if isinstance(found, str):
            assert path.stem == FAILED
        else:
            assert found.complete
            assert found.best.time_ms <= found.default.time_ms


@pytest.mark.parametrize("version", ["today", "0.1.0"])
def test_cache_entries_are_read(version, golden, tmp_path, recwarn):
    shutil.copytree(GOLDEN / version / "cache", tmp_path / "cache")
    (entry,) = Cache(tmp_path / "cache").newest()
    assert entry.finished
    assert len(entry.measurements) >= 8
    assert golden.SPACE.check(entry.best) == entry.best
    assert entry.space is not None
    assert not recwarn.list
