"""The files of tuned configs of other libraries: they are read, written, and refused where they are something else."""

import json
from hashlib import md5

import pytest

from autotune import Integer, Space, load_seeds
from autotune.core.errors import ConfigError
from autotune.core.parameters import Choice
from autotune.interop.tuned_configs import read_tuned_configs, write_tuned_configs
from tests.interop.config_files import FLA, FLASHINFER, LORA, MOE, MOE_NAME, NESTED, SPACE, TRITON, file, triton_config


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
