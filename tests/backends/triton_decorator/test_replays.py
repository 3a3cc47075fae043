"""Calls on a made-up GPU of NVIDIA, which are tuned from records: in the program's GPU process, or in this one.

The GPU process is a fork of this one with the same made-up GPU. The memory that it borrows is some of its own: nothing
is launched that would read it.
"""

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import autotune
from autotune import EvaluatorError
from autotune.backends.triton import device_memory, gpu_service, timing

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

from autotune.backends.triton import compile_worker  # noqa: E402
from autotune.backends.triton.gpu_service import GpuService  # noqa: E402
from autotune.backends.triton.gpu_worker import _LentWorker  # noqa: E402
from autotune.backends.triton.timing import CudaDevice  # noqa: E402
from autotune.backends.triton_decorator import call_evaluator, tune_call  # noqa: E402
from tests.backends.triton.gpu_workers import Server  # noqa: E402
from tests.backends.triton_decorator.made_up_gpu import COST_MS, MadeUpGpu, N, Placement, in_place  # noqa: E402
from tests.backends.triton_decorator.test_recorded_launches import (  # noqa: E402
    biased,
    calling,
    evened,
    grid,
    scaled,
    shifted,
    squared,
    varlen,
)

H100 = SimpleNamespace(name="NVIDIA H100", major=9, minor=0, multi_processor_count=132, L2_cache_size=0)


class LentGpu:
    """The obedience of the program's GPU process, which has the made-up GPU of the test."""

    def __init__(self) -> None:
        self._worker: Any = None

    def __call__(self, order: Any) -> Any:
        self._worker = self._worker or _LentWorker(CudaDevice("0"))
        return self._worker.obey(order)


class Program:
    """The made-up GPU, and the server of the processes on it."""

    def __init__(self, gpu: MadeUpGpu, server: Server) -> None:
        self.gpu, self.server = gpu, server

    def tensor(self, values: Any) -> Any:
        return values.as_subclass(self.gpu.tensors)

    def vectors(self) -> tuple[Any, Any, Any]:
        return self.gpu.vectors()


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Program]:
    gpu, server, service = MadeUpGpu("cuda", "sm_90"), Server(LentGpu()), GpuService()

    def bytes_at(address: int, size: int, device: Any) -> Any:
        return torch.zeros(size, dtype=torch.uint8).as_subclass(gpu.tensors)

    monkeypatch.setattr(device_memory, "_handle_of", lambda address: (address, address.to_bytes(64, "little")))
    monkeypatch.setattr(device_memory, "_call", lambda action, *args: None)
    monkeypatch.setattr(device_memory.BorrowedMemory, "_open", lambda _, handle: int.from_bytes(handle, "little"))
    monkeypatch.setattr(device_memory, "_as_bytes", bytes_at)
    monkeypatch.setattr(gpu_service, "service", service)
    monkeypatch.setattr(gpu_service, "_start_server", lambda: server)
    monkeypatch.setattr(timing, "_LEAST_FLUSH_BYTES", 1 << 10)
    monkeypatch.setattr(tune_call, "_forks_fail", threading.Event())
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with in_place(gpu, lambda device=None: H100, monkeypatch, tmp_path):
        yield Program(gpu, server)
        service.close()
        for kernel in (biased, calling, evened, scaled, shifted, varlen.fn):
            kernel.device_caches.clear()  # kernels keep the driver that they were compiled for


@pytest.fixture(autouse=True)
def _no_fall_back() -> Iterator[None]:
    """A tuning that had to be done by the launches of the kernel itself warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message="TRITON_DEFAULT_FP_FUSION")
        yield


def tuned(kernel: Any, **more: Any) -> Any:
    """It is fastest with two warps."""
    configs = [triton.Config({"BLOCK": 128}, num_warps=warps) for warps in COST_MS]
    return autotune.triton(configs, ["n"], **more)(kernel)


def times(kernel: Any) -> dict[int, float]:
    return {config.num_warps: found[0] for config, found in kernel.configs_timings.items()}


@pytest.fixture
def isolation(request: pytest.FixtureRequest, program: Program) -> str | None:
    """The GPU process is asked for, or is not ready in time."""
    program.server.ready = request.param == "process"
    return "process" if program.server.ready else None


def none_given(program: Program) -> tuple[Any, Any, tuple[Any, ...]]:
    a, _, c = program.vectors()
    return biased, grid, (a, None, c, N)


def of_any_width(program: Program) -> tuple[Any, Any, tuple[Any, ...]]:
    a, _, c = program.vectors()
    return triton.jit(scaled.fn, do_not_specialize=["factor"]), grid, (a, c, N, 2**63)


def of_different_lengths(program: Program) -> tuple[Any, Any, tuple[Any, ...]]:
    a, _, c = program.vectors()
    ends = program.tensor(torch.tensor([0, 100, N], dtype=torch.int32))
    return varlen, lambda meta: (triton.cdiv(N, meta["BLOCK"]), 2), (a, c, ends, N)


def with_heuristics(program: Program) -> tuple[Any, Any, tuple[Any, ...]]:
    a, _, c = program.vectors()
    below = triton.heuristics({"EVEN": lambda args: False, "HALF": lambda args: args["BLOCK"] // 2})(evened)
    return below, grid, (a, c, N)


def in_place_of_itself(program: Program) -> tuple[Any, Any, tuple[Any, ...]]:
    a, _, _ = program.vectors()
    return shifted, grid, (a, a, N)


def with_kernels_inside(program: Program) -> tuple[Any, Any, tuple[Any, ...]]:
    a, _, c = program.vectors()
    return calling, grid, (a, c, N, squared)


def of_a_closure(program: Program) -> tuple[Any, Any, tuple[Any, ...]]:
    a, b, c = program.vectors()
    factor = tl.constexpr(3)

    @triton.jit
    def local(a, c, n, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(c + at, tl.load(a + at, mask=at < n) * factor, mask=at < n)

    return local, lambda meta: (triton.cdiv(b.numel(), meta["BLOCK"]),), (a, c, N)


CASES = [
    none_given, of_any_width, of_different_lengths, with_heuristics, in_place_of_itself, with_kernels_inside,
    of_a_closure,
]  # fmt: skip
PLACES = [(case, "process") for case in CASES] + [(case, "this process") for case in CASES[2:6:2]]


@pytest.mark.parametrize(("case", "isolation"), PLACES, indirect=["isolation"])
def test_it_is_tuned_and_launched_as_triton_launches_it(
    case: Callable[[Program], tuple[Any, Any, tuple[Any, ...]]], program: Program, isolation: Any
) -> None:
    fn, shape, arguments = case(program)
    before = [one.clone() if isinstance(one, torch.Tensor) else one for one in arguments]
    kernel = tuned(fn, isolation=isolation)
    kernel[shape](*arguments)
    assert times(kernel) == COST_MS
    assert kernel.best_config.num_warps == 2
    launches = program.gpu.driver.launches
    if isolation == "process":
        assert len(launches) == 1, "the program launches its own call alone"
    else:
        assert {one.metadata.num_warps for one in launches} == {*COST_MS}
    *replayed, own = launches
    for one in replayed:
        if one.metadata.num_warps == 2:
            assert one.metadata.hash == own.metadata.hash
        assert tuple(map(int, one.grid)) == tuple(map(int, own.grid))
    given = [value for value in own.arguments if isinstance(value, torch.Tensor)]
    wanted = [value for value in arguments if isinstance(value, torch.Tensor)]
    assert all(one is other for one, other in zip(given, wanted, strict=True))
    for one, other in zip(arguments, before, strict=True):
        assert one is other or (torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other)
    count = program.gpu.launches
    kernel[shape](*arguments)
    assert program.gpu.launches == count + 1


def test_the_process_serves_all_kernels_and_keys(program: Program) -> None:
    for fn in (scaled, triton.jit(scaled.fn)):
        kernel = tuned(fn, isolation="process", cache_results=False)
        a, _, c = program.vectors()
        for n in (N, N // 2):
            kernel[grid](a, c, n, 3)
            assert times(kernel) == COST_MS
    assert program.server.started == 1
    assert program.gpu.launches == 4


def test_a_list_waits_for_no_process(program: Program) -> None:
    program.server.ready = False
    a, _, c = program.vectors()
    kernel = tuned(scaled)
    kernel[grid](a, c, N, 3)
    assert program.server.started == 0
    program.server.ready = True
    later = tuned(triton.jit(scaled.fn), cache_results=False)
    later[grid](a, c, N, 3)
    assert times(later) == COST_MS, "the process is asked to start, and used once it has"
    assert program.server.started == 1


def test_a_tuned_key_is_captured_and_one_that_is_not_runs_with_the_first_config(program: Program) -> None:
    kernel = tuned(scaled, isolation="process")
    a, _, c = program.vectors()
    kernel[grid](a, c, N, 3)
    program.gpu.capturing = True
    kernel[grid](a, c, N, 3)
    assert program.gpu.driver.launches[-1].metadata.num_warps == 2
    with pytest.warns(UserWarning, match=r"not tuned .*a CUDA graph is being captured.* first config"):
        kernel[grid](a, c, N // 2, 3)
    assert program.gpu.driver.launches[-1].metadata.num_warps == 1
    kernel[grid](a, c, N // 2, 3)  # it is said once
    program.gpu.capturing = False
    count = program.gpu.launches
    kernel[grid](a, c, N // 2, 3)
    assert program.gpu.launches == count + 1
    assert program.gpu.driver.launches[-1].metadata.num_warps == 2


def test_the_hook_of_a_config_may_use_the_gpu_which_a_fork_cannot(program: Program) -> None:
    own, seen = os.getpid(), []

    def clear(named: dict[str, Any]) -> None:
        if os.getpid() != own:
            raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")
        seen.append(named["num_warps"])

    configs = [triton.Config({"BLOCK": 128}, num_warps=warps, pre_hook=clear) for warps in COST_MS]
    kernel = autotune.triton(configs, ["n"], rep=10, warmup=1)(scaled)
    a, _, c = program.vectors()
    kernel[grid](a, c, N, 3)
    assert kernel.best_config.num_warps == 2
    assert {*seen} == {*COST_MS}
    kernel[grid](a, c, N, 3)
    assert seen[-2:] == [2, 2]


def test_a_grid_that_reads_the_gpu_is_timed_by_the_kernel_itself_and_that_is_said(program: Program) -> None:
    own = os.getpid()

    def reads(meta: Mapping[str, Any]) -> tuple[int]:
        if os.getpid() != own:
            raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")
        return grid(meta)

    a, _, c = program.vectors()
    kernel = tuned(triton.jit(scaled.fn), rep=10, warmup=1)
    with pytest.warns(UserWarning, match="cannot be tuned in a process of its own"):
        kernel[reads](a, c, N, 3)
    assert kernel.best_config.num_warps == 2
    assert times(kernel).keys() == COST_MS.keys()
    kernel.keys = ["n"]  # forgets all configs
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no later key of the kernel is tried elsewhere first
        kernel[reads](a, c, N - 1, 3)
    assert kernel.best_config.num_warps == 2


def test_a_tuple_of_numbers_is_timed_by_the_kernel_itself(program: Program) -> None:
    @triton.jit
    def weighted(a, c, n, factors, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(c + at, tl.load(a + at, mask=at < n) * factors[0] + factors[1], mask=at < n)

    a, _, c = program.vectors()
    kernel = tuned(weighted, rep=10, warmup=1)
    kernel[grid](a, c, N, (2, 3))
    assert kernel.best_config.num_warps == 2
    assert times(kernel).keys() == COST_MS.keys()
    assert program.server.started == 0
    weighted.device_caches.clear()


def test_threads_that_tune_different_keys(program: Program) -> None:
    kernel = tuned(scaled, isolation="process")
    a, _, c = program.vectors()
    errors: list[BaseException] = []

    def call(n: int) -> None:
        try:
            with Placement(program.gpu):  # torch has such a mode for each thread
                kernel[grid](a, c, n, 3)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(n,)) for n in (N, N // 2, N // 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [config.num_warps for config in kernel.cache.values()] == [2, 2, 2]
    assert program.gpu.launches == 3


def test_a_process_that_cannot_be_had_is_said_once_for_each_key_and_not_tried_again(program: Program) -> None:
    program.server.error = EvaluatorError("torch is broken")
    kernel = tuned(scaled)
    a, _, c = program.vectors()
    for n in (N, N // 2):
        kernel[grid](a, c, n, 3)  # a list needs no process, and says nothing
        assert times(kernel) == COST_MS
    program.server.error = None
    strict = tuned(triton.jit(scaled.fn), isolation="process", cache_results=False)
    with pytest.raises(EvaluatorError, match="torch is broken"):
        strict[grid](a, c, N, 3)
    assert program.server.started == 0


def die(*_: Any) -> Any:
    os._exit(3)


def fail(*_: Any) -> Any:
    raise RuntimeError("planted")


@pytest.mark.parametrize(
    ("load", "reason"), [(die, "a fork of the program exited with code 3"), (fail, ".*RuntimeError: planted")]
)
@pytest.mark.parametrize("isolation", [None, "in_process"])
def test_a_program_whose_forks_die_is_tuned_all_the_same(
    program: Program, monkeypatch: pytest.MonkeyPatch, isolation: Any, load: Any, reason: str
) -> None:
    """A library of the user's may do anything in a fork."""
    monkeypatch.setattr(compile_worker, "load_here", load)
    a, _, c = program.vectors()
    kernel = tuned(scaled, rep=10, warmup=1, isolation=isolation)
    with pytest.warns(UserWarning, match=rf"cannot be compiled in forks of this program \({reason}"):
        kernel[grid](a, c, N, 3)
    for n in (N, N // 2):
        kernel[grid](a, c, n, 3)  # it is said, and tried, once
        assert kernel.best_config.num_warps == 2
        assert times(kernel).keys() == COST_MS.keys()
    assert len(kernel.cache) == 2
    strict = tuned(scaled, isolation="process", cache_results=False)
    with pytest.raises(EvaluatorError, match=reason):
        strict[grid](a, c, N, 3)


def test_a_fork_that_hangs_is_waited_for_in_vain_once(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that another thread held when the program was forked stays locked."""
    monkeypatch.setattr(compile_worker, "load_here", lambda *_: time.sleep(1000))
    monkeypatch.setattr(call_evaluator, "ANSWER_TIMEOUT_S", 0.3)
    a, _, c = program.vectors()
    kernel = tuned(scaled, rep=10, warmup=1)
    with pytest.warns(UserWarning, match=r"in forks of this program \(a fork of the program gave no answer"):
        kernel[grid](a, c, N, 3)
    assert kernel.best_config.num_warps == 2
