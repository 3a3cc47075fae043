"""The GPUs of this machine, the tool that lists them, and the workers that are forks of the program."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autotune.backends.triton import processes
from autotune.core.errors import EvaluatorError


def test_gpus_are_those_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-ab")
    assert processes.visible_gpus(None) == ("3", "GPU-ab")
    assert processes.visible_gpus((1,)) == ("GPU-ab",)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert processes.visible_gpus((0, 2)) == ("0", "2")
    assert processes.default_compile_workers(10**6) == 1


def test_the_drivers_tool_is_asked_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(processes, "_SMI_TIMEOUT_S", 0.5)
    tool = tmp_path / "nvidia-smi"

    def smi(script: str) -> processes.NvidiaSmi:
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        return processes.NvidiaSmi()

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = smi("echo '0, GPU-ab, 9.0'; echo '1, GPU-cd, [N/A]'")
    assert processes.visible_gpus(None, found) == ("0", "1")
    assert processes.visible_gpus((1,), found) == ("1",)
    assert [processes.target_of(name, found) for name in ("0", "GPU-ab", "1", "7")] == ["sm_90", "sm_90", None, None]
    for broken in ("echo '0, GPU-ab, 9.0'; exit 9", "exec sleep 60"):
        assert processes.visible_gpus(None, smi(broken)) == ()
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert processes.NvidiaSmi().rows() == []


ONCE = """
import os
assert "IMPORTED_ONCE" not in os.environ, "a worker imports the user's module"
os.environ["IMPORTED_ONCE"] = "1"
import torch, triton, triton.language as tl

held = torch.rand(300)

@triton.jit
def double(a, c, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) * 2, mask=at < n)

def arguments():
    return {"a": held, "c": torch.empty(300), "n": 300}

def grid(meta):
    return (triton.cdiv(meta["n"], meta["BLOCK"]),)
"""

TUNE = """
import once
from autotune import PowerOfTwo, Space, TritonEvaluator, tune
space = Space({"BLOCK": PowerOfTwo(32, 64)})
tool = TritonEvaluator(once.double, once.arguments, grid=once.grid, reference=lambda a: a * 2, outputs=("c",),
                       device=DEVICE, target=TARGET, compile_workers=1)
if DEVICE == "interpreter":
    print(tune(space, tool, effort="quick", progress=False).evaluations)
else:
    from autotune.core.outcomes import Trial
    from autotune.core.search.messages import Limits
    with tool.open_compiler(space) as session:
        session.submit([Trial(i, config) for i, config in enumerate(space.enumerate())], Limits())
        news = []
        while len(news) < 2:
            news += session.poll(1.0)
    print(len([one for one in news if one.outcome.kind == "skipped"]))
"""


@pytest.mark.parametrize(("device", "target"), [("interpreter", None), ("cuda", "sm_90")])
def test_no_worker_imports_the_modules_of_the_user(tmp_path: Path, device: str, target: str | None) -> None:
    pytest.importorskip("triton")
    (tmp_path / "once.py").write_text(ONCE)
    script = tmp_path / "script.py"
    script.write_text(TUNE.replace("DEVICE", repr(device)).replace("TARGET", repr(target)))
    own = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    own |= {"TRITON_INTERPRET": "1"} if device == "interpreter" else {"TRITON_CACHE_DIR": str(tmp_path / "cache")}
    ran = subprocess.run([sys.executable, script], env=own, capture_output=True, text=True, timeout=200, check=False)
    assert ran.stdout.strip() == "2", ran.stderr


def test_a_program_that_has_used_cuda_forks_no_worker_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("triton")
    from autotune.backends.triton import gpu_worker

    monkeypatch.delitem(sys.modules, "triton.runtime.driver", raising=False)  # another test may have set a driver
    assert processes.survives_fork("interpreter")
    assert processes.survives_fork("cuda")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert not processes.survives_fork("cuda")
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    with pytest.raises(EvaluatorError, match="has used the GPU"):
        gpu_worker.load_in_program({}, {})
