"""`autotune cover`: from the cache to a table, a list of configs and a file of another library."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from autotune import Cache, Config, Device, Failed, LooseKey, Specialization, StrictKey, Timed, read_tuned_configs
from autotune.cli import ExitCode, main
from autotune.core.errors import ConfigError
from autotune.shell.cache.entries import Measurement, make_entry
from autotune.shell.cache.keys import Constant, Tensor, Versions
from autotune.shell.dispatch_table import load_table
from autotune.testing.cache_entries import numbered_entry
from tests.cli.test_cache import told

TIMES = {
    16: {1: 1.0, 2: 1.02, 8: 5.0},
    64: {1: 1.5, 2: 1.0, 8: 1.3},
    1024: {2: 2.0, 8: 1.0, 4: 1.01},
    4096: {8: 1.03, 4: 1.0},
}
"""Milliseconds of each config on each size."""


def config(number: int) -> Config:
    return Config({"BLOCK": number, "num_warps": 4})


def publish(cache: Cache, m: int, times: dict[int, float], **key: Any) -> None:
    name, device = key.get("kernel", "lib.matmul"), Device(kind="cuda", name=key.get("device", "H200"))
    arguments = {"a": Tensor((), "float16"), "m": Constant(m)}
    loose = LooseKey(
        kernel=name, source=key.get("source", "s"), specialization=Specialization(arguments), device=device, space="p"
    )
    found = numbered_entry(1, times)
    measured = [Measurement(config(n), Timed((ms,) * 3)) for n, ms in times.items()]
    measured.append(Measurement(config(99), Failed("compile_error", "too large")))
    assert found.result is not None
    result = replace(found.result, best=replace(found.result.best, config=config(min(times, key=lambda n: times[n]))))
    run = replace(found.run, began_at=key.get("began_at", found.run.began_at))
    cache.publish(make_entry(StrictKey(loose, Versions()), run, tuple(measured), result=result))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOTUNE_CACHE_DIR", str(tmp_path / "cache"))
    found = Cache()
    for m, times in TIMES.items():
        publish(found, m, times)
    return found


def test_the_fewest_configs_and_their_files(cache: Cache, capfd: pytest.CaptureFixture[str]) -> None:
    files = [
        "--table",
        "table.json",
        "--configs",
        "configs.py",
        "--export",
        "N=1.json",
        "--by",
        "specialization.arguments.m",
    ]
    fields = told(capfd, "cover", "matmul", *files)
    assert fields["configs"] == [{"BLOCK": 2, "num_warps": 4}, {"BLOCK": 4, "num_warps": 4}]
    assert fields["exact"] is True
    assert [(row["shape"], row["config"]) for row in fields["shapes"]] == [
        ("m=16", 0), ("m=64", 0), ("m=1024", 1), ("m=4096", 1),
    ]  # fmt: skip
    assert [row["loss"] for row in fields["shapes"]] == pytest.approx([0.02, 0.0, 0.01, 0.0])
    assert fields["written"] == ["table.json", "configs.py", "N=1.json"]
    table = load_table("table.json")
    assert [row.config for row in table.rows] == [0, 0, 1, 1]
    assert table.rows[0].losses[0] == 0.02
    written: dict[str, Any] = {}
    text = Path("configs.py").read_text().replace("import triton", "")
    exec(text, {"triton": type("triton", (), {"Config": staticmethod(lambda *a, **k: (a, k))})}, written)
    assert written["configs"] == [(({"BLOCK": 2},), {"num_warps": 4}), (({"BLOCK": 4},), {"num_warps": 4})]
    assert [entry.labels for entry in read_tuned_configs("N=1.json").entries] == [{"M": m} for m in TIMES]


def test_what_it_prints(cache: Cache, capfd: pytest.CaptureFixture[str]) -> None:
    publish(cache, 16, {8: 0.1}, source="before", began_at=1e9)
    assert main(["cover", "matmul", "--within", "0.5"]) == ExitCode.DONE
    out = capfd.readouterr().out
    for words in (
        "kernel      lib.matmul on cuda H200",
        "measured    4 shapes, 5 configs: 15 of 20 times",
        "5 times, as a time of the shape and one of the config, to a factor of ",
        "cover       2 configs within 50 %; no smaller number would do",
        "not used    1 entry of another source of the kernel",
    ):
        assert words in out


def test_weights(cache: Cache, capfd: pytest.CaptureFixture[str]) -> None:
    Path("w.json").write_text('{"m=16": 0, "m=64": 0}')
    assert told(capfd, "cover", "matmul", "--weights", "w.json")["configs"] == [{"BLOCK": 4, "num_warps": 4}]
    Path("w.json").write_text('{"m=17": 1}')
    assert main(["cover", "matmul", "--weights", "w.json"]) == ExitCode.ERROR
    assert "there is no shape 'm=17'; there are m=16; m=64" in capfd.readouterr().err
    Path("w.json").write_text("[1]")
    assert main(["cover", "matmul", "--weights", "w.json"]) == ExitCode.ERROR
    assert "w.json holds no weights" in capfd.readouterr().err


def test_mistakes(cache: Cache, capfd: pytest.CaptureFixture[str]) -> None:
    publish(cache, 16, {1: 1.0}, kernel="lib.softmax")
    publish(cache, 16, {1: 1.0}, kernel="lib.softmax", device="A100")
    for arguments, message in (
        (["attention"], "the cache has no entry of a kernel 'attention'"),
        (["lib"], "'lib' could be any of"),
        (["softmax"], "choose one with --device"),
        (["matmul", "--export", "x.json"], "--export needs --by FIELD; the shapes have kernel"),
        (["matmul", "--export", "x.json", "--by", "kernel"], "and no size"),
        (["matmul", "--table", "nowhere/x.json"], "the table cannot be written to nowhere/x.json"),
    ):
        assert main(["cover", *arguments]) == ExitCode.ERROR
        assert message in capfd.readouterr().err
    row = '{"specialization":{},"config":1,"losses":[0]}'
    missing = f'"device":{{"kind":"","name":""}},"configs":[{{}}],"rows":[{row}]}}'
    for text in (
        '{"format": "autotune-dispatch"}',
        "",
        '{"format":"autotune-dispatch","version":1,"kernel":"","within":0,' + missing,
    ):
        Path("broken.json").write_text(text)
        with pytest.raises(ConfigError, match=r"broken\.json is no dispatch table .*autotune cover"):
            load_table("broken.json")
