"""Seeds from files: names and values that fit a space, reports of those that do not, and hostile content."""

import gzip
import json
import os
import warnings

import pytest

from autotune import Budget, CallableEvaluator, Config, Space, load_seeds, save_config, tune
from autotune.core.errors import AutotuneError, ConfigError
from autotune.interop.seed_configs import SeedConfigs, read_seeds, write_seeds
from tests.interop.config_files import (
    FILES,
    LORA,
    MOE,
    MOE_NAME,
    NESTED,
    SPACE,
    file,
    moe,
)


@pytest.mark.parametrize("wrong", [3, None, 1.5, [], object(), b"x", {"a": 1}, SPACE])
@pytest.mark.parametrize("name", ["path", "space", "format", "where", "rename", "at_most"])
def test_an_argument_of_a_wrong_type_is_told(tmp_path, name, wrong):
    arguments = {"path": file(tmp_path, MOE, MOE_NAME), "space": SPACE, name: wrong}
    found = attempt(**arguments)
    if isinstance(found, SeedConfigs):
        assert wrong is None or (name, wrong) in (("at_most", 3), ("space", SPACE))
    else:
        assert name in str(found) or "no label" in str(found) or "no config has" in str(found)


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
