"""What a tuning leaves in Triton's cache: what may be launched, and nothing of the losers, however it ends."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from autotune import Budget, Choice, Config, Space, TritonEvaluator, tune
from autotune.backends.triton import session_cache
from autotune.core.outcomes import Trial
from autotune.core.search.messages import Limits
from tests.support import ROOT

pytest.importorskip("triton")
pytest.importorskip("torch")

from tests.backends.triton.kernels import N, add, add_grid

SPACE = Space({"BLOCK": Choice([16, 32, 64, 128, 256, 512, 1024, 2048]), "num_warps": Choice([1, 2])})


def arguments() -> dict[str, Any]:
    import torch

    return {**{name: torch.zeros(N) for name in "abc"}, "n": N}


def evaluator(**more: Any) -> TritonEvaluator:
    return TritonEvaluator(
        add, arguments, grid=add_grid, device="interpreter", target="sm_90", compile_workers=2, **more
    )


def kernels(cache: Path) -> dict[str, dict[str, str]]:
    """The files of each kernel in a cache, by its folder, as Triton notes them."""
    groups = [path for path in cache.glob("*/__grp__*") if "_double" not in path.name]  # which workers warm up with
    return {group.parent.name: json.loads(group.read_text())["child_paths"] for group in groups}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "triton"
    monkeypatch.setenv("TRITON_CACHE_DIR", str(folder))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return folder


def compile_s(config: Config, folder: Path) -> float:
    """How long it takes until a config's binary is there."""
    with evaluator(cache_dir=folder).open_compiler(SPACE) as session:
        session.submit([Trial(0, config)], Limits())
        news: list[Any] = []
        while not news:
            news += session.poll(1.0)
    found: float = news[0].outcome.compile_s
    return found


@pytest.mark.slow
@pytest.mark.parametrize("given", [True, False])
def test_losers_leave_nothing(given: bool, cache: Path, tmp_path: Path) -> None:
    more = {"cache_dir": tmp_path / "given"} if given else {}
    result = tune(SPACE, evaluator(**more), "finite_search", settings={"configs": list(SPACE.enumerate())},
                  budget=Budget(), progress=False)  # fmt: skip
    assert result.evaluations == 16
    folder = tmp_path / "given" if given else cache
    left = kernels(folder)
    assert 1 <= len(left) <= 8
    for paths in left.values():
        assert all(Path(path).is_relative_to(folder) and Path(path).stat().st_size for path in paths.values())
        assert {Path(path).suffix for path in paths.values()} >= {".cubin", ".ptx", ".ttir", ".json"}
    assert list((tmp_path / "tmp").iterdir()) == []
    compile_s(result.best.config, folder)
    assert kernels(folder) == left, "the pick is there"


def test_what_was_compiled_before_is_found(cache: Path) -> None:
    config = Config(BLOCK=64, num_warps=1)
    compile_s(config, cache)
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    assert len(kernels(cache)) == 1
    with evaluator(timeline=cache.parent / "spans").open(SPACE) as session:
        session.submit([Trial(0, config)], Limits())
        news: list[Any] = []
        while not news:
            news += session.poll(1.0)
        (scratch,) = (cache.parent / "tmp").glob("*/triton")
        assert not kernels(scratch), "it was not compiled again"
    assert news[0].outcome.kind == "timed" if hasattr(news[0].outcome, "kind") else news[0].outcome.time_ms > 0
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before


IN_PROCESS = """
import sys, os, time
import torch, triton
from pathlib import Path
from autotune.backends.triton import fake_driver
fake_driver.install("sm_90")
sys.path.insert(0, sys.argv[1])
from tests.backends.triton import kernels
import autotune
from autotune import Budget
hang = len(sys.argv) > 2
configs = [triton.Config({"BLOCK": block}, num_warps=1) for block in (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)]
calls = 0
def bench(call, quantiles):
    global calls
    calls += 1
    call()
    if hang and calls == 4:
        print("hanging", flush=True)
        time.sleep(600)
    return [1.0 + calls / 100] * 3
kernel = autotune.triton(configs, ["n"], do_bench=bench, progress=False, cache_results=False,
                         settings={"verify_rounds": 1, "confirm_rounds": 1})(kernels.add)
values = [torch.zeros(1000) for _ in range(3)]
kernel[(1,)](*values, 1000)
print(kernel.best_config.kwargs["BLOCK"], flush=True)
other = triton.jit(kernels.scaled.fn)
other[(1,)](values[0], values[1], 1000, 2, 3, BLOCK=16)
"""


def _in_process(cache: Path, *more: str) -> subprocess.Popen[str]:
    own = {name: value for name, value in os.environ.items() if name not in ("TRITON_INTERPRET",)}
    own |= {"TRITON_CACHE_DIR": str(cache), "TMPDIR": str(cache.parent / "tmp"), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(IN_PROCESS), str(ROOT), *more],
        env=own, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_losers_of_a_tuning_in_this_process_leave_nothing(cache: Path) -> None:
    with _in_process(cache) as ran:
        said, _ = ran.communicate(timeout=120)
    assert ran.returncode == 0
    left = kernels(cache)
    named = [Path(path).stem for paths in left.values() for path in paths.values() if path.endswith(".cubin")]
    assert "scaled" in named, "what is compiled afterwards is kept as ever"
    assert 1 <= named.count("add") <= 6
    assert int(said) == 16
    assert list((cache.parent / "tmp").glob("autotune-*")) == []


@pytest.mark.slow
def test_the_folder_of_a_killed_process_is_removed_by_the_next(cache: Path) -> None:
    with _in_process(cache, "hang") as ran:
        assert ran.stdout is not None
        assert ran.stdout.readline() == "hanging\n"
        (folder,) = (cache.parent / "tmp").glob("autotune-triton-*")
        with session_cache.session_folder():
            assert folder.exists(), "its process lives"
        ran.send_signal(signal.SIGKILL)
        ran.wait()
        assert folder.exists()
        with session_cache.session_folder() as own:
            assert not folder.exists()
            assert Path(own).exists()
    assert list((cache.parent / "tmp").iterdir()) == []
    assert not kernels(cache)


@pytest.mark.slow
def test_a_killed_program_leaves_nothing(cache: Path, tmp_path: Path) -> None:
    code = f"""
    import sys
    sys.path.insert(0, {str(ROOT)!r})
    from tests.backends.triton.test_session_cache import SPACE, evaluator, Trial, Limits
    with evaluator().open(SPACE) as session:
        session.submit([Trial(i, config) for i, config in enumerate(SPACE.enumerate())], Limits())
        while not session.poll(1.0):
            pass
        print("timed", flush=True)
        while True:
            session.poll(1.0)
    """
    own = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], env=own, stdout=subprocess.PIPE, text=True
    ) as ran:
        assert ran.stdout is not None
        assert ran.stdout.readline() == "timed\n"
        ran.kill()
        ran.wait()
    until = time.monotonic() + 10
    while list((tmp_path / "tmp").iterdir()) and time.monotonic() < until:
        time.sleep(0.1)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not kernels(cache)


def test_whoever_manages_the_cache_goes_on_doing_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_MANAGER", "triton.runtime.cache:FileCacheManager")
    assert session_cache.worker_environment(str(cache.parent / "x"), str(cache)) == {}
    monkeypatch.delenv("TRITON_CACHE_MANAGER")
    assert session_cache.worker_environment(str(cache.parent / "x"), str(cache))
    monkeypatch.setattr(session_cache, "_has_room", lambda folder: False)
    assert session_cache.worker_environment(str(cache.parent / "x"), str(cache)) == {}


def test_libraries_are_kept_at_once_and_kernels_are_not(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cache.parent / "scratch"
    manager = session_cache.manager_class()
    monkeypatch.setenv("TRITON_CACHE_DIR", str(folder))
    monkeypatch.setenv(session_cache.LASTING, str(cache))
    session_cache.requested_keys.clear()
    one = manager("KEY")
    assert one.get_file("launcher.cpython-311-x86_64-linux-gnu.so") is None
    path = one.put(b"library", "launcher.cpython-311-x86_64-linux-gnu.so")
    assert Path(path).parent == cache / "KEY"
    assert manager("KEY").get_file("launcher.cpython-311-x86_64-linux-gnu.so") == path
    assert one.get_group("kernel.json") is None
    files = {name: one.put(b"x", name) for name in ("kernel.cubin", "kernel.json")}
    one.put_group("kernel.json", files)
    assert Path(files["kernel.cubin"]).parent == folder / "KEY"
    assert one.get_group("kernel.json") == files
    assert session_cache.requested_keys == ["KEY", "KEY"]
    session_cache.keep_kernels(str(folder), str(cache), ["KEY", "OTHER"])
    import shutil

    shutil.rmtree(folder)
    found = manager("KEY").get_group("kernel.json")
    assert found == {name: str(cache / "KEY" / name) for name in files}
    monkeypatch.delenv(session_cache.LASTING)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(cache))
    assert manager("KEY").get_group("kernel.json") == found, "as Triton reads it"
