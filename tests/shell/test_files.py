"""Files that a user names for output: replaced whole, or written into where they are no regular files."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from autotune import ConfigError, load_config, save_config
from autotune.shell import files
from autotune.shell.files import why_unwritable, write_output

CONFIG = {"BLOCK": 64}
TEXT = b'{"BLOCK":64}\n'


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole_and_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    path.write_text("old")
    path.chmod(0o640)
    before = path.stat().st_ino
    save_config(CONFIG, path)
    assert load_config(path) == CONFIG
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.stat().st_ino != before, "readers of the old file go on reading it"
    assert _left(tmp_path) == ["best.json"]


def test_links_stay_links(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "first.json").symlink_to("real.json")
    link = tmp_path / "link.json"
    link.symlink_to("there/first.json")
    for before in (None, "old"):  # where nothing is yet, and where something is
        if before is not None:
            (tmp_path / "there" / "real.json").write_text(before)
        save_config(CONFIG, link)
        assert link.is_symlink()
        assert (tmp_path / "there" / "first.json").is_symlink()
        assert load_config(tmp_path / "there" / "real.json") == CONFIG
    assert _left(tmp_path / "there") == ["first.json", "real.json"]


def test_a_fifo_stays_a_fifo(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    save_config(CONFIG, path)
    reader.join(10)
    assert read == [TEXT]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_fifo_that_nobody_reads_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "READER_S", 0.1)
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=r"it is a FIFO, and no process reads from it\); name another file"):
        save_config(CONFIG, path)
    ends = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # a reader that reads nothing
    try:
        with pytest.raises(OSError, match="no process reads it"):
            write_output(path, bytes(1 << 20))
    finally:
        os.close(ends)


def test_devices_stay_devices(tmp_path: Path) -> None:
    for name in ("/dev/null", "/dev/full"):
        before = os.stat(name)
        link = tmp_path / Path(name).name
        link.symlink_to(name)
        for path in (Path(name), link):
            if name == "/dev/null":
                save_config(CONFIG, path)
            else:
                with pytest.raises(ConfigError, match=r"No space left on device\); name another file"):
                    save_config(CONFIG, path)
            now = os.stat(name)
            assert (now.st_mode, now.st_rdev, now.st_ino) == (before.st_mode, before.st_rdev, before.st_ino)
        assert link.is_symlink()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("to_file", [False, True])
def test_standard_output_is_written_on(name: str, to_file: bool, tmp_path: Path) -> None:
    code = f"import autotune; print('before'); autotune.save_config({CONFIG!r}, {name!r}); print('after')"
    shown = tmp_path / "shown"
    with shown.open("wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out if to_file else subprocess.PIPE, check=True, timeout=60)
    if to_file:
        assert shown.read_bytes() == b"before\n" + TEXT + b"after\n"
        assert _left(tmp_path) == ["shown"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "best.json"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        save_config(CONFIG, path)
    assert path.read_text() == "old"
    assert _left(tmp_path) == ["best.json"]


def test_what_cannot_be_written_is_known_before(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("again")
    (tmp_path / "again").symlink_to("round")
    (tmp_path / "nowhere").symlink_to("missing/file")
    said = {
        tmp_path: "it is a directory; name a file",
        tmp_path / "missing" / "x": f"there is no directory {tmp_path / 'missing'}; make it first",
        tmp_path / "nowhere": f"there is no directory {tmp_path / 'missing'}; make it first",
        tmp_path / "round": "Too many levels of symbolic links; name another file",
        tmp_path / ("x" * 300): "File name too long; name another file",
    }
    for path, why in said.items():
        assert why_unwritable(path) == why
        with pytest.raises(OSError):  # noqa: PT011  # each is another one
            write_output(path, b"")
    assert why_unwritable("/dev/null") is None
    assert why_unwritable(tmp_path / "new") is None


def test_commands_write_into_devices_and_through_links(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from autotune.cli import main

    link, real = tmp_path / "out.jsonl", tmp_path / "real"
    link.symlink_to(real)
    real.write_text("old")
    before = os.stat("/dev/full")
    for out, works in ((link, True), (Path("/dev/null"), True), (Path("/dev/full"), False)):
        assert (main(["simulate", "builtin:matmul", "--evaluations", "3", "--traces", str(out)]) == 0) == works
        if not works:
            assert "No space left on device" in capfd.readouterr().err
    assert link.is_symlink()
    assert real.read_text().count("\n") == 1
    assert os.stat("/dev/full").st_mode == before.st_mode


def test_a_recording_goes_through_a_link(tmp_path: Path) -> None:
    from autotune import CallableEvaluator, Integer, Space
    from autotune.studies.record import record_space

    link, real = tmp_path / "out.json", tmp_path / "real.json"
    link.symlink_to(real)
    space = Space({"p": Integer(1, 3)})
    record_space(space, CallableEvaluator(lambda config: lambda: None, isolation="in_process"), link, progress=False)
    assert link.is_symlink()
    assert real.read_bytes().startswith(b"{")
