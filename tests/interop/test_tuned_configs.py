"""Tuned configs of other libraries: read as seeds of a search, written as they read them. All files are made up."""

import gzip
import json
import os
import warnings
from hashlib import md5
from pathlib import Path

import pytest

from autotune import Budget, CallableEvaluator, Config, Integer, PowerOfTwo, Space, load_seeds, save_config, tune
from autotune.cli import ExitCode, main
from autotune.core.errors import AutotuneError, ConfigError
from autotune.core.parameters import Boolean, Choice
from autotune.interop.seed_configs import SeedConfigs, fit_seeds, read_seeds, write_seeds
from autotune.interop.tuned_configs import FORMATS, read_tuned_configs, write_tuned_configs

SPACE = Space(
    {
        "BLOCK_M": PowerOfTwo(16, 128),
        "BLOCK_N": PowerOfTwo(16, 128),
        "num_warps": PowerOfTwo(1, 8),
        "num_stages": Integer(1, 4),
    },
    ["BLOCK_M * BLOCK_N <= 8192"],
    default={"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 2},
)


def moe(m, n, warps=4, **more):
    return {"BLOCK_SIZE_M": m, "BLOCK_SIZE_N": n, "num_warps": warps, "num_stages": 3, **more}


MOE = {"1": moe(16, 32), "64": moe(32, 64, 8), "4096": moe(128, 64, 8)}
MOE_NAME = "E=6,N=700,device_name=GPU_X-80GB,dtype=fp8,block_shape=[128, 64].json"


def triton_config(m, n, warps=4, stages=3):
    kwargs = {"BLOCK_M": m, "BLOCK_N": n}
    return {
        "kwargs": kwargs,
        "num_warps": warps,
        "num_stages": stages,
        "num_ctas": 1,
        "maxnreg": None,
        "pre_hook": None,
    }


FLA = {
    "kernel_name": "scan_kernel",
    "triton_version": "3.6.0",
    "default_config": triton_config(16, 16, 2),
    "autotune_entries": {
        "0a": {
            "autotune_key": [128, True, "torch.float16"],
            "config": triton_config(32, 64),
            "best_timing": [0.5, 0.4],
        },
        "0b": {"autotune_key": [256, True, "torch.float16"], "config": triton_config(64, 64, 8)},
    },
}
TRITON = {
    "key": [512, "torch.float32"],
    "timestamp": 1.5,
    "configs_timings": [
        [triton_config(16, 16), [0.9, 0.8, 1.0]],
        [triton_config(32, 16), float("inf")],
        [triton_config(64, 16), 0.3],
    ],
}
FLASHINFER = {
    "_metadata": {"flashinfer_version": "0.9", "gpu": "GPU X"},
    "('gemm', 'OneRunner', ((4, 512), (512, 64)))": ["OneRunner", 3],
    "('lib::moe', 'TwoRunner', ((1, 512), (0,)))": ["TwoRunner", [8, 34]],
}
LORA = {
    "2": {
        "1": {
            "16": {"512": {"64": {"BLOCK_M": 16, "NUM_WARPS": 4}}},
            "32": {"512": {"64": {"BLOCK_M": 32, "NUM_WARPS": 8}}},
        }
    }
}
NESTED = {"8-512-half": {"1": {"BLOCK_M": 16, "NUM_STAGE": 1}, "2": {"BLOCK_M": 32, "NUM_STAGE": 1}}}

FILES = {"vllm": MOE, "flash-linear-attention": FLA, "flashinfer": FLASHINFER, "triton": TRITON}


def file(tmp_path, content, name="file.json"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


# Reading


def test_vllms_files_are_read(tmp_path):
    path = file(tmp_path, {"triton_version": "3.6.0", **MOE}, MOE_NAME)
    found = read_tuned_configs(path)
    assert found.format == "vllm"
    assert found.about == {
        "E": "6", "N": "700", "device_name": "GPU_X-80GB", "dtype": "fp8", "block_shape": "[128, 64]",
        "triton_version": "3.6.0",
    }  # fmt: skip
    assert [entry.labels for entry in found.entries] == [{"M": 1}, {"M": 64}, {"M": 4096}]
    assert found.entries[1].config == MOE["64"]
    assert [entry.labels for entry in found.where({"M": "64"}).entries] == [{"M": 64}]
    assert found.where({"M": 64}) == found.where({"M": "64"})
    assert read_tuned_configs(file(tmp_path, MOE, "headdim=64.json")).entries[0].labels == {"key": 1}


def test_sglangs_files_are_told_by_their_folder(tmp_path):
    path = file(tmp_path, MOE, f"triton_3_4_0/{MOE_NAME.removesuffix('.json')}_down.json")
    found = read_tuned_configs(path)
    assert found.format == "sglang"
    assert (found.about["triton_version"], found.about["projection"], found.about["block_shape"]) == (
        "3.4.0",
        "down",
        "[128, 64]",
    )
    assert read_tuned_configs(path, "vllm").entries == found.entries


def test_nested_sizes_are_labels(tmp_path):
    found = read_tuned_configs(file(tmp_path, LORA, "GPU_SHRINK.json"))
    assert [entry.labels for entry in found.entries] == [
        {"max_loras": 2, "num_slices": 1, "m": m, "k": 512, "n": 64} for m in (16, 32)
    ]
    found = read_tuned_configs(file(tmp_path, NESTED, "sum_N=1.json"))
    assert [entry.labels for entry in found.entries] == [{"level 1": "8-512-half", "key": m} for m in (1, 2)]


def test_flash_linear_attentions_files_are_read(tmp_path):
    found = read_tuned_configs(file(tmp_path, FLA))
    assert found.format == "flash-linear-attention"
    assert found.about == {"kernel_name": "scan_kernel", "triton_version": "3.6.0"}
    assert [entry.labels["key"] for entry in found.entries] == [
        '[128,true,"torch.float16"]',
        '[256,true,"torch.float16"]',
        "default",
    ]
    assert found.entries[0].config == {"BLOCK_M": 32, "BLOCK_N": 64, "num_warps": 4, "num_stages": 3, "num_ctas": 1}
    assert [entry.time_ms for entry in found.entries] == [0.5, None, None]
    first = read_tuned_configs(file(tmp_path, triton_config(16, 16)))  # before there were keys
    assert (first.format, len(first.entries)) == ("flash-linear-attention", 1)


def test_tritons_own_files_are_read_fastest_first(tmp_path):
    found = read_tuned_configs(file(tmp_path, TRITON, "kernel.autotune.json"))
    assert (found.format, found.about) == ("triton", {"kernel_name": "kernel"})
    assert [(entry.config["BLOCK_M"], entry.time_ms) for entry in found.entries] == [(64, 0.3), (16, 0.9)]


def test_flashinfers_files_are_read(tmp_path):
    found = read_tuned_configs(file(tmp_path, FLASHINFER))
    assert found.format == "flashinfer"
    assert found.about == FLASHINFER["_metadata"]
    assert found.entries[0].labels == {"op": "gemm", "runner": "OneRunner", "shapes": "((4,512),(512,64))"}
    assert found.entries[0].config == {"runner": "OneRunner", "tactic": 3}
    assert found.entries[1].config == {"runner": "TwoRunner", "tactic": (8, 34), "tactic.0": 8, "tactic.1": 34}
    space = Space({"tactic": Choice([(8, 34), (8, 35), 3])})
    assert [*load_seeds(found.path, space, where={"op": "lib::moe"}, rename={})] == [{"tactic": (8, 34)}]
    tiles = Space({"tile": Choice([8, 16]), "kernel": Integer(0, 40)})
    seeds = load_seeds(found.path, tiles, where={"op": "lib::moe"}, rename={"tactic.0": "tile", "tactic.1": "kernel"})
    assert [*seeds] == [{"tile": 8, "kernel": 34}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "an empty object"),
        ({"a": 1, "b": {}}, "it has the names a, b"),
        ([], "not a JSON object"),
        (b"import os\n", "not a JSON object"),
        (b"", "not a JSON object"),
        ({"1": {"2": {"a": 1, "b": {}}}}, "'1 2 a' holds no config"),
        ({"autotune_entries": {"a": {}}}, "not a file of flash-linear-attention"),
        ({"autotune_entries": {}}, "holds no config"),
        ({"configs_timings": [[1, 2]]}, "not a file of triton"),
        ({"_metadata": {}, "gemm": ["R", 3]}, "'gemm' is no operation"),
        ({"_metadata": {}, "('a', 'b', ())": 3}, "is no operation"),
        ({"1": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": 1}}}}}}}}}}, "more than 8 levels"),
    ],
)
def test_what_is_no_file_of_tuned_configs_is_told(tmp_path, content, said):
    with pytest.raises(ConfigError, match=said) as caught:
        read_tuned_configs(file(tmp_path, content))
    assert "file.json" in str(caught.value)


def test_wrong_choices_are_told(tmp_path):
    path = file(tmp_path, MOE, MOE_NAME)
    with pytest.raises(ConfigError, match="'tvm' is unknown"):
        read_tuned_configs(path, "tvm")
    with pytest.raises(ConfigError, match="no label 'K'; they have M"):
        load_seeds(path, SPACE, where={"K": 3})
    with pytest.raises(ConfigError, match="labelled M=3"):
        load_seeds(path, SPACE, where={"M": 3})
    with pytest.raises(ConfigError, match="no config has 'BM' to rename"):
        load_seeds(path, SPACE, rename={"BM": "BLOCK_M"})
    with pytest.raises(ConfigError, match="the space has no 'BM'"):
        load_seeds(path, SPACE, rename={"BLOCK_SIZE_M": "BM"})
    with pytest.raises(ConfigError, match="at_most = 0"):
        load_seeds(path, SPACE, at_most=0)
    with pytest.raises(ConfigError, match="not a file of flashinfer"):
        read_tuned_configs(path, "flashinfer")


@pytest.mark.parametrize("wrong", [3, None, 1.5, [], object(), b"x", {"a": 1}, SPACE])
@pytest.mark.parametrize("name", ["path", "space", "format", "where", "rename", "at_most"])
def test_an_argument_of_a_wrong_type_is_told(tmp_path, name, wrong):
    arguments = {"path": file(tmp_path, MOE, MOE_NAME), "space": SPACE, name: wrong}
    found = attempt(**arguments)
    if isinstance(found, SeedConfigs):
        assert wrong is None or (name, wrong) in (("at_most", 3), ("space", SPACE))
    else:
        assert name in str(found) or "no label" in str(found) or "no config has" in str(found)


# Fitting


def fitted(tmp_path, content, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        seeds = load_seeds(file(tmp_path, content), options.pop("space", SPACE), **options)
    assert [str(w.message) for w in caught] == (
        [f"{tmp_path / 'file.json'}: {'; '.join(seeds.left_out)}"] if seeds.left_out else []
    )
    return seeds


def test_names_that_are_spelt_alike_are_matched_and_said(tmp_path):
    seeds = fitted(tmp_path, MOE)
    assert [*seeds] == [
        {"BLOCK_M": 16, "BLOCK_N": 32, "num_warps": 4, "num_stages": 3},
        {"BLOCK_M": 32, "BLOCK_N": 64, "num_warps": 8, "num_stages": 3},
        {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 8, "num_stages": 3},
    ]
    assert all(isinstance(config, Config) for config in seeds)
    assert seeds.notes == ("BLOCK_SIZE_M is taken for BLOCK_M", "BLOCK_SIZE_N is taken for BLOCK_N")
    assert next(iter(fitted(tmp_path, NESTED)))["num_stages"] == 1
    assert [*fitted(tmp_path, LORA)][1]["num_warps"] == 8
    both = {"1": {"BLOCK_M": 16, "block_m": 32}}
    assert next(iter(fitted(tmp_path, both)))["BLOCK_M"] == 16, "the same name goes before one that is alike"


def test_a_name_that_two_could_be_is_not_guessed(tmp_path):
    seeds = fitted(tmp_path, {"1": {"block_m": 16, "BLOCK_SIZE_M": 32, "BLOCK_N": 16}})
    assert [*seeds] == [{"BLOCK_M": 64, "BLOCK_N": 16, "num_warps": 4, "num_stages": 2}]
    assert seeds.left_out == ("the space has no block_m, BLOCK_SIZE_M, left out of the configs",)


def test_what_does_not_fit_is_left_out_and_said(tmp_path):
    content = {
        "1": moe(16, 32, GROUP_SIZE_M=1, waves_per_eu=0),
        "2": moe(512, 32),
        "3": moe(128, 128),
        "4": moe(16, 32.0),
        "5": moe(16, True),
        "6": moe(1024, 32, SPLIT_K=4),
    }
    seeds = fitted(tmp_path, content)
    assert len(seeds) == 1
    text = "; ".join(seeds.left_out)
    assert "1 config left out: a config has BLOCK_M = 512" in text
    assert "BLOCK_M * BLOCK_N <= 8192" in text
    assert "BLOCK_N = 32.0" in text
    assert "BLOCK_N = True" in text
    assert "the space has no GROUP_SIZE_M, SPLIT_K, left out of the configs" in text
    assert "waves_per_eu" not in text, "0 says nothing"
    with pytest.raises(ConfigError, match="no config fits the space: 1 config left out"):
        fitted(tmp_path, {"1": moe(512, 32)})


def test_a_config_without_a_value_takes_the_default_or_is_left_out(tmp_path):
    assert [*fitted(tmp_path, {"1": {"BLOCK_M": 16}})] == [
        {"BLOCK_M": 16, "BLOCK_N": 64, "num_warps": 4, "num_stages": 2}
    ]
    with pytest.raises(ConfigError, match=r"no config fits the space.*BLOCK_N"):
        fitted(tmp_path, {"1": {"BLOCK_M": 16}}, space=Space(SPACE.parameters))


def test_each_config_is_a_seed_once_and_at_most_so_many(tmp_path):
    content = {str(m): moe(16 << m % 3, 16 << m % 4) for m in range(60)}
    assert len(fitted(tmp_path, content)) == 12
    seeds = fitted(tmp_path, content, at_most=5)
    assert len(seeds) == 5
    assert "the first 5 that fit are taken, of 60 configs" in seeds.notes


def test_a_large_file_is_compared_in_bounded_time(tmp_path):
    content = {str(m): moe(512, m) for m in range(60_000)}
    with pytest.raises(ConfigError, match="10,000 configs left out"):
        fitted(tmp_path, content)


def test_a_search_begins_with_the_seeds(tmp_path):
    path = file(tmp_path, MOE, MOE_NAME)

    def build(config):
        return lambda: None

    measured = []
    evaluator = CallableEvaluator(build, isolation="in_process")
    result = tune(
        SPACE, evaluator, "random_search", seeds=load_seeds(path, SPACE), budget=Budget(evaluations=4),
        journal=tmp_path / "j.jsonl", settings={"count": 4},
    )  # fmt: skip
    assert result.evaluations == 4
    text = (tmp_path / "j.jsonl").read_text()
    for m, n in ((16, 32), (32, 64), (128, 64)):
        measured.append(f'"BLOCK_M":{m},"BLOCK_N":{n}' in text)
    assert all(measured)


# Other sources of seeds


def test_seeds_are_written_and_read_and_so_are_lists_and_configs(tmp_path):
    seeds = [Config({"BLOCK_M": 16, "BLOCK_N": 32}), Config({"BLOCK_M": 32, "BLOCK_N": 32})]
    write_seeds(seeds, tmp_path / "s.json", "somewhere")
    assert json.loads((tmp_path / "s.json").read_bytes())["source"] == "somewhere"
    found = [*load_seeds(tmp_path / "s.json", SPACE)]
    assert [config["BLOCK_M"] for config in found] == [16, 32]
    assert [*load_seeds(file(tmp_path, [dict(seed) for seed in seeds]), SPACE)] == found
    save_config(seeds[1], tmp_path / "best.json")
    assert [*load_seeds(tmp_path / "best.json", SPACE)] == found[1:]
    with pytest.raises(ConfigError, match="its name says CSV"):
        write_seeds(seeds, tmp_path / "s.csv")
    with pytest.raises(ConfigError, match="item 1 is no config"):
        load_seeds(file(tmp_path, [{"a": 1}, 3]), SPACE)
    with pytest.raises(ConfigError, match="version 2 where 1 is known"):
        load_seeds(file(tmp_path, {"format": "autotune-seeds", "version": 2, "seeds": []}), SPACE)
    with pytest.raises(ConfigError, match="damaged list of seeds"):
        load_seeds(file(tmp_path, {"format": "autotune-seeds", "version": 1, "seeds": 3}), SPACE)


def test_a_recording_gives_its_fastest(tmp_path):
    entries = {str(m): {"BLOCK_M": m, "BLOCK_N": 16, "time": 1 / m} for m in (16, 64, 32)}
    cache = {"tune_params": {"BLOCK_M": [16, 32, 64], "BLOCK_N": [16]}, "cache": entries}
    seeds = load_seeds(file(tmp_path, cache), SPACE, at_most=2)
    assert [config["BLOCK_M"] for config in seeds] == [64, 32]
    builtin = read_seeds("builtin:rms_norm")
    assert (builtin.format, len(builtin.entries)) == ("recording", 840)
    assert [e.time_ms for e in builtin.entries] == sorted(e.time_ms for e in builtin.entries)
    with pytest.raises(ConfigError, match="is no recording nor a list of configs"):
        load_seeds(file(tmp_path, b"hello"), SPACE)


# Writing


def test_what_is_written_for_vllm_and_sglang_reads_back(tmp_path):
    configs = [(4096, {"BLOCK_M": 64, "num_warps": 8}), (1, {"BLOCK_M": 16, "num_warps": 4})]
    for form in ("vllm", "sglang"):
        write_tuned_configs(
            configs, tmp_path / MOE_NAME, form, rename={"BLOCK_M": "BLOCK_SIZE_M"}, triton_version="3.6.0"
        )
        text = json.loads((tmp_path / MOE_NAME).read_bytes())
        assert text == {
            **({"triton_version": "3.6.0"} if form == "vllm" else {}),
            "1": {"BLOCK_SIZE_M": 16, "num_warps": 4},
            "4096": {"BLOCK_SIZE_M": 64, "num_warps": 8},
        }
        assert [name for name in text if name != "triton_version"] == ["1", "4096"], "ascending, as theirs"
    assert next(iter(load_seeds(tmp_path / MOE_NAME, SPACE, where={"M": 1})))["BLOCK_M"] == 16
    nested = [
        ((2, 1, 16, 512, 64), {"BLOCK_M": 16, "NUM_WARPS": 4}),
        ((2, 1, 32, 512, 64), {"BLOCK_M": 32, "NUM_WARPS": 8}),
    ]
    write_tuned_configs(nested, tmp_path / "lora.json", "vllm")
    assert json.loads((tmp_path / "lora.json").read_bytes()) == LORA


def test_what_is_written_for_flash_linear_attention_is_what_its_lookup_finds(tmp_path):
    key = [128, True, "torch.float16"]
    configs = [(key, {"BLOCK_M": 32, "num_warps": 8}), (None, {"BLOCK_M": 16, "num_stages": 1})]
    write_tuned_configs(configs, tmp_path / "scan.json", "flash-linear-attention", triton_version="3.6.0")
    text = json.loads((tmp_path / "scan.json").read_bytes())
    assert (text["kernel_name"], text["triton_version"]) == ("scan", "3.6.0")
    digest = md5(json.dumps(key, separators=(",", ":"), sort_keys=True).encode()).hexdigest()
    entry = text["autotune_entries"][digest]
    assert entry["autotune_key"] == key
    assert entry["config"] == {
        "kwargs": {"BLOCK_M": 32},
        "num_warps": 8,
        "num_stages": 3,
        "num_ctas": 1,
        "maxnreg": None,
    }
    assert text["default_config"]["num_stages"] == 1
    assert [e.config["BLOCK_M"] for e in read_tuned_configs(tmp_path / "scan.json").entries] == [32, 16]


@pytest.mark.parametrize(
    ("configs", "options", "said"),
    [
        ([(1, {"a": 1})], {"format": "flashinfer"}, "valid for one build"),
        ([(1, {"a": 1})], {"format": "triton"}, "digests"),
        ([(1, {"a": 1})], {"format": "tvm"}, "unknown"),
        ([], {}, "no config to write"),
        ([("x", {"a": 1})], {}, "'x' is no size"),
        ([(True, {"a": 1})], {}, "no size"),
        ([(-1, {"a": 1})], {}, "no size"),
        ([(1, {"a": 1}), (1, {"a": 2})], {}, "two configs are for 1"),
        ([((1, 2), {"a": 1}), (1, {"a": 2})], {}, "more sizes than others"),
        ([(1, {"a": 1})], {"rename": {"b": "c"}}, "no 'b' to rename"),
        ([(1, {"a": 1, "b": 2})], {"rename": {"a": "b"}}, "one name"),
        ([([1], {"a": 1}), ([1], {"a": 2})], {"format": "flash-linear-attention"}, "two configs are for"),
    ],
)
def test_what_cannot_be_written_is_told(tmp_path, configs, options, said):
    with pytest.raises(ConfigError, match=said):
        write_tuned_configs(configs, tmp_path / "x.json", **{"format": "vllm", **options})
    assert not (tmp_path / "x.json").exists()


# Hostile content


@pytest.mark.parametrize("content", FILES.values(), ids=FILES.keys())
@pytest.mark.parametrize(
    "nasty", ["NaN", "1e999", "9" * 400, '"\\ud800"', "[" * 900 + "]" * 900, "null", "{}", "[]", "-1", '""']
)
def test_nasty_values_anywhere_are_seeds_or_one_sentence(tmp_path, content, nasty):
    for text in replaced(content, nasty):
        path = file(tmp_path, text.encode())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = attempt(path)
        assert isinstance(found, SeedConfigs) or ("\n" not in str(found) and len(str(found)) < 4_000)


def attempt(path, space=SPACE, **options):
    """The seeds, or the one error that a file or an argument may raise."""
    try:
        return load_seeds(path, space, **options)
    except AutotuneError as error:
        return error


def replaced(value, nasty):
    for mark in marked(value):
        yield json.dumps(mark, separators=(",", ":")).replace('"@@"', nasty)


def marked(value):
    if isinstance(value, dict):
        for name, inner in value.items():
            for other in marked(inner):
                yield {**value, name: other}
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            for other in marked(inner):
                yield [*value[:place], other, *value[place + 1 :]]
    yield "@@"


def test_files_that_are_no_files_and_bombs_are_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name, said in (
        ("fifo", "a FIFO"),
        (".", "a directory"),
        ("x" * 300, "name too long"),
        ("none", "No such file"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_seeds(tmp_path / name, SPACE)
    for content in (b" " * (200 * 2**20), b"[" * (200 * 2**20), b'{"1":' * (2 * 2**20)):
        with pytest.raises(AutotuneError):
            load_seeds(file(tmp_path, gzip.compress(content)), SPACE)
    assert len(load_seeds(file(tmp_path, gzip.compress(json.dumps(MOE).encode())), SPACE)) == 3
    assert len(load_seeds(file(tmp_path, b"\xef\xbb\xbf" + json.dumps(MOE).encode()), SPACE)) == 3


# The command line


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
