"""Configs as files: what is written is read again, a file is whole or the old one, and mistakes are one sentence."""

import os
import stat
from pathlib import Path

import pytest

from autotune.core.config import Config
from autotune.core.errors import ConfigError
from autotune.shell.files import check_writable, load_config, save_config

CONFIG = Config({"BLOCK": 64, "order": ("i", "j"), "flag": True, "eps": 1.0, "none": None, "naïve": "ü"})


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    save_config(CONFIG, tmp_path / "best.json")
    loaded = load_config(tmp_path / "best.json")
    assert loaded == CONFIG
    assert list(loaded) == list(CONFIG)
    save_config({"BLOCK": 1}, str(tmp_path / "best.json"))
    assert load_config(str(tmp_path / "best.json")) == Config(BLOCK=1)
    assert os.listdir(tmp_path) == ["best.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "best.json"
    save_config(CONFIG, path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=r"best.json \(No space left on device\); name another file"):
        save_config({"BLOCK": 1}, path)
    assert load_config(path) == CONFIG
    assert os.listdir(tmp_path) == ["best.json"]


@pytest.mark.parametrize(
    "text", [b"", b"[1]", b'{"BLOCK": NaN}', b'{"BLOCK": 1', b'{"BLOCK": {"a": 1}}', b"\xff\xfe", b"3"]
)
def test_a_file_that_is_no_config_names_itself(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "best.json"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=r"best\.json: "):
        load_config(path)


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "nothing.json")
    with pytest.raises(ConfigError, match="is a directory; name a file"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="is a directory; name a file"):
        save_config(CONFIG, tmp_path)
    with pytest.raises(ConfigError, match=r"there is no directory .*no; make it first"):
        save_config(CONFIG, tmp_path / "no" / "best.json")
    with pytest.raises(ConfigError, match="holds JSON values only"):
        save_config({"BLOCK": object()}, tmp_path / "best.json")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_known_beforehand(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(ConfigError, match="is read-only"):
        check_writable(tmp_path / "best.json")
    tmp_path.chmod(stat.S_IRWXU)
