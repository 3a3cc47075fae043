"""`autotune export`."""

from pathlib import Path

import pytest

from autotune import save_config
from autotune.cli import ExitCode, main
from autotune.interop.tuned_configs import read_tuned_configs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_export_writes_what_import_reads(folder, capfd):
    save_config({"BLOCK_M": 32, "num_warps": 8}, "b16.json")
    save_config({"BLOCK_M": 16, "num_warps": 4}, "b1.json")
    assert (
        main(["export", "E=1,N=2.json", "16=b16.json", "1=b1.json", "--rename", "BLOCK_M=BLOCK_SIZE_M"])
        == ExitCode.DONE
    )
    assert "2 configs to E=1,N=2.json, for vllm" in capfd.readouterr().out
    assert read_tuned_configs("E=1,N=2.json").entries[1].config == {"BLOCK_SIZE_M": 32, "num_warps": 8}
    name = ["--format", "flash-linear-attention", "--kernel-name", "scan"]
    assert main(["export", "k.json", '[128,"x"]=b16.json', "default=b1.json", *name]) == ExitCode.DONE
    assert [e.labels["key"] for e in read_tuned_configs("k.json").entries] == ['[128,"x"]', "default"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "x.json", "16"], ["key=value"]),
        (["export", "x.json", "16=problem.py"], ["not a config in JSON"]),
        (["export", "x.json", "a b=b.json"], ["the key is not JSON"]),
        (["export", "x.json", "16=none.json"], ["none.json cannot be read"]),
        (["export", "x.json", "16=b.json", "--format", "flashinfer"], ["valid for one build"]),
    ],
)
def test_mistakes_are_one_sentence(folder, capfd, arguments, words):
    save_config({"BLOCK_M": 32}, "b.json")
    Path("problem.py").write_text("x = 1\n")
    assert main(arguments) == ExitCode.ERROR
    complaint = capfd.readouterr().err.splitlines()
    assert len(complaint) == 1
    for word in words:
        assert word in complaint[0]
    assert not Path("x.json").exists()
