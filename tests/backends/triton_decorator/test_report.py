"""The report on decorated kernels: a row for each key, and the table."""

from pathlib import Path
from typing import Any

import pytest

import autotune
from autotune.backends.triton_decorator import report
from autotune.backends.triton_decorator.report import TunedKey, print_report

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

N = 300


def reported(a, c, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n), mask=at < n)


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("AUTOTUNE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("AUTOTUNE_PROGRESS", "0")
    monkeypatch.setattr(report, "_logs", [])


def tuned(*blocks: int, **options: Any) -> Any:
    seen = [0]

    def before(named: dict[str, Any], reset_only: bool = False) -> None:
        seen[0] = named["BLOCK"]

    def bench(call: Any, quantiles: Any) -> list[float]:
        call()
        return [64.0 / seen[0]] * 3

    configs = [triton.Config({"BLOCK": block}) for block in blocks]
    return autotune.triton(configs, ["n"], pre_hook=before, do_bench=bench, **options)(triton.jit(reported))


def launch(kernel: Any, n: int = N) -> None:
    kernel[lambda meta: (triton.cdiv(n, meta["BLOCK"]),)](torch.rand(N), torch.zeros(N), n)


def test_a_row_tells_the_source_the_gain_and_the_time_of_each_key() -> None:
    first, again = tuned(16, 64), tuned(16, 64)
    for kernel, sizes in ((first, (N, 200, N)), (again, (N,))):
        for n in sizes:
            launch(kernel, n)
    rows = autotune.triton.report()
    name = f"{__name__}.reported"
    assert [(row.kernel, row.key, row.source, row.gain) for row in rows] == [
        (name, "n=300, float32", "search", 4.0),
        (name, "n=200, float32", "search", 4.0),
        (name, "n=300, float32", "cache", 4.0),
    ]
    assert all(row.config.startswith("BLOCK: 64, num_warps: 4") for row in rows)
    assert all(row.seconds > 0 for row in rows)


def test_a_list_of_one_is_one_row_and_fallbacks_are_told() -> None:
    single, off = tuned(32), tuned(16, 64, mode="off")
    for n in (N, 200, 100):
        launch(single, n)
    launch(off)
    off.cache.clear()
    off.cache[next(iter(off._resolver.by_key))] = triton.Config({"BLOCK": 128})
    launch(off)
    assert [(row.key, row.source, row.gain) for row in autotune.triton.report()] == [
        ("", "list of one", None), ("n=300, float32", "given", None),
    ]  # fmt: skip


def test_known_keys_add_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = tuned(16, 64, bucket="power_of_two")
    launch(kernel)
    rows = autotune.triton.report()
    monkeypatch.delattr(report.KernelLog, "add")
    launch(kernel, N - 1)
    assert autotune.triton.report() == rows


def test_fallbacks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_MOST_KEYS", 2)
    kernel = tuned(16, 64, mode="off")
    for n in (1, 2, 3, 4):
        launch(kernel, n)
    assert [row.source for row in autotune.triton.report()] == ["fallback"] * 2


def test_the_table_begins_with_the_slowest(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        TunedKey(kernel="a.k", key="n=1", config="BLOCK: 16", source="cache", seconds=0.5, gain=None),
        TunedKey(kernel="b.k", key="", config="BLOCK: 32", source="search", seconds=70.0, gain=1.234),
    ]
    print_report(rows)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.split() for line in captured.err.splitlines()] == [
        ["autotune:", "2", "kernels,", "2", "keys,", "1:10", "until", "they", "had", "their", "configs"],
        ["kernel", "key", "tuning", "source", "gain", "config"],
        ["b.k", "-", "1:10", "search", "1.23x", "BLOCK:", "32"],
        ["a.k", "n=1", "0.5", "s", "cache", "-", "BLOCK:", "16"],
    ]
    print_report([])
    assert capsys.readouterr().err == "autotune: 0 kernels, 0 keys, 0.0 s until they had their configs\n"


def test_a_variable_asks_for_the_report_of_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(report, "print_at_exit", lambda: asked.append(True))
    launch(tuned(32))
    assert not asked
    monkeypatch.setenv("AUTOTUNE_TRITON_REPORT", "1")
    launch(tuned(32))
    assert asked == [True]
