from pathlib import Path

import pytest

from autotune.core.errors import AutotuneError
from autotune.core.search.messages import Observed
from autotune.shell.journal import read_journal
from autotune.viewer.follow import follow, outcome_lines


def test_a_journal_that_grows_gives_each_outcome_once(journal_path: Path, tmp_path: Path) -> None:
    lines = journal_path.read_bytes().splitlines(keepends=True)
    growing = tmp_path / "growing.jsonl"
    growing.write_bytes(b"".join(lines[:10]))
    steps, seen = follow(growing, poll_s=0), []
    for end in (10, 11, 40, len(lines)):
        growing.write_bytes(b"".join(lines[:end]))
        step = next(step for step in steps if step is not None)
        seen += [(line.trial, line.time_ms) for line in outcome_lines(step)]
        assert step.over == (end == len(lines))
    assert next(steps, "the end") == "the end"
    events = [event for event in read_journal(journal_path).events if isinstance(event, Observed)]
    assert [trial for trial, _ in seen] == [event.trial for event in events]


def test_a_torn_last_line_waits_for_its_rest(journal_path: Path, tmp_path: Path) -> None:
    whole = journal_path.read_bytes()
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(whole[:-20])
    steps = follow(torn, poll_s=0)
    first = next(steps)
    assert first is not None
    assert not first.over
    assert next(steps) is None
    torn.write_bytes(whole)
    last = next(steps)
    assert last is not None
    assert last.over
    assert len(last.new) == 1


def test_another_journal_in_its_place_is_an_error(journal_path: Path, tmp_path: Path) -> None:
    lines = journal_path.read_bytes().splitlines(keepends=True)
    path = tmp_path / "replaced.jsonl"
    path.write_bytes(b"".join(lines[:20]))
    steps = follow(path, poll_s=0)
    next(steps)
    path.write_bytes(b"".join(lines[:5]))
    with pytest.raises(AutotuneError, match="shorter"):
        next(steps)
