"""The benchmark beside Helion: what its table says of measurements, and what it resumes from."""

import json
import subprocess
import sys
import threading
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support import DOCS, load_module


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_module(DOCS / "benchmarks" / "helion_h200.py")


def run(side: str, pick: int, *incumbents: tuple[float, int]) -> dict[str, Any]:
    """A line for a search whose configs are numbers of warps, found at these seconds."""
    return {
        "step": f"{side}:matmul:quick:60:0", "took_s": 70.0, "wall_s": 61.0, "evaluations": 50, "failed": 3,
        "overdue": False, "strategy": "gaussian_process", "pick": {"num_warps": pick},
        "incumbents": [[at, 9.0, {"num_warps": warps}] for at, warps in incumbents],
    }  # fmt: skip


def comparison(nth: int = 0, /, **times_ms: float) -> dict[str, Any]:
    measured = {json.dumps({"num_warps": int(name[1:])}): [ms, ms - 0.1, ms + 0.1] for name, ms in times_ms.items()}
    return {"step": f"compare:matmul:quick:60:1:{nth}", "took_s": 9.0, "measured": measured, "left_out": 0}


def test_the_table_goes_by_what_was_timed_together(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.jsonl"
    theirs = run("helion", 8, (5.0, 1), (20.0, 4), (50.0, 8))
    ours = run("ours", 16, (4.0, 2), (10.0, 16))  # what it held after 4 s only seemed as good
    lines = [theirs, ours, comparison(w1=3.0, w2=2.0, w4=1.5, w8=1.0, w16=0.8)]
    results.write_text("\n".join(map(json.dumps, lines)) + '\n{"step": "cut sh')
    script.table(results)
    _, helion, mine = capsys.readouterr().out.splitlines()
    assert helion.split()[-6:] == ["1.000", "(1.000", "to", "1.000)", "50.0", "1.0"]
    assert mine.split()[-6:] == ["0.800", "(0.800", "to", "0.800)", "10.0", "5.0"]


def test_a_range_is_of_all_processes_that_compared(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.jsonl"
    times = ((1.0, 0.8), (1.0, 1.2), (2.0, 1.9))
    lines = [comparison(i, w8=theirs, w16=ours) for i, (theirs, ours) in enumerate(times)]
    lines += [run("helion", 8, (50.0, 8)), run("ours", 16, (4.0, 16))]
    results.write_text("\n".join(map(json.dumps, lines)))
    script.table(results)
    _, _, mine = capsys.readouterr().out.splitlines()
    assert "1.2000  0.7000 to 2.0000" in mine
    assert "0.950 (0.800 to 1.200)" in mine


def test_a_search_that_never_gets_there_says_so(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.jsonl"
    lines = [run("helion", 8, (50.0, 8)), run("ours", 2, (4.0, 2)), comparison(w2=2.0, w8=1.0)]
    results.write_text("\n".join(map(json.dumps, lines)))
    script.table(results)
    assert capsys.readouterr().out.splitlines()[2].split()[-6:] == ["2.000", "(2.000", "to", "2.000)", "never", "-"]


def test_what_is_there_is_not_run_again_and_what_does_not_fit_is_left_out(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def step(name: str, limit_s: float, call: dict[str, Any], cache: Path, seat: Any) -> dict[str, Any]:
        ran.append(name)
        kind = name.split(":")[0]
        return comparison(int(name[-1]), w8=1.0) if kind == "compare" else run(kind, 8, (5.0, 8))

    monkeypatch.setattr(script, "step", step)
    monkeypatch.setattr(script, "WORK", tmp_path)
    results = tmp_path / "results.jsonl"
    given = Namespace(
        seconds=60, effort="quick", seeds=1, strategy="gaussian_process", batch=None, plain=False, comparing=35,
        comparisons=2,
    )  # fmt: skip
    script.run_kernel(results, "matmul", given, ends=0.0, places=script.seats(False)[0])
    assert not ran
    script.run_kernel(results, "matmul", given, ends=float("inf"), places=script.seats(False)[0])
    assert [name.split(":")[0] for name in ran] == ["helion", "ours", "compare", "compare"]
    script.run_kernel(results, "matmul", given, ends=float("inf"), places=script.seats(False)[0])
    assert len(ran) == 4
    assert len(script.lines(results)) == 4

    results.write_text("\n".join(map(json.dumps, script.lines(results)[:3])) + "\n")
    monkeypatch.setattr(script, "WORK", tmp_path / "another machine")
    script.run_kernel(results, "matmul", given, ends=float("inf"), places=script.seats(False)[0])
    assert ran[4:] == ["compare:matmul:quick:60:1:1"]


def test_kernels_share_the_gpus_by_pairs(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "gpus", lambda: 5)
    monkeypatch.setattr(script.os, "sched_getaffinity", lambda pid: set(range(64)))
    (a, b), (c, d) = groups = script.seats(True)
    assert [seat.gpu for seat in (a, b, c, d)] == [0, 1, 2, 3]
    assert sorted(core for group in groups for seat in group for core in seat.cores) == list(range(64))
    assert len(script.seats(False)) == len(script.seats(False)[0]) == 1
    used: list[Any] = []
    both = threading.Barrier(2)

    def run_kernel(results: Path, kernel: str, given: Any, ends: float, group: Any) -> None:
        used.append(group)
        both.wait(10)

    monkeypatch.setattr(script, "run_kernel", run_kernel)
    names = ["matmul", "attention", "softmax", "rms_norm"]
    script.run_kernels(Namespace(results=tmp_path, kernels=names, side_by_side=True, keep=None), 0.0)
    assert sorted(used) == sorted([*groups, *groups])


@pytest.mark.slow
def test_a_step_that_hangs_is_ended_and_what_it_wrote_is_kept(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = tmp_path / "hanging.py"
    hanging.write_text(
        "import json, sys, time, pathlib\n"
        "pathlib.Path(json.loads(sys.argv[2])['written']).write_text('{\"overdue\": true}')\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setattr(script, "WORK", tmp_path / "work")
    found = script.step("ours:matmul", 10.0, {"do": "tune"}, tmp_path, script.seats(False)[0][0], str(hanging))
    assert found["overdue"]
    assert 10 <= found["took_s"] < 120


def test_the_hook_gives_helion_what_it_imports(script: ModuleType, tmp_path: Path) -> None:
    """As sitecustomize in a process where the module lacks the name."""
    folder = tmp_path / "torch" / "_inductor" / "runtime"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent, folder.parent.parent):
        (package / "__init__.py").write_text("")
    (folder / "triton_compat.py").write_text("there = 1\n")
    (tmp_path / "hook.py").write_text(script.HOOK)
    code = "import hook; from torch._inductor.runtime.triton_compat import IntelGPUError, there; print(there)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
