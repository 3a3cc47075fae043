"""Kernels of every kind, recorded in forks of this process: the record launches what Triton's own dispatcher would.

`record_call` compares grid, binary and arguments; the tests say what they must be besides.
"""

import linecache
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import autotune
from autotune.backends.triton import messages
from autotune.backends.triton_decorator.protected_arguments import protect
from tests.support import load_module

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

from autotune.backends.triton_decorator.tune_call import choose_worker  # noqa: E402
from tests.backends.triton_decorator.recorded import (  # noqa: E402
    assert_same,
    compile_here,
    fake_driver_here,
    launch_by_triton,
    record_call,
    replay,
    task_of,
)

N = 300


def configs(*blocks: int, **more: Any) -> list[Any]:
    return [triton.Config({"BLOCK": block}, num_warps=1, **more) for block in blocks]


def grid(meta: Mapping[str, Any]) -> tuple[int]:
    return (triton.cdiv(meta["n"], meta["BLOCK"]),)


def vectors(count: int = 2) -> list[Any]:
    return [torch.zeros(N) for _ in range(count)]


def tuned(kernel: Any, given: list[Any] | None = None, **more: Any) -> Any:
    return autotune.triton(given or configs(32), ["n"], **more)(kernel)


def kinds(launch: Any) -> dict[str, str]:
    return dict(launch.source.signature)


# Numbers


@triton.jit
def scaled(a, c, n, factor, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) * factor, mask=at < n)


@pytest.mark.parametrize(
    ("factor", "kind"),
    [(1, "constexpr"), (16, "i32"), (3, "i32"), (-16, "i32"), (2**31, "i64"), (2**63, "u64"), (2**64 - 1, "u64"),
     (0.5, "fp32"), (float("inf"), "fp32"), (True, "u1")],
)  # fmt: skip
def test_numbers_have_the_type_that_triton_gives_them(factor: Any, kind: str) -> None:
    a, c = vectors()
    (found,) = record_call(tuned(scaled), grid, a, c, N, factor)
    (launch,) = found.launches
    assert kinds(launch)["factor"] == kind
    assert launch.grid == (10, 1, 1)


@pytest.mark.parametrize("listed", [["factor"], [3]])
def test_do_not_specialize_is_heard_by_name_and_position(listed: list[Any]) -> None:
    kernel = tuned(triton.jit(scaled.fn, do_not_specialize=listed))
    a, c = vectors()
    hashes = set()
    for factor in (1, 2, 16):
        (found,) = record_call(kernel, grid, a, c, N, factor)
        assert kinds(found.launches[0])["factor"] == "i32"
        hashes.add(found.compiled.kernels[0].hash)
    assert len(hashes) == 1, "one binary for all values"


def test_do_not_specialize_on_alignment_is_heard() -> None:
    kernel = tuned(triton.jit(scaled.fn, do_not_specialize_on_alignment=["a", "c"]))
    hashes = set()
    for shift in (0, 1):
        a, c = (torch.zeros(N + 4)[shift : shift + N] for _ in range(2))
        (found,) = record_call(kernel, grid, a, c, N, 3)
        hashes.add(found.compiled.kernels[0].hash)
    assert len(hashes) == 1


# Optional tensors, and sequences of different lengths


@triton.jit
def biased(a, bias, c, n, scale=2.0, BLOCK: tl.constexpr = 32):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(a + at, mask=at < n) * scale
    if bias is not None:
        value += tl.load(bias + at, mask=at < n)
    tl.store(c + at, value, mask=at < n)


def test_an_optional_tensor_is_none_or_given_and_defaults_are_filled_in() -> None:
    a, c, bias = vectors(3)
    kernel = tuned(biased)
    (without,) = record_call(kernel, grid, a, None, c, N)
    (given,) = record_call(kernel, grid, a, bias, c, N, scale=3.0)
    assert kinds(without.launches[0])["bias"] == "constexpr"
    assert without.launches[0].arguments[1] is None
    assert given.launches[0].arguments[1] is bias
    assert [one.launches[0].arguments[4] for one in (without, given)] == [2.0, 3.0]
    assert without.compiled.kernels[0].hash != given.compiled.kernels[0].hash


@triton.jit
def per_sequence(x, out, cu_seqlens, n, IS_VARLEN: tl.constexpr, BLOCK: tl.constexpr):
    sequence, block = tl.program_id(1), tl.program_id(0)
    if IS_VARLEN:
        begin = tl.load(cu_seqlens + sequence).to(tl.int64)
        end = tl.load(cu_seqlens + sequence + 1).to(tl.int64)
    else:
        begin = (sequence * n).to(tl.int64)
        end = begin + n
    at = begin + block * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < end) * 2, mask=at < end)


varlen = triton.heuristics({"IS_VARLEN": lambda args: args["cu_seqlens"] is not None})(per_sequence)


@pytest.mark.parametrize("lengths", [None, (100, 30, 170)])
@pytest.mark.parametrize("reads", [False, True])
def test_sequences_of_different_lengths(lengths: tuple[int, ...] | None, reads: bool) -> None:
    """The grid may read the lengths where they are in the memory of the host."""
    x, out = vectors()
    ends = None if lengths is None else torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)

    def by_length(meta: Mapping[str, Any]) -> tuple[int, int]:
        if lengths is None or ends is None:
            return triton.cdiv(meta["n"], meta["BLOCK"]), 1
        longest = int(ends.diff().max()) if reads else max(lengths)
        return triton.cdiv(longest, meta["BLOCK"]), len(ends) - 1

    found = record_call(tuned(varlen, configs(32, 64)), by_length, x, out, ends, N)
    blocks = [(10, 1), (5, 1)] if lengths is None else [(6, 3), (3, 3)]
    assert [one.launches[0].grid[:2] for one in found] == blocks
    assert all(one.launches[0].arguments[2] is ends for one in found)


def test_a_grid_that_needs_the_gpu_is_told_from_a_config_that_does_not_compile() -> None:
    def needs_gpu(meta: Mapping[str, Any]) -> tuple[int]:
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")

    kernel = tuned(scaled)
    task = task_of(kernel, needs_gpu, *vectors(), N, 2)
    (reply,) = compile_here(task.launcher(task.named), task.launcher_arguments(task.named), task.candidates.configs)
    assert isinstance(reply, messages.NotCompiled)
    assert not reply.compiler
    assert "Cannot re-initialize CUDA" in reply.message


# Heuristics, hooks, pruning


@triton.jit
def evened(a, c, n, EVEN: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(a + at) if EVEN else tl.load(a + at, mask=at < n)
    tl.store(c + at, value * HALF, mask=at < n)


def test_heuristics_below_see_the_config_and_one_another() -> None:
    below = triton.heuristics({"EVEN": lambda args: args["n"] % args["BLOCK"] == 0})(evened)
    below = triton.heuristics({"HALF": lambda args: args["BLOCK"] // 2})(below)
    a, c = torch.zeros(96), torch.zeros(96)
    found = record_call(tuned(below, configs(32, 64)), grid, a, c, 96)
    assert [one.by_triton[0].source.constants[(3,)] for one in found] == [True, False]
    assert [one.by_triton[0].source.constants[(4,)] for one in found] == [16, 32]


def test_heuristics_above_are_arguments_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = tuned(evened, configs(32, 64))
    calls: list[tuple[Any, Any]] = []
    monkeypatch.setattr(kernel, "run", lambda *args, **kwargs: calls.append((args, kwargs)))
    above = triton.heuristics({"EVEN": lambda args: args["n"] % 2 == 0, "HALF": lambda args: 1})(kernel)
    a, c = vectors()
    above[grid](a, c, N)
    ((args, kwargs),) = calls
    kwargs = {name: value for name, value in kwargs.items() if name not in ("grid", "warmup")}
    assert kwargs == {"EVEN": True, "HALF": 1}
    found = record_call(kernel, grid, *args, **kwargs)
    assert [one.by_triton[0].source.constants[(3,)] for one in found] == [True, True]


def test_the_hook_of_a_config_is_called_in_the_fork_and_changes_nothing_here() -> None:
    """It may set the shape of a block, without which the kernel does not compile; the launch is the program's own."""
    descriptors = pytest.importorskip("triton.tools.tensor_descriptor")

    @triton.jit
    def copied(source, target, n, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK
        target.store([at], source.load([at]))

    def shape(named: dict[str, Any]) -> None:
        for name in ("source", "target"):
            named[name].block_shape = [named["BLOCK"]]

    source, target = (descriptors.TensorDescriptor(torch.zeros(256), [256], [1], [1]) for _ in range(2))
    given = [triton.Config({"BLOCK": block}, num_warps=1, pre_hook=shape) for block in (32, 64)]
    kernel = tuned(copied, given)
    task = task_of(kernel, grid, source, target, 256)
    assert choose_worker(task) == "here"
    points = task.candidates.configs or ()
    replies = compile_here(task.launcher(task.named), task.launcher_arguments(task.named), points)
    assert source.block_shape == [1], "the fork has a copy"
    for point, reply in zip(points, replies, strict=True):
        assert isinstance(reply, messages.Compiled), reply
        assert reply.launches == (), "a descriptor is neither a tensor nor a number"
        values = task.candidates.values(point)
        shape({"source": source, "target": target, **values})
        (expected,) = launch_by_triton(copied, grid, source, target, 256, **values)
        assert expected.metadata.hash == reply.kernels[0].hash


def early(given: list[Any], named: dict[str, Any], **rest: Any) -> list[Any]:
    return [one for one in given if one.kwargs["BLOCK"] != 64 and named["n"] == N and rest["factor"] == 2]


def model(n: int, BLOCK: int, num_warps: int, **rest: Any) -> float:
    assert (n, num_warps) == (N, 1)
    return abs(BLOCK - 100)


PRUNING: dict[str, dict[str, Any]] = {
    "early": {"early_config_prune": early},
    "count": {"perf_model": model, "top_k": 2},
    "share": {"perf_model": model, "top_k": 0.5},
    "all": {"perf_model": model, "top_k": 1.0},
    "both": {"early_config_prune": early, "perf_model": model, "top_k": 1},
    "neither": {},
}


@pytest.mark.parametrize("form", PRUNING)
def test_what_pruning_leaves_is_compiled_and_nothing_else(form: str) -> None:
    given, (a, c) = configs(16, 32, 64, 128), vectors()
    theirs = triton.autotune(given, ["n"], prune_configs_by=PRUNING[form])(scaled)
    theirs.nargs = dict(zip(theirs.arg_names, (a, c, N), strict=False))
    wanted = [one.kwargs["BLOCK"] for one in theirs.prune_configs({"factor": 2, "grid": grid, "warmup": False})]
    kernel = tuned(scaled, given, prune_configs_by=PRUNING[form])
    found = record_call(kernel, grid, a, c, N, factor=2)
    assert [one.values["BLOCK"] for one in found] == wanted
    assert [one.launches[0].grid[0] for one in found] == [triton.cdiv(N, block) for block in wanted]


# Aliases


@triton.jit
def shifted(a, c, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) + 1, mask=at < n)


@pytest.mark.parametrize("overlap", ["same", "equal", "shifted"])
def test_tensors_that_share_memory_share_it_in_the_launch(overlap: str) -> None:
    x = torch.arange(float(N + 4))
    a = x[:N]
    c = {"same": a, "equal": x[:N], "shifted": x[4:]}[overlap]
    kernel = tuned(shifted)
    record_call(kernel, grid, a, c, N)
    task = task_of(kernel, grid, a, c, N)
    with protect(task.named, task.written) as named:
        arguments = task.launcher_arguments(named)
        (reply,) = compile_here(task.launcher(named), arguments, task.candidates.configs)
        (launch,) = replay(task.candidates.configs[0], reply, arguments)
        copied_a, copied_c = launch.arguments[:2]
        assert copied_c.data_ptr() - copied_a.data_ptr() == c.data_ptr() - a.data_ptr()
        assert copied_c.data_ptr() != c.data_ptr(), "the kernel writes to a copy"
        assert copied_a.data_ptr() % 16 == a.data_ptr() % 16
        copied_c.zero_()
        assert bool((copied_a[4:] == 0).all()), "what is written through one is read through the other"
    assert torch.equal(x, torch.arange(float(N + 4)))


# Kernels that other kernels call


@triton.jit
def twice(x):
    return x * 2


@triton.jit(noinline=True)
def thrice(x):
    return x * 3


@triton.jit
def squared(x):
    return twice(x) * x


module = ModuleType("library_of_kernels")
module.twice = twice  # type: ignore[attr-defined]


@triton.jit
def calling(a, c, n, operation: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = operation(tl.load(a + at, mask=at < n)) + thrice(n)
    tl.store(c + at, module.twice(value), mask=at < n)


def test_kernels_call_kernels_by_name_by_module_and_as_constants() -> None:
    a, c = vectors()
    kernel = tuned(calling)
    hashes = set()
    for operation in (twice, squared):
        (found,) = record_call(kernel, grid, a, c, N, operation)
        hashes.add(found.compiled.kernels[0].hash)
    assert len(hashes) == 2


@pytest.mark.parametrize("constant", [tl.float16, "relu", None, 3])
def test_constants_may_be_anything(constant: Any) -> None:
    @triton.jit
    def cast(a, c, n, KIND: tl.constexpr, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        value = tl.load(a + at, mask=at < n)
        if KIND == "relu":
            value = tl.maximum(value, 0)
        tl.store(c + at, value, mask=at < n)

    a, c = vectors()
    record_call(tuned(cast), grid, a, c, N, KIND=constant)


def test_a_tuple_may_be_a_constant() -> None:
    @triton.jit
    def chosen(a, c, n, FACTORS: tl.constexpr, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(c + at, tl.load(a + at, mask=at < n) * FACTORS[1], mask=at < n)

    a, c = vectors()
    kernel = tuned(chosen, isolation="process")
    assert choose_worker(task_of(kernel, grid, a, c, N, FACTORS=(2, 3))) == "process"
    record_call(kernel, grid, a, c, N, FACTORS=(2, 3))


def test_a_tuple_at_run_time_cannot_be_recorded_and_is_compiled_all_the_same() -> None:
    @triton.jit
    def weighted(a, c, n, factors, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(c + at, tl.load(a + at, mask=at < n) * factors[0] + factors[1], mask=at < n)

    task = task_of(tuned(weighted, isolation="process"), grid, *vectors(), N, (2, 3))
    assert choose_worker(task) == "here"
    points = task.candidates.configs or ()
    (reply,) = compile_here(task.launcher(task.named), task.launcher_arguments(task.named), points)
    assert isinstance(reply, messages.Compiled), reply
    assert reply.launches == ()


# Names, grids and options


def test_a_kernel_may_have_a_name_for_people_and_metadata_of_its_launch() -> None:
    named = {"repr": lambda _: "x" * 200, "launch_metadata": lambda grid, kernel, args: {"name": "a launch"}}
    a, c = vectors()
    record_call(tuned(triton.jit(scaled.fn, **named)), grid, a, c, N, 3)


def test_parameters_may_have_the_names_of_a_launch() -> None:
    @triton.jit
    def odd(a, stream, n, warmup, device, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(stream + at, tl.load(a + at, mask=at < n) + warmup + device, mask=at < n)

    a, c = vectors()
    (found,) = record_call(tuned(odd), grid, a, c, N, 3, 4)
    assert found.launches[0].arguments[1] is c
    assert found.launches[0].arguments[2:5] == (N, 3, 4)


@pytest.mark.parametrize("shape", [(5,), (5, 2), (5, 2, 3), [5, 2]])
def test_grids_have_one_to_three_sides(shape: Any) -> None:
    a, c = vectors()
    for given in (shape, lambda meta: shape):
        (found,) = record_call(tuned(scaled), given, a, c, N, 3)
        assert found.launches[0].grid == (*shape, 1, 1)[:3]


def test_options_of_the_config_and_of_the_call_reach_the_binary() -> None:
    given = [triton.Config({"BLOCK": 128}, num_warps=warps, num_stages=stages, maxnreg=64)
             for warps, stages in ((1, 2), (4, 3))]  # fmt: skip
    a, c = vectors()
    found = record_call(tuned(scaled, given), grid, a, c, N, 3, enable_fp_fusion=False)
    metadata = [one.launches[0].metadata for one in found]
    assert [(one.num_warps, one.num_stages, one.maxnreg) for one in metadata] == [(1, 2, 64), (4, 3, 64)]
    assert not any(one.enable_fp_fusion for one in metadata)


# Programs whose modules no other process could import


NOTEBOOK = """
FACTOR = tl.constexpr(3)

@triton.jit
def in_cell(a, c, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) * FACTOR, mask=at < n)
"""


def test_a_kernel_of_a_notebook_or_of_main() -> None:
    path = "<ipython-input-1-autotune>"
    linecache.cache[path] = (len(NOTEBOOK), None, NOTEBOOK.splitlines(keepends=True), path)
    scope: dict[str, Any] = {"__name__": "__main__", "tl": tl, "triton": triton}
    exec(compile(NOTEBOOK, path, "exec"), scope)
    a, c = vectors()
    record_call(tuned(scope["in_cell"], configs(32, 64)), grid, a, c, N)


ONCE = """
import sys
import triton
import triton.language as tl

if hasattr(sys, "_autotune_imported_once"):
    raise RuntimeError("No CUDA GPUs are available")
sys._autotune_imported_once = True
SMS = 132

@triton.jit
def persistent(a, c, n, BLOCK: tl.constexpr):
    for block in range(tl.program_id(0), tl.cdiv(n, BLOCK), tl.num_programs(0)):
        at = block * BLOCK + tl.arange(0, BLOCK)
        tl.store(c + at, tl.load(a + at, mask=at < n), mask=at < n)

def grid(meta):
    return (min(SMS, triton.cdiv(meta["n"], meta["BLOCK"])),)
"""


def test_a_module_that_cannot_be_imported_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "imported_once.py"
    path.write_text(ONCE)
    monkeypatch.setattr(sys, "_autotune_imported_once", True, raising=False)
    monkeypatch.delattr(sys, "_autotune_imported_once")
    loaded = load_module(path)
    with pytest.raises(RuntimeError, match="No CUDA GPUs"):
        load_module(path)
    path.unlink()
    a, c = vectors()
    record_call(tuned(loaded.persistent, configs(32, 64)), loaded.grid, a, c, N)


def test_a_factory_of_kernels_and_an_object_that_makes_the_grid() -> None:
    class Layer:
        """Nothing of it pickles."""

        def __init__(self, factor: int) -> None:
            self.lock = (one for one in ())
            constant = tl.constexpr(factor)

            @triton.jit
            def kernel(a, c, n, BLOCK: tl.constexpr):
                at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
                tl.store(c + at, tl.load(a + at, mask=at < n) * constant, mask=at < n)

            self.kernel = tuned(kernel)

        def grid(self, meta: Mapping[str, Any]) -> tuple[int]:
            return grid(meta)

    a, c = vectors()
    hashes = set()
    for factor in (2, 3):
        layer = Layer(factor)
        (found,) = record_call(layer.kernel, layer.grid, a, c, N)
        hashes.add(found.compiled.kernels[0].hash)
    assert len(hashes) == 2


def test_a_difference_between_launches_is_found() -> None:
    """The comparison itself: another grid, another binary, another tensor, another number."""
    a, c = vectors()
    (one,) = launch_by_triton(scaled, (1,), a, c, N, 3, BLOCK=32)
    for other in (
        launch_by_triton(scaled, (2,), a, c, N, 3, BLOCK=32),
        launch_by_triton(scaled, (1,), a, c, N, 3, BLOCK=64),
        launch_by_triton(scaled, (1,), a, c.clone(), N, 3, BLOCK=32),
        launch_by_triton(scaled, (1,), a, c, N, 5, BLOCK=32),
    ):
        with pytest.raises(AssertionError):
            assert_same([one], other)
    with fake_driver_here():
        assert_same([one], [one])
