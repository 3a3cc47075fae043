"""`autotune.triton` on a real GPU: run with `pytest -m gpu` on a machine that has one."""

import gc
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import autotune
from autotune import PowerOfTwo, Space

pytestmark = pytest.mark.gpu

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

N = 1 << 20
SPACE = Space({"BLOCK": PowerOfTwo(256, 4096), "num_warps": PowerOfTwo(1, 8)}, default={"BLOCK": 256, "num_warps": 1})


@triton.jit
def gpu_add(a, b, c, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) + tl.load(b + at, mask=at < n), mask=at < n)


@triton.jit
def gpu_accumulate(a, c, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(c + at, tl.load(a + at, mask=at < n), mask=at < n)


@triton.jit
def gpu_by_keyword(c, n, warmup, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(value=tl.load(c + at, mask=at < n) + warmup, mask=at < n, pointer=c + at)


@triton.jit
def gpu_cast(a, c, n, KIND: tl.constexpr, EVEN: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(a + at) if EVEN else tl.load(a + at, mask=at < n)
    tl.store(c + at, value.to(KIND), mask=at < n)


def grid(meta: Mapping[str, Any]) -> tuple[int]:
    return (triton.cdiv(meta["n"], meta["BLOCK"]),)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTUNE_CACHE_DIR", str(tmp_path))


@pytest.fixture(autouse=True)
def _no_fall_back() -> Any:
    """A tuning that had to be done in this process warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def vectors() -> tuple[Any, Any, Any]:
    return torch.randn(N, device="cuda"), torch.randn(N, device="cuda"), torch.full((N,), 7.0, device="cuda")


def test_a_gluon_kernel_is_tuned(tmp_path: Path) -> None:
    pytest.importorskip("triton.experimental.gluon")
    from tests.backends.triton_decorator.test_launcher import GLUON

    path = tmp_path / "gluon_on_gpu.py"
    path.write_text(GLUON)
    scope: dict[str, Any] = {"__name__": "gluon_on_gpu"}
    exec(compile(GLUON, str(path), "exec"), scope)
    configs = [triton.Config({"BLOCK": block}, num_warps=4) for block in (128, 1024)]
    kernel = autotune.triton(configs, ["n"])(scope["doubled"])
    a, _, c = vectors()
    kernel[grid](a, c, N)
    torch.testing.assert_close(c, a * 2)
    assert all(times[0] < float("inf") for times in kernel.configs_timings.values())


def test_any_spelling_of_a_store_leaves_the_tensors_of_one_call() -> None:
    configs = [triton.Config({"BLOCK": block}, num_warps=4) for block in (256, 1024, 4096)]
    kernel = autotune.triton(configs, ["n"])(gpu_by_keyword)
    c = torch.full((N,), 7.0, device="cuda")
    kernel[grid](c, N, 3)
    torch.testing.assert_close(c, torch.full_like(c, 10.0))


@pytest.mark.parametrize("isolation", ["process", "in_process"])
def test_a_list_is_tried_and_the_tensors_are_those_of_one_call(isolation: Any) -> None:
    configs = [triton.Config({"BLOCK": block}, num_warps=4) for block in (256, 1024, 4096)]
    kernel = autotune.triton(configs, ["n"], isolation=isolation)(gpu_accumulate)
    a, _, c = vectors()
    kernel[grid](a, c, N)
    torch.testing.assert_close(c, a + 7)
    assert len(kernel.configs_timings) == 3
    assert all(0 < times[0] < 10 for times in kernel.configs_timings.values())
    kernel[grid](a, c, N)
    torch.testing.assert_close(c, a + 7 + a)


def added(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a + b


def test_a_space_is_searched_in_a_process_of_its_own_with_the_callers_tensors() -> None:
    kernel = autotune.triton(SPACE, ["n"], reference=added, budget=60)(gpu_add)
    a, b, c = vectors()
    kernel[lambda meta: (triton.cdiv(a.numel(), meta["BLOCK"]),)](a, b, c, N)
    assert torch.equal(c, a + b)
    assert len(kernel.configs_timings) > 5
    again = autotune.triton(SPACE, ["n"], reference=added, budget=60)(gpu_add)
    again[grid](a, b, c, N)
    assert again._resolver.latest.origin == "cache"
    assert again.best_config.all_kwargs() == kernel.best_config.all_kwargs()


def test_types_and_heuristics_go_along() -> None:
    below = triton.heuristics({"EVEN": lambda args: args["n"] % args["BLOCK"] == 0})(gpu_cast)
    kernel = autotune.triton(SPACE, ["n"], budget=30)(below)
    a = torch.randn(N, device="cuda")
    c = torch.empty(N, device="cuda", dtype=torch.float16)
    kernel[grid](a, c, N, KIND=tl.float16)
    assert torch.equal(c, a.half())


def test_a_graph_is_captured_with_what_is_known() -> None:
    configs = [triton.Config({"BLOCK": block}, num_warps=4) for block in (256, 1024)]
    kernel = autotune.triton(configs, ["n"])(gpu_add)
    a, b, c = vectors()
    gpu_add[grid](a, b, c, N, BLOCK=256, num_warps=4)  # loading a binary is not for a capture
    graph = torch.cuda.CUDAGraph()
    with pytest.warns(UserWarning, match="CUDA graph"), torch.cuda.graph(graph):
        kernel[grid](a, b, c, N)
    c.zero_()
    graph.replay()
    assert torch.equal(c, a + b)
    kernel[grid](a, b, c, N)
    known = kernel.best_config
    c.zero_()
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        kernel[grid](a, b, c, N)
    assert kernel.best_config is known


@pytest.fixture
def _own_memory() -> Any:
    """What the test uses of the GPU is given back to the driver: other processes need it, and cannot have torch's."""
    torch.cuda.empty_cache()  # so that it is the driver's memory that is short, whatever the card has of it
    yield
    gc.collect()
    torch.cuda.empty_cache()


@pytest.mark.usefixtures("_own_memory")
def test_without_memory_for_copies() -> None:
    free = torch.cuda.mem_get_info()[0]
    filler = torch.empty(max(free - (3 << 30), 1), dtype=torch.uint8, device="cuda")
    a = torch.randn(1 << 28, device="cuda")
    c = torch.full((1 << 28,), 7.0, device="cuda")
    configs = [triton.Config({"BLOCK": block}, num_warps=4) for block in (1024, 4096)]
    kernel = autotune.triton(configs, ["n"], isolation="in_process")(gpu_accumulate)
    with pytest.warns(UserWarning, match="no memory for copies"):
        kernel[grid](a, c, 1 << 28)
    del filler
    torch.testing.assert_close(c, a + 7)
    assert all(0 < times[0] < 1e4 for times in kernel.configs_timings.values())
    assert len(kernel.configs_timings) == 2
