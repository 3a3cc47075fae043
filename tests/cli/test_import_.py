"""`autotune import`, and `autotune tune --seeds`."""

import json
from pathlib import Path

import pytest

from autotune.cli import ExitCode, main
from tests.interop.config_files import MOE, MOE_NAME, moe

PROBLEM = """
from autotune import CallableEvaluator, Integer, PowerOfTwo, Problem, Space

space = Space(
    {
        "BLOCK_M": PowerOfTwo(16, 128),
        "BLOCK_N": PowerOfTwo(16, 128),
        "num_warps": PowerOfTwo(1, 8),
        "num_stages": Integer(1, 4),
    },
    default={"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 2},
)
evaluator = CallableEvaluator(lambda config: lambda: sum(range(config["BLOCK_M"])), isolation="in_process")
problem = Problem(space, evaluator)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("problem.py").write_text(PROBLEM)
    Path(MOE_NAME).write_text(json.dumps({**MOE, "2": moe(512, 16)}))
    return tmp_path


def test_import_shows_fits_and_writes_seeds(folder, capfd):
    assert main(["import", MOE_NAME]) == ExitCode.DONE
    shown = capfd.readouterr().out
    assert "device_name  GPU_X-80GB" in shown
    assert '4096  {"BLOCK_SIZE_M":128' in shown
    assert main(["import", MOE_NAME, "seeds.json", "--problem", "problem.py", "--json"]) == ExitCode.DONE
    fields = json.loads(capfd.readouterr().out)
    assert (fields["format"], len(fields["entries"]), len(fields["seeds"]["configs"]), fields["out"]) == (
        "vllm",
        4,
        3,
        "seeds.json",
    )
    assert "BLOCK_M = 512" in fields["seeds"]["left_out"][0]
    assert (
        main(["tune", "problem.py", "--seeds", "seeds.json", "--evaluations", "4", "--quiet", "--journal", "j.jsonl"])
        == ExitCode.DONE
    )
    assert '"BLOCK_M":128,"BLOCK_N":64,"num_warps":8' in Path("j.jsonl").read_text()
    capfd.readouterr()
    assert (
        main(["tune", "problem.py", "--seeds", MOE_NAME, "--evaluations", "4", "--quiet", "--no-journal"])
        == ExitCode.DONE
    )
    assert "1 config left out: a config has BLOCK_M = 512" in capfd.readouterr().err
    assert main(["import", MOE_NAME, "s.json", "--where", "M=64", "--rename", "BLOCK_SIZE_M=BM"]) == ExitCode.DONE
    assert json.loads(Path("s.json").read_bytes())["seeds"] == [
        {"BM": 32, "BLOCK_SIZE_N": 64, "num_warps": 8, "num_stages": 3}
    ]


def test_import_writes_a_recording_in_our_format(folder, capfd):
    entries = {str(m): {"BLOCK_M": m, "score": 1.0 * m} for m in (16, 32)}
    cache = {"tune_params": {"BLOCK_M": [16, 32]}, "objective": "score", "cache": entries}
    Path("cache.json").write_text(json.dumps(cache))
    assert main(["import", "cache.json", "r.autotune.json"]) == ExitCode.ERROR
    assert "'score' is better is said nowhere" in capfd.readouterr().err
    said = ["--objective", "score", "--direction", "higher"]
    assert main(["import", "cache.json", "r.autotune.json", *said]) == ExitCode.DONE
    capfd.readouterr()
    assert main(["show", "r.autotune.json", "--json"]) == ExitCode.DONE
    assert json.loads(capfd.readouterr().out)["optimum"]["config"] == {"BLOCK_M": 32}
    assert main(["import", "cache.json", "s.json", "--problem", "problem.py", *said]) == ExitCode.DONE
    assert [seed["BLOCK_M"] for seed in json.loads(Path("s.json").read_bytes())["seeds"]] == [32, 16]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["import", "none.json"], ["none.json: cannot be read"]),
        (["import", "problem.py"], ["problem.py", "not a JSON object"]),
        (["import", MOE_NAME, "--format", "tvm"], ["--format tvm", "vllm, sglang"]),
        (["import", MOE_NAME, "--where", "M"], ["--where M", "key=value"]),
        (["import", MOE_NAME, "--where", "M=5"], ["labelled M=5"]),
        (["import", MOE_NAME, "s.csv"], ["its name says CSV"]),
        (["import", MOE_NAME, "--problem", MOE_NAME], ["is JSON, and not executed"]),
        (["tune", "problem.py", "--seeds", "none.json", "--no-journal"], ["none.json: cannot be read"]),
    ],
)
def test_mistakes_are_one_sentence(folder, capfd, arguments, words):
    assert main(arguments) == ExitCode.ERROR
    complaint = capfd.readouterr().err.splitlines()
    assert len(complaint) == 1
    for word in words:
        assert word in complaint[0]
