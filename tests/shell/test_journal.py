"""Journals on disks that fill up, in places that are no files, and with results that were altered."""

import errno
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from autotune import Budget, JournalError, PowerOfTwo, SimulatedEvaluator, Space, TuningFailed, replay, resume, tune
from autotune.cli import main
from autotune.core.outcomes import Failed, Outcome, Timed
from autotune.shell import journal as journal_module
from autotune.shell.journal import read_journal

SPACE = Space({"a": PowerOfTwo(1, 64), "b": PowerOfTwo(1, 64)}, default={"a": 1, "b": 1})


class Rows:
    """A table of one outcome a config."""

    def __init__(self, outcome: Callable[[Any], Outcome]) -> None:
        self._outcome = outcome

    def outcome(self, config: Any) -> Outcome:
        return self._outcome(config)

    def samples(self, config: Any) -> Any:
        outcome = self._outcome(config)
        return np.array(outcome.times_ms if isinstance(outcome, Timed) else ())


def timed(config: Any) -> Timed:
    ms = 1.0 + abs(config["a"] - 8) + abs(config["b"] - 4) / 2
    return Timed((ms, ms * 1.01, ms * 0.99))


def evaluator() -> SimulatedEvaluator:
    return SimulatedEvaluator(Rows(timed))


def searched(path: Path) -> Any:
    return tune(SPACE, evaluator(), "pattern_search", budget=Budget(evaluations=12), journal=path, progress=False)


class Disk:
    """Stands for `os.write` on a disk that takes `room` bytes, and as many again once its users were told it is full.

    short: the write before that takes what there is room for; else it takes nothing.
    """

    def __init__(self, room: int, short: bool) -> None:
        self.left, self._short = room, short
        self.refused = 0

    def write(self, descriptor: int, data: Any) -> int:
        size = len(data)
        if size <= self.left or self.refused:
            self.left -= size
            return os_write(descriptor, data)
        if self._short and self.left:
            taken, self.left = os_write(descriptor, bytes(data)[: self.left]), 0
            return taken
        self.refused += 1
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


os_write = os.write


@pytest.mark.parametrize("short", [True, False])
def test_a_disk_that_fills_leaves_whole_lines(short: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full at any byte: the journal ends with a whole line, or is not there, and resumes to the same result."""
    whole = tmp_path / "whole.jsonl"
    found = searched(whole)
    expected, size = whole.read_bytes().splitlines(), whole.stat().st_size
    for room in [*range(0, size, 97), size - 1]:
        path, disk = tmp_path / f"{room}-{short}.jsonl", Disk(room, short)
        with monkeypatch.context() as patch:
            patch.setattr(journal_module.os, "write", disk.write)
            with pytest.raises(JournalError, match=rf"journal {path} cannot be written \(No space left on device\)"):
                searched(path)
        if room < len(expected[0]) + 1:
            assert not path.exists(), "a header that was not written whole is no journal"
            continue
        text = path.read_bytes()
        assert text.endswith(b"\n")
        assert text.splitlines() == expected[: len(text.splitlines())]
        assert resume(path, evaluator(), progress=False) == found
        assert path.read_bytes().splitlines()[-1].partition(b"event")[2] == expected[-1].partition(b"event")[2]
        assert replay(path).divergence is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_real_disk_that_fills_and_empties_again(small_disk: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    found = searched(whole)
    page = os.sysconf("SC_PAGE_SIZE")
    pages = whole.stat().st_size // page
    for room in range(pages + 1):
        filler, path = small_disk / "filler", small_disk / f"{room}.jsonl"
        filler.write_bytes(b"x" * (65536 - room * page))
        with pytest.raises(JournalError, match="No space left on device"):
            searched(path)
        filler.unlink()
        if path.exists():
            assert resume(path, evaluator(), progress=False) == found
            assert replay(path).results == 1
            path.unlink()
        else:
            assert searched(path) == found
            path.unlink()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "directory"])
def test_what_is_no_file_is_no_journal(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "there"
    make(path)
    with pytest.raises(JournalError, match="cannot be read"):
        read_journal(path)
    with pytest.raises(JournalError, match="exists"):
        searched(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x" * 300, "File name too long"),
        ("nul\0byte", r"null byte|give a path"),
        ("file/under", r"no directory|Not a directory"),
        ("file/under/it", r"no directory|Not a directory"),
    ],
)
def test_a_journal_that_cannot_be_there_is_a_sentence(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=said):
        searched(Path(f"{tmp_path}/{name}"))
    with pytest.raises(JournalError):
        read_journal(f"{tmp_path}/{name}")


@pytest.mark.parametrize("depth", [100, 1000, 100_000])
def test_nested_brackets_are_damage(depth: int, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    searched(path)
    lines = path.read_bytes().splitlines()
    for at in (0, 2):
        nested = b'{"sum":"00000000","event":' + b"[" * depth + b"]" * depth + b"}"
        path.write_bytes(b"\n".join([*lines[:at], nested, *lines[at + 1 :], b""]))
        with pytest.raises(JournalError, match=r"line (1|3)"):
            read_journal(path)


def altered(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a journal with every event changed and all checksums made right."""
    header, *lines = path.read_bytes().splitlines()
    checksum, out = zlib.crc32(header), [header]
    for line in lines:
        event = msgspec.json.decode(line)["event"]
        change(event)
        body = msgspec.json.encode(event)
        checksum = zlib.crc32(body, checksum)
        out.append(b'{"sum":"%08x","event":%s}' % (checksum, body))
    copy = path.with_name("altered.jsonl")
    copy.write_bytes(b"\n".join(out) + b"\n")
    return copy


def test_an_altered_verification_is_found_by_replay(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    tool = SimulatedEvaluator(Rows(timed), noise="resample")  # type: ignore[arg-type]
    tune(SPACE, tool, "pattern_search", budget=Budget(evaluations=12), journal=path, progress=False)
    assert replay(path).divergence is None
    assert replay(path).results == 1
    compared = [i for i, line in enumerate(path.read_bytes().splitlines()) if b'"type":"compared"' in line]
    assert compared, "the search has a final comparison"

    def faster(event: dict[str, Any]) -> None:
        if event["type"] == "compared":
            for _, outcome in event["outcomes"][-1:]:
                outcome["times_ms"] = [t * 0.99 for t in outcome["times_ms"]]

    found = replay(altered(path, faster)).divergence
    assert found is not None
    other = altered(path, lambda event: event.update(digest="0" * 32) if event["type"] == "reported" else None)
    found = replay(other).divergence
    assert found is not None
    assert found.line == len(path.read_bytes().splitlines())


def test_a_journal_of_failures_alone_replays(tmp_path: Path) -> None:
    failing = SimulatedEvaluator(Rows(lambda config: Failed("run_error", "no \ud800 luck")))
    path = tmp_path / "journal.jsonl"
    with pytest.raises(TuningFailed, match=r"no \\ud800 luck"):
        tune(SPACE, failing, "random_search", budget=Budget(evaluations=5), journal=path, progress=False)
    assert replay(path).divergence is None


MODULE = """
import autotune, sys, time

FACTOR = {factor}

def build(config):
    def kernel():
        time.sleep(config["a"] * FACTOR / 1e6)
    return kernel

space = autotune.Space({{"a": autotune.PowerOfTwo(1, 8)}}, default={{"a": 1}})
tool = autotune.CallableEvaluator(build, isolation="in_process", max_repeats=3, warmup_ms=0, target_ms=1)
if sys.argv[1] == "tune":
    autotune.tune(space, tool, "random_search", budget=autotune.Budget(evaluations=2), journal="j.jsonl")
else:
    text = open("j.jsonl", "rb").read().splitlines(keepends=True)
    open("cut.jsonl", "wb").write(b"".join(text[:3]))
    autotune.resume("cut.jsonl", tool)
"""


@pytest.mark.parametrize(("factor", "warned"), [(1, False), (2, True)])
def test_a_resume_says_that_the_kernels_code_has_changed(factor: int, warned: bool, tmp_path: Path) -> None:
    file = tmp_path / "problem.py"
    for what, number in (("tune", 1), ("resume", factor)):
        file.write_text("# a comment\n" * number + MODULE.format(factor=number))
        done = subprocess.run([sys.executable, file, what], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ("code of the functions" in done.stderr) == warned, done.stderr


def test_what_would_steer_a_terminal_is_shown_escaped(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    odd = "k\x1b[31m\x9b2J\u202e\n"
    space = Space({odd: PowerOfTwo(1, 4)}, default={odd: 1})
    failing = SimulatedEvaluator(Rows(lambda config: Failed("run_error", f"no luck {odd}")))
    path = tmp_path / "journal.jsonl"
    with pytest.raises(TuningFailed):
        tune(space, failing, "random_search", budget=Budget(evaluations=3), journal=path, progress=False)
    timed = SimulatedEvaluator(Rows(lambda config: Timed((1.0,))))
    other = tmp_path / "other.jsonl"
    tune(space, timed, "random_search", budget=Budget(evaluations=3), journal=other, progress=False)
    for file in (path, other):
        main(["show", str(file)])
        main(["replay", str(file)])
    main(["show", f"{tmp_path}/{odd}"])
    out, err = capfd.readouterr()
    for text in (out, err):
        assert not set(text) & set("\x1b\x9b\u202e")
    assert "k\\x1b[31m" in out
