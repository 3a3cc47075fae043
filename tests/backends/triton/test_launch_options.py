"""The options of a launch, as the backends of the installed Triton have them."""

import dataclasses
import sys

import pytest

from autotune import EvaluatorError
from autotune.backends.triton.launch_options import CONFIG_OPTIONS, _launch_options, launch_options, require_backend


@pytest.mark.parametrize("target", ["sm_90", "gfx942", "gfx90a", "gfx1100"])
def test_they_are_what_triton_itself_reads(target: str) -> None:
    """Triton refuses a keyword of a launch that its parsed options do not have."""
    triton = pytest.importorskip("triton")
    from autotune.backends.triton.targets import parse_target

    parsed = triton.compiler.make_backend(parse_target(target).as_triton()).parse_options({})
    assert launch_options(target) == {one.name for one in dataclasses.fields(parsed)}


def test_each_make_has_its_own_and_no_target_means_any() -> None:
    pytest.importorskip("triton")
    nvidia, amd = launch_options("sm_90"), launch_options("gfx942")
    assert "maxnreg" in nvidia - amd
    assert {"waves_per_eu", "matrix_instr_nonkdim", "kpack"} <= amd - nvidia
    assert nvidia | amd <= launch_options()
    assert {"num_warps", "num_stages"} <= nvidia & amd


def test_a_triton_that_lacks_a_backend_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("triton")
    require_backend("gfx942")
    monkeypatch.delitem(triton.backends.backends, "amd")
    with pytest.raises(EvaluatorError, match=r"does not compile for gfx942: it has the backends .*nvidia; install one"):
        require_backend("gfx942")
    require_backend("sm_90")


def test_without_triton_there_are_the_arguments_of_its_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton.backends", None)
    _launch_options.cache_clear()
    try:
        assert launch_options("gfx942") == set(CONFIG_OPTIONS)
    finally:
        _launch_options.cache_clear()
