"""The GPUs that a process sees, on machines of either make."""

import pytest

from autotune.backends.triton import processes, visibility

torch = pytest.importorskip("torch")


@pytest.fixture
def rocm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processes.NvidiaSmi, "rows", lambda _: [])


def test_amds_gpus_are_those_that_torch_counts(rocm: None) -> None:
    assert processes.visible_gpus(None) == ("0", "1")
    assert processes.visible_gpus((1,)) == ("1",)


def test_hips_own_variable_comes_first(rocm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert processes.visible_gpus(None) == ("7",)
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "2,3")
    assert visibility.visibility_variable() == "HIP_VISIBLE_DEVICES"
    assert processes.visible_gpus(None) == ("2", "3")
    assert processes.visible_gpus((1,)) == ("3",)
    assert visibility.without_gpus() == {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1"}


def test_elsewhere_hips_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "2,3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert processes.visible_gpus(None) == ("1",)
    assert visibility.rocm_gpus() == ()
    assert visibility.without_gpus() == {"CUDA_VISIBLE_DEVICES": ""}
