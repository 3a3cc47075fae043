"""`autotune.triton` on GPUs of other makes, which are made up: tensors that name them, torch's interface to them, and
Triton's driver, which compiles for gfx942, launches nothing and has a clock of its own."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import autotune
from autotune.shell.cache import identity
from autotune.shell.cache.cache import iter_cache_entries

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

from tests.backends.triton_decorator.made_up_gpu import MadeUpGpu, N, in_place  # noqa: E402

NAMES = {"cuda": "AMD Instinct MI300X", "xpu": "Intel(R) Data Center GPU Max 1550", "mtia": ""}
LABELS = {"cuda": "hip AMD Instinct MI300X gfx942", "xpu": "xpu Intel(R) Data Center GPU Max 1550", "mtia": "mtia mtia"}
"""The device as the cache names it. Of the last one, torch tells nothing."""


@pytest.fixture(params=NAMES)
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MadeUpGpu]:
    kind: str = request.param
    made = MadeUpGpu(kind, "gfx942")
    properties = SimpleNamespace(
        name=NAMES[kind], major=9, minor=4, gcnArchName="gfx942:sramecc+:xnack-", max_compute_units=8
    )

    def describe(device: Any = None) -> Any:
        if kind == "mtia":
            raise RuntimeError("torch tells nothing")
        return properties

    monkeypatch.setattr(torch.version, "hip", "6.4.0" if kind == "cuda" else None)
    monkeypatch.setattr(torch.version, "cuda", None)
    with in_place(made, describe, monkeypatch, tmp_path):
        yield made


def add(a, b, c, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) + tl.load(b + at, mask=at < n), mask=at < n)


def grid(meta: Mapping[str, Any]) -> tuple[int]:
    return (triton.cdiv(meta["n"], meta["BLOCK"]),)


def configs(warps: Sequence[int] = (1, 2, 4)) -> list[Any]:
    return [triton.Config({"BLOCK": 128, "waves_per_eu": 2}, num_warps=n) for n in warps]


def decorate(**settings: Any) -> Any:
    return autotune.triton(configs(), key=["n"], rep=10, warmup=1, **settings)(triton.jit(add))


@pytest.mark.filterwarnings("error:.*cannot be tuned")
def test_it_tunes_in_this_process_and_the_next_one_knows_the_device(make: MadeUpGpu, tmp_path: Path) -> None:
    kernel = decorate()
    a, b, c = make.vectors()
    before = c.clone()
    kernel[grid](a, b, c, N)
    assert kernel.best_config.num_warps == 2
    assert make.launches > 10
    assert make.copied > 0, "it was tuned on a copy of what it writes, on the device"
    assert torch.equal(c, before), "nothing is launched, and the caller's tensors are as they were"
    assert [one.hardware for one in iter_cache_entries(tmp_path / "cache")] == [LABELS[make.kind]]
    launches = make.launches
    again = decorate()
    again[grid](a, b, c, N)
    assert make.launches == launches + 1, "the result was on disk"
    assert again.best_config.num_warps == 2


@pytest.mark.parametrize("make", ["cuda"], indirect=True)
def test_configs_for_amd_are_compiled_in_forks_of_the_program(make: MadeUpGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """They compile for the architecture that torch names, and the program finds the binaries in Triton's cache."""
    found: list[tuple[str, bool]] = []

    def listen(*_: Any, metadata: Any, cache_hit: bool, **__: Any) -> None:
        found.append((metadata["arch"], cache_hit))

    monkeypatch.setattr(triton.knobs.compilation, "listener", listen)
    decorate()[grid](*make.vectors(), N)
    assert found == [("gfx942", True)] * 3


def test_another_device_of_the_make_is_another_key(
    make: MadeUpGpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    decorate()[grid](*make.vectors(), N)
    launches = make.launches
    properties = SimpleNamespace(name="another", gcnArchName="gfx90a", multi_processor_count=104)
    monkeypatch.setattr(getattr(torch, make.kind), "get_device_properties", lambda device=None: properties)
    identity._accelerator.cache_clear()
    decorate()[grid](*make.vectors(), N)
    assert make.launches > launches + 1
    assert len(list(iter_cache_entries(tmp_path / "cache"))) == 2


def test_while_a_graph_is_captured_nothing_is_tuned(make: MadeUpGpu) -> None:
    kernel, make.capturing = decorate(), True
    with pytest.warns(UserWarning, match=r"add is not tuned for its arguments \(a .*graph.* is being captured\)"):
        kernel[grid](*make.vectors(), N)
    assert make.launches == 1
    make.capturing = False
    kernel[grid](*make.vectors(), N)
    assert kernel.best_config.num_warps == 2


@pytest.mark.parametrize("make", ["xpu", "mtia"], indirect=True)
def test_a_process_of_its_own_is_for_two_makes(make: MadeUpGpu) -> None:
    kernel = decorate(isolation="process")
    with pytest.raises(autotune.PlanError, match=rf"the tensors of add\(.*\) are on '{make.kind}'; leave it out"):
        kernel[grid](*make.vectors(), N)


def test_without_memory_for_copies_values_come_back_from_the_host(make: MadeUpGpu) -> None:
    make.free_bytes = 0
    kernel, (a, b, c) = decorate(), make.vectors()
    before = c.clone()
    with pytest.warns(UserWarning, match="there is no memory for copies of c"):
        kernel[grid](a, b, c, N)
    assert torch.equal(c, before)
    assert kernel.best_config.num_warps == 2


def test_a_space_may_have_options_of_the_make(make: MadeUpGpu) -> None:
    space = autotune.Space(
        {
            "BLOCK": autotune.Choice([128]),
            "num_warps": autotune.Choice([1, 2]),
            "waves_per_eu": autotune.Choice([0, 2]),
        },
        default={"BLOCK": 128, "num_warps": 1, "waves_per_eu": 0},
    )
    kernel = autotune.triton(space, key=["n"], budget=autotune.Budget(evaluations=4), rep=10, warmup=1)(triton.jit(add))
    kernel[grid](*make.vectors(), N)
    assert kernel.best_config.num_warps == 2
    with pytest.raises(autotune.SpaceError, match="'waves_per_ue', which the kernel has no parameter for"):
        autotune.triton(autotune.Space({"waves_per_ue": autotune.Choice([0, 2])}))(triton.jit(add))


def test_graphs_of_launches_are_those_of_torch_cuda(make: MadeUpGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    from autotune.backends.triton_decorator.do_bench import default_do_bench

    timed: list[str] = []
    monkeypatch.setattr(triton.testing, "do_bench_cudagraph", lambda *_, **__: timed.append("graph"))
    monkeypatch.setattr(triton.testing, "do_bench", lambda *_, **__: timed.append("launches"))
    if make.kind == "cuda":
        default_do_bench(make.kind, 1, 10, True)(lambda: None, (0.5,))
        assert timed == ["graph"]
        return
    with pytest.warns(UserWarning, match=f"use_cuda_graph has no effect: there are no such graphs on '{make.kind}'"):
        default_do_bench(make.kind, 1, 10, True)(lambda: None, (0.5,))
    assert timed == ["launches"]
