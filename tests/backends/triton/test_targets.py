"""Targets: their names, and the makes of GPU."""

import sys
from types import SimpleNamespace

import pytest

from autotune import EvaluatorError
from autotune.backends.triton import targets


@pytest.mark.parametrize("name", ["90", "sm90", "sm_9", "", "gfx", "gfx9", "gfx942 ", "gfx942:", "xe_hpc"])
def test_a_text_that_is_no_architecture_is_an_error_that_names_the_known_ones(name: str) -> None:
    with pytest.raises(
        EvaluatorError, match=r"names no architecture; give one of sm_70.*sm_90.*gfx90a, gfx942.*\(AMD\)"
    ):
        targets.gpu_of_target(name)


@pytest.mark.parametrize("name", ["sm_91", "sm_10", "gfx943", "gfx1999"])
def test_a_target_of_the_user_must_be_known(name: str) -> None:
    with pytest.raises(EvaluatorError, match=f"target is '{name}', which is not known; give one of sm_70.*gfx942"):
        targets.check_target(name)


def test_a_device_that_is_not_known_is_taken_as_its_driver_describes_it() -> None:
    """The library is older than the device."""
    assert targets.gpu_of_target("sm_61").shared_bytes is None
    assert targets.gpu_of_target("sm_61").registers == 65536
    assert targets.gpu_of_target("gfx906").registers is None


def test_targets_as_triton_has_them() -> None:
    triton = pytest.importorskip("triton.backends.compiler")
    for name, expected in {
        "sm_90": ("cuda", 90, 32),
        "sm_90a": ("cuda", 90, 32),
        "gfx90a": ("hip", "gfx90a", 64),
        "gfx942:sramecc+:xnack-": ("hip", "gfx942", 64),
        "gfx1201": ("hip", "gfx1201", 32),
    }.items():
        assert targets.check_target(name).as_triton() == triton.GPUTarget(*expected)
    assert targets.check_target("gfx942:sramecc+").name == "gfx942"


def test_before_the_target_is_known_the_make_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    for version, expected in (
        ({"hip": None, "cuda": "12.8"}, "sm_90"),
        ({"hip": "6.4", "cuda": None}, "gfx942"),
        ({}, "sm_90"),
    ):
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(version=SimpleNamespace(**version)))
        assert targets.target_of_make() == expected
    monkeypatch.delitem(sys.modules, "torch")
    assert targets.target_of_make() == "sm_90"
