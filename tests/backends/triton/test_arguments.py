"""Arguments: described, stood in for, and made without memory."""

from typing import Any

import pytest

from autotune import ArgumentSet

torch = pytest.importorskip("torch")

from autotune.backends.triton.arguments import describe_arguments, make_arguments, make_stand_ins  # noqa: E402
from autotune.backends.triton.kernel import Launch  # noqa: E402
from autotune.backends.triton.meta_tensors import without_memory  # noqa: E402


def fill(x: Any, out: Any) -> None:
    out.copy_(x * 2)


def test_stand_ins_are_what_the_dispatcher_sees() -> None:
    real = {"a": torch.arange(8.0)[1:], "b": torch.zeros(3, 4).T, "n": 16, "s": 0.5, "none": None, "flag": True}
    seen = make_stand_ins(describe_arguments(real))
    for name in ("a", "b"):
        assert seen[name].is_meta
        assert seen[name].data_ptr() % 16 == real[name].data_ptr() % 16
        assert (seen[name].stride(), seen[name].dtype) == (real[name].stride(), real[name].dtype)
    assert {name: seen[name] for name in ("n", "s", "none", "flag")} == {"n": 16, "s": 0.5, "none": None, "flag": True}
    with pytest.raises(ValueError, match=r"'x' \(object\) has no stand-in"):
        make_stand_ins(describe_arguments({"x": object()}))


def test_arguments_are_made_without_memory_or_gpu() -> None:
    def arguments() -> tuple[Any, ...]:
        x = torch.randn(1 << 20, 1 << 20, device="cuda")
        assert x.is_cuda
        assert x.device.type == "cuda"
        drawn = torch.rand((3, 4), dtype=torch.float64, generator=torch.Generator(), pin_memory=False)
        assert (drawn.shape, drawn.dtype) == ((3, 4), torch.float64)
        ones = torch.ones(4, device=x.device).to("cuda", torch.float16)
        return x, torch.empty_like(x), torch.zeros(3).cuda(), ones, drawn

    with without_memory():
        named = make_arguments(ArgumentSet(arguments), Launch(build=lambda config: fill))
    assert [value.is_meta for value in named.values()] == [True] * 5
    assert named["3"].dtype == torch.float16


def test_random_arguments_are_the_same_everywhere() -> None:
    given, launch = ArgumentSet(lambda: (torch.randn(3),)), Launch(build=lambda config: fill)
    assert torch.equal(make_arguments(given, launch)["0"], make_arguments(given, launch)["0"])
