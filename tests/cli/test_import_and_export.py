"""`autotune import`, `autotune export` and `autotune cache export --export-format`."""

import json
from pathlib import Path

import pytest

from autotune import Budget, CallableEvaluator, PowerOfTwo, Space, save_config, tune
from autotune.cli import ExitCode, main
from autotune.core.parameters import Boolean
from autotune.interop.seed_configs import fit_seeds
from autotune.interop.tuned_configs import FORMATS, read_tuned_configs
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
        (["import", "none.json"], ["none.json: cannot be read"]),
        (["import", "problem.py"], ["problem.py", "not a JSON object"]),
        (["import", MOE_NAME, "--format", "tvm"], ["--format tvm", "vllm, sglang"]),
        (["import", MOE_NAME, "--where", "M"], ["--where M", "NAME=VALUE"]),
        (["import", MOE_NAME, "--where", "M=5"], ["labelled M=5"]),
        (["import", MOE_NAME, "s.csv"], ["its name says CSV"]),
        (["import", MOE_NAME, "--problem", MOE_NAME], ["is JSON, and not executed"]),
        (["tune", "problem.py", "--seeds", "none.json", "--no-journal"], ["none.json: cannot be read"]),
        (["export", "x.json", "16"], ["NAME=VALUE"]),
        (["export", "x.json", "16=problem.py"], ["not a config in JSON"]),
        (["export", "x.json", "a b=b.json"], ["the key is not JSON"]),
        (["export", "x.json", "16=none.json"], ["none.json cannot be read"]),
        (["export", "x.json", "16=b.json", "--format", "flashinfer"], ["valid for one build"]),
        (
            ["cache", "export", "x.json", "--export-format", "vllm", "--cache-dir", "cache"],
            ["there is no config to write"],
        ),
    ],
)
def test_mistakes_are_one_sentence(folder, capfd, arguments, words):
    save_config({"BLOCK_M": 32}, "b.json")
    Path("cache").mkdir()
    assert main(arguments) == ExitCode.ERROR
    complaint = capfd.readouterr().err.splitlines()
    assert len(complaint) == 1
    for word in words:
        assert word in complaint[0]
    assert not Path("x.json").exists()


def test_the_cache_is_exported_by_a_field_of_its_keys(folder, capfd):
    space = Space({"BLOCK": PowerOfTwo(1, 4), "flag": Boolean()}, default={"BLOCK": 1, "flag": False})

    def build(config):
        return lambda x, n: None

    import numpy as np

    for n in (8, 64):
        evaluator = CallableEvaluator(build, args=(np.zeros(n), n), isolation="in_process")
        tune(space, evaluator, "random_search", budget=Budget(evaluations=3), cache=folder / "cache", journal=False)
    options = ["--cache-dir", "cache", "--export-format", "sglang"]
    assert main(["cache", "export", "x.json", *options]) == ExitCode.ERROR
    assert "--by FIELD; the entries have kernel, source" in capfd.readouterr().err
    assert main(["cache", "export", "x.json", *options, "--by", "kernel"]) == ExitCode.ERROR
    assert "and no size" in capfd.readouterr().err
    assert (
        main(["cache", "export", "N=1.json", *options, "--by", "specialization.arguments.0.shape.0"]) == ExitCode.DONE
    )
    assert "2 configs to N=1.json, for sglang" in capfd.readouterr().out
    found = read_tuned_configs("N=1.json")
    assert [entry.labels for entry in found.entries] == [{"M": 8}, {"M": 64}]
    assert all(space.check(entry.config) for entry in found.entries)
    assert set(FORMATS) == {"vllm", "sglang", "flash-linear-attention", "flashinfer", "triton"}
    assert fit_seeds(found, space).configs
