"""Decorated kernels in processes of their own, and of several processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import DOCS

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")


SCRIPT = """
import sys
import torch, triton, triton.language as tl
import autotune

@autotune.triton([triton.Config({{"BLOCK": b}}) for b in (32, 128)], key=["n"], {more})
@triton.jit
def add(a, b, c, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) + tl.load(b + at, mask=at < n), mask=at < n)

a, b = torch.rand(300), torch.rand(300)
c = torch.full((300,), float("nan"))
grid = lambda meta: (triton.cdiv(a.numel(), meta["BLOCK"]),)
add[grid](a, b, c, 300)
assert torch.equal(c, a + b)
print(add.best_config.kwargs["BLOCK"], len(add.configs_timings))
"""


def start(folder: Path, more: str = "") -> "subprocess.Popen[str]":
    path = folder / "script.py"
    path.write_text(SCRIPT.format(more=more))
    own = {**os.environ, "TRITON_INTERPRET": "1", "AUTOTUNE_CACHE_DIR": str(folder / "cache"), "TMPDIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=own, cwd=folder
    )


def finished(process: "subprocess.Popen[str]") -> tuple[str, str]:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    return out, err


@pytest.mark.slow
def test_of_two_processes_that_begin_at_once_one_tunes(tmp_path: Path) -> None:
    both = [start(tmp_path) for _ in range(2)]
    found = [finished(process) for process in both]
    assert sum("tuning among 2 configs" in err for _, err in found) == 1
    assert len({out for out, _ in found}) == 1
    assert found[0][0].split()[1] == "2"
    later = finished(start(tmp_path))
    assert "tuning" not in later[1]
    assert later[0] == found[0][0]


def test_a_kernel_of_a_script_is_timed_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The script's grid holds a tensor, and the kernel's name in it means what the decorator made."""
    more = 'isolation="process", reference=lambda a, b: a + b, settings={"verify_rounds": 0}'
    out, err = finished(start(tmp_path, more))
    assert out.split()[1] == "2"
    assert "2 configs in" in err
    assert "in this one" not in err, "it did not fall back"


SIMILAR = """
import sys
import torch, triton, triton.language as tl
import autotune

calls = 0
def bench(call, quantiles):
    global calls
    calls += 1
    call()
    return [float(calls)] * 3

configs = [triton.Config({"BLOCK": b}, num_warps=w) for b in (32, 64, 128, 256, 512) for w in (1, 2)]

@autotune.triton(configs, key=["n"], do_bench=bench, budget=autotune.Budget(), settings={"verify_rounds": 0})
@triton.jit
def add(a, b, c, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    found = tl.load(a + at, mask=at < n)
    if b is not None:
        found += tl.load(b + at, mask=at < n)
    tl.store(c + at, found, mask=at < n)

a, b, c = torch.rand(300), torch.rand(300), torch.zeros(300)
grid = lambda meta: (triton.cdiv(300, meta["BLOCK"]),)
for n, optional in ((300, b), (300, None), (299, None))[int(sys.argv[1]) :]:
    add[grid](a, optional, c, n)
    print(len(add.configs_timings), end=" ")
"""


def test_a_key_that_differs_in_an_optional_argument_is_tuned_among_the_fastest(tmp_path: Path) -> None:
    """Six of ten configs are tried again; all are for another value that the key names. The next process takes both
    keys from the cache, and so does one that asks for the second key first."""
    path = tmp_path / "script.py"
    path.write_text(SIMILAR)
    own = {**os.environ, "TRITON_INTERPRET": "1", "AUTOTUNE_CACHE_DIR": str(tmp_path / "cache")}
    for first, found, tuned in (("0", "10 6 10 ", True), ("0", "10 6 10 ", False), ("1", "6 10 ", False)):
        command = [sys.executable, path, first]
        ran = subprocess.run(command, capture_output=True, text=True, env=own, timeout=200, check=False)
        assert ran.stdout == found, ran.stderr
        assert ("tuning among" in ran.stderr) == tuned


@pytest.mark.slow
def test_the_example_is_right(tmp_path: Path) -> None:
    example = DOCS / "examples" / "decorated_softmax.py"
    own = {**os.environ, "AUTOTUNE_MODE": "off", "AUTOTUNE_CACHE_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run([sys.executable, example], capture_output=True, text=True, env=own, timeout=200, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("1000 columns: BLOCK_ROWS: 1, BLOCK: 1024, num_warps: 4")
    assert not list(tmp_path.iterdir())
