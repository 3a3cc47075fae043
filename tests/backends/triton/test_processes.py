"""The GPUs of this machine, and the tool that lists them."""

import os
from pathlib import Path

import pytest

from autotune.backends.triton import processes


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
