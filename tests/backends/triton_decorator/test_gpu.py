"""`autotune.triton` on a real GPU: run with `pytest -m gpu` on a machine that has one."""

import gc
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
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
    with torch.cuda.graph(torch.cuda.CUDAGraph()):  # it is said once: a warning would be an error here
        kernel[grid](a, b, c, N)
    assert kernel.best_config.kwargs == {"BLOCK": 256}, "the first one"
    assert kernel.configs_timings == {}
    kernel[grid](a, b, c, N)
    known = kernel.best_config
    assert len(kernel.configs_timings) == 2
    c.zero_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kernel[grid](a, b, c, N)
    assert kernel.best_config is known
    torch.cuda.synchronize()
    assert torch.equal(c, torch.zeros_like(c)), "nothing ran while the graph was captured"
    a.add_(1)
    graph.replay()
    assert torch.equal(c, a + b)


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


# Kernels of every kind, in the program's GPU process: with isolation="process" no tuning falls back to this one


def configs(*blocks: int, **more: Any) -> list[Any]:
    return [triton.Config({"BLOCK": block}, num_warps=4, **more) for block in blocks or (256, 1024)]


def isolated(kernel: Any, **more: Any) -> Any:
    return autotune.triton(configs(), ["n"], isolation="process", **more)(kernel)


def all_ran(kernel: Any, count: int = 2) -> bool:
    """Whether so many configs were timed for the key that was resolved last."""
    times = [times[0] for times in kernel.configs_timings.values()]
    return len(times) == count and all(0 < time < 1e3 for time in times)


@triton.jit(do_not_specialize=["shift"])
def gpu_shift(a, bias, c, n, shift, scale=2.0, BLOCK: tl.constexpr = 256):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(a + at, mask=at < n) * scale + shift
    if bias is not None:
        value += tl.load(bias + at, mask=at < n)
    tl.store(c + at, value, mask=at < n)


@pytest.mark.parametrize("shift", [1, 16, 3, -5])
def test_numbers_without_specialisation_defaults_and_tensors_that_are_none(shift: int) -> None:
    kernel = isolated(gpu_shift)
    a, b, c = vectors()
    for bias in (None, b):
        kernel[grid](a, bias, c, N, shift)
        torch.testing.assert_close(c, a * 2 + shift + (0 if bias is None else bias))
        assert all_ran(kernel)
    assert len(kernel.cache) == 2


@triton.jit
def gpu_fill(c, n, seed, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, seed, mask=at < n)


@pytest.mark.parametrize("seed", [1, 2**31 + 5, 2**63 + 9])
def test_whole_numbers_of_any_width(seed: int) -> None:
    kernel = isolated(gpu_fill)
    c = torch.zeros(N, dtype=torch.int64, device="cuda")
    kernel[grid](c, N, seed)
    assert torch.equal(c, torch.full_like(c, seed - 2**64 if seed >= 2**63 else seed))
    assert all_ran(kernel)


@triton.jit
def gpu_per_sequence(x, out, cu_seqlens, n, IS_VARLEN: tl.constexpr, BLOCK: tl.constexpr):
    block, sequence = tl.program_id(0), tl.program_id(1)
    begin, end = 0, n
    if IS_VARLEN:
        begin = tl.load(cu_seqlens + sequence)
        end = tl.load(cu_seqlens + sequence + 1)
    at = begin + block * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < end) * (sequence + 1), mask=at < end)


gpu_varlen = triton.heuristics({"IS_VARLEN": lambda args: args["cu_seqlens"] is not None})(gpu_per_sequence)


def lengths() -> tuple[Any, Any]:
    """The ends of three sequences, and by which factor each element is multiplied."""
    each = torch.tensor([N // 2, N // 8, N - N // 2 - N // 8], device="cuda")
    ends = torch.nn.functional.pad(each.cumsum(0), (1, 0)).to(torch.int32)
    return ends, torch.arange(1, 4, device="cuda").repeat_interleave(each)


def test_sequences_of_different_lengths() -> None:
    kernel = isolated(gpu_varlen)
    x, _, out = vectors()
    ends, factors = lengths()
    kernel[lambda meta: (triton.cdiv(N // 2, meta["BLOCK"]), 3)](x, out, ends, N)
    torch.testing.assert_close(out, x * factors)
    assert all_ran(kernel)
    kernel[lambda meta: (triton.cdiv(N, meta["BLOCK"]), 1)](x, out, None, N)
    assert torch.equal(out, x)
    assert len(kernel.cache) == 2


def test_a_grid_that_reads_the_gpu_is_tuned_in_this_process_and_that_is_said() -> None:
    kernel = autotune.triton(configs(), ["n"])(gpu_varlen)
    x, _, out = vectors()
    ends, factors = lengths()
    with pytest.warns(UserWarning, match="cannot be tuned in a process of its own"):
        kernel[lambda meta: (triton.cdiv(int(ends.diff().max()), meta["BLOCK"]), 3)](x, out, ends, N)
    torch.testing.assert_close(out, x * factors)
    assert all_ran(kernel)


@triton.jit
def gpu_increment(a, c, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) + 1, mask=at < n)


@pytest.mark.parametrize("same", [True, False])
def test_tensors_that_share_memory_are_as_after_one_call(same: bool) -> None:
    kernel = isolated(gpu_increment)
    x, before = torch.zeros(N, device="cuda"), torch.zeros(N, device="cuda")
    kernel[grid](x, x if same else x.view(N), N)
    assert torch.equal(x, before + 1)
    assert all_ran(kernel)


@triton.jit
def gpu_twice(x):
    return x * 2


@triton.jit
def gpu_squared(x):
    return gpu_twice(x) * x


@triton.jit
def gpu_calling(a, c, n, operation: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, gpu_twice(operation(tl.load(a + at, mask=at < n))), mask=at < n)


def test_kernels_that_call_kernels() -> None:
    kernel = isolated(gpu_calling)
    a, _, c = vectors()
    for operation, wanted in ((gpu_twice, a * 4), (gpu_squared, a * a * 4)):
        kernel[grid](a, c, N, operation)
        torch.testing.assert_close(c, wanted)
        assert all_ran(kernel)


def test_kernels_of_closures_over_tensors_on_the_gpu() -> None:
    """The closure of the grid holds a tensor that no other process could have."""
    factor, held = tl.constexpr(3), torch.ones(4, device="cuda")

    @triton.jit
    def local(a, c, n, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(c + at, tl.load(a + at, mask=at < n) * factor, mask=at < n)

    kernel = isolated(local)
    a, _, c = vectors()
    kernel[lambda meta: (triton.cdiv(N, meta["BLOCK"]) * (held.numel() // 4),)](a, c, N)
    torch.testing.assert_close(c, a * 3)
    assert all_ran(kernel)


def test_heuristics_above_the_decorator() -> None:
    inner = isolated(gpu_cast)
    kernel = triton.heuristics({"EVEN": lambda args: False, "KIND": lambda args: tl.float32})(inner)
    a, _, c = vectors()
    kernel[grid](a, c, N)
    assert torch.equal(c, a)
    assert all_ran(inner)


def test_pruning_is_that_of_triton() -> None:
    def early(given: list[Any], named: dict[str, Any], **rest: Any) -> list[Any]:
        return [one for one in given if one.kwargs["BLOCK"] * 2 <= named["n"]]

    def model(BLOCK: int, **rest: Any) -> float:
        return abs(BLOCK - 1500)

    given = configs(256, 1024, 2048, N)
    for prune, blocks in (
        ({"early_config_prune": early}, {256, 1024, 2048}),
        ({"early_config_prune": early, "perf_model": model, "top_k": 2}, {1024, 2048}),
        ({"early_config_prune": early, "perf_model": model, "top_k": 0.7}, {1024, 2048}),
    ):
        kernel = autotune.triton(given, ["n"], prune, isolation="process", cache_results=False)(gpu_add)
        a, b, c = vectors()
        kernel[grid](a, b, c, N)
        assert torch.equal(c, a + b)
        assert {one.kwargs["BLOCK"] for one in kernel.configs_timings} == blocks


def test_the_hooks_of_configs_may_use_the_gpu() -> None:
    """They cannot run where configs are compiled, which is in forks of this process."""
    seen: list[int] = []

    def clear(named: dict[str, Any]) -> None:
        seen.append(named["BLOCK"])
        named["c"].zero_()

    kernel = autotune.triton(configs(256, 1024, pre_hook=clear), ["n"])(gpu_accumulate)
    a, _, c = vectors()
    for _ in range(2):
        kernel[grid](a, c, N)
        torch.testing.assert_close(c, a)
    assert all_ran(kernel)
    assert {256, 1024} == {*seen}
    assert seen[-2:] == [kernel.best_config.kwargs["BLOCK"]] * 2


def test_hooks_of_the_decorator_are_called_around_every_run() -> None:
    calls: list[str] = []

    def before(named: dict[str, Any], reset_only: bool = False) -> None:
        if not reset_only:
            calls.append("before")
            named["c"].zero_()

    def after(named: dict[str, Any], exception: Exception | None) -> None:
        assert exception is None
        calls.append("after")

    kernel = autotune.triton(configs(), ["n"], pre_hook=before, post_hook=after)(gpu_accumulate)
    a, _, c = vectors()
    kernel[grid](a, c, N)
    torch.testing.assert_close(c, a + 7)
    assert all_ran(kernel)
    assert calls == ["before", "after"] * (len(calls) // 2)


# Streams, threads, devices


def test_a_launch_goes_to_the_stream_of_the_call() -> None:
    """Also the first one, whose tensors are being made on that stream."""
    kernel = autotune.triton(configs(), ["n"])(gpu_add)
    a, b, c = vectors()
    torch.cuda.synchronize()
    for stream in (torch.cuda.Stream(), torch.cuda.Stream()):
        for _ in range(2):
            with torch.cuda.stream(stream):
                torch.cuda._sleep(50_000_000)  # cycles: some 30 ms
                a.uniform_()
                kernel[grid](a, b, c, N)
                total = c.sum(dtype=torch.float64)
            stream.synchronize()
            assert torch.equal(c, a + b)
            assert float(total) == float((a + b).sum(dtype=torch.float64))
    assert len(kernel.cache) == 1


def test_threads_tune_different_keys_on_their_own_streams() -> None:
    kernel = autotune.triton(configs(), ["n"])(gpu_add)
    errors: list[BaseException] = []

    def tune(n: int) -> None:
        try:
            with torch.cuda.stream(torch.cuda.Stream()):
                a, b, c = (torch.rand(n, device="cuda") for _ in range(3))
                for _ in range(3):
                    kernel[grid](a, b, c, n)
                torch.cuda.current_stream().synchronize()
                assert torch.equal(c, a + b)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=tune, args=(n,)) for n in (N, N // 2, N // 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(kernel.cache) == 3


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
@pytest.mark.parametrize("isolation", ["process", None, "in_process"])
def test_each_gpu_of_the_program_has_keys_of_its_own(isolation: Any) -> None:
    kernel = autotune.triton(configs(), ["n"], isolation=isolation)(gpu_accumulate)
    for number in (0, 1, 0, 1):
        with torch.cuda.device(number):
            a, c = torch.randn(N, device="cuda"), torch.full((N,), 7.0, device="cuda")
            assert a.get_device() == number
            kernel[grid](a, c, N)
            torch.testing.assert_close(c, a + 7)
            assert all_ran(kernel)
    assert len(kernel.cache) == 2
    assert torch.cuda.current_device() == 0


# torch.compile


@pytest.fixture
def compiled() -> Iterator[Callable[..., Any]]:
    """`torch.compile`, whose own warnings are no errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*(cannot be tuned|is not tuned).*")
        yield torch.compile
    torch._dynamo.reset()


@pytest.mark.parametrize("backend", ["eager", "inductor"])
@pytest.mark.parametrize("known", [True, False])
def test_under_torch_compile_it_is_tuned_and_launched(compiled: Any, backend: str, known: bool) -> None:
    kernel = isolated(gpu_add)
    a, b, c = vectors()
    if known:
        kernel[grid](a * 2, b, c, N)

    def function(x: Any, y: Any) -> Any:
        out = torch.empty_like(x)
        kernel[grid](x * 2, y, out, N)
        return out.relu() + 1

    torch._dynamo.utils.counters["graph_break"].clear()
    fast = compiled(function, backend=backend)
    for _ in range(3):
        torch.testing.assert_close(fast(a, b), (a * 2 + b).relu() + 1)
    assert all_ran(kernel)
    assert len(kernel.cache) == 1
    assert sum(torch._dynamo.utils.counters["graph_break"].values()) == 1


def test_a_function_of_autograd_is_tuned_in_its_backward_pass() -> None:
    kernel = isolated(gpu_shift)

    class Doubled(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(context: Any, x: Any) -> Any:
            out = torch.empty_like(x)
            kernel[grid](x, None, out, x.numel(), 0)
            return out

        @staticmethod
        def backward(context: Any, gradient: Any) -> Any:
            out = torch.empty_like(gradient)
            kernel[grid](gradient.contiguous(), None, out, gradient.numel() - 16, 0)
            out[-16:] = 0
            return out

    x = torch.randn(N, device="cuda", requires_grad=True)
    Doubled.apply(x).sum().backward()
    torch.testing.assert_close(x.grad[:-16], torch.full_like(x[:-16], 2.0))
    assert len(kernel.cache) == 2, "the backward pass runs in a thread of torch's"
