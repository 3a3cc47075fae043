"""The Triton evaluator on a real GPU: run with `pytest -m gpu` on a machine that has one."""

import gc
import time
from pathlib import Path
from typing import Any

import pytest

from autotune import ArgumentSet, Budget, Choice, Config, Failed, PowerOfTwo, Space, Timed, Trial, TritonEvaluator, tune
from autotune.backends.triton import processes
from autotune.core.search.messages import Compare, Compared, Limits, Observed

pytestmark = pytest.mark.gpu

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from tests.backends.triton.kernels import add, add_grid, add_reference, zoo_build  # noqa: E402

N = 1 << 22
ADD = Space({"BLOCK": PowerOfTwo(256, 4096), "num_warps": PowerOfTwo(1, 16)}, default={"BLOCK": 256, "num_warps": 1})


def add_arguments() -> dict[str, Any]:
    import torch

    a, b = torch.randn(N, device="cuda"), torch.randn(N + 1, device="cuda")[1:]
    return {"a": a, "b": b, "c": torch.empty(N, device="cuda"), "n": N}


def outcomes(tool: TritonEvaluator, space: Space, configs: list[Config], compared: tuple[int, ...] = ()) -> list[Any]:
    trials = [Trial(i, config) for i, config in enumerate(configs)]
    found: dict[int, Any] = {}
    with tool.open(space) as session:
        session.submit(trials, Limits())
        until = time.monotonic() + 240
        while len(found) < len(configs):
            assert time.monotonic() < until
            for event in session.poll():
                assert isinstance(event, Observed)
                found[event.trial] = event.outcome
        if compared:
            session.compare(Compare(tuple(trials[i] for i in compared), 7, "verify"))
            while not (events := session.poll()):
                assert time.monotonic() < until
            assert isinstance(events[0], Compared)
            assert all(isinstance(outcome, Timed) for _, outcome in events[0].outcomes)
    return [found[i] for i in range(len(configs))]


@pytest.mark.parametrize("settings", [{}, {"l2": "warm"}, {"l2": "rotate", "cuda_graph": True}, {"cuda_graph": True}])
def test_what_is_compiled_ahead_is_what_is_run(settings: dict[str, Any], tmp_path: Path) -> None:
    tool = TritonEvaluator(
        add, add_arguments, grid=add_grid, reference=add_reference, outputs=("c",), cache_dir=tmp_path, **settings
    )
    configs = ADD.enumerate()[:12]
    found = outcomes(tool, ADD, configs, (0, 1, 2))
    for outcome in found:
        assert isinstance(outcome, Timed), outcome
        assert "compiled_here" not in outcome.details, "the GPU's process had to compile it again"
        assert 0.001 < outcome.time_ms < 10.0
        assert outcome.details["registers"] > 0


def test_planted_faults() -> None:
    def arguments() -> tuple[Any, ...]:
        import torch

        x = torch.randn(1 << 16, device="cuda")
        return x, torch.empty_like(x), 1 << 16

    expected = {
        "good": "timed", "infinite loop": "run_timeout", "wrong": "wrong_answer", "unwritten": "wrong_answer",
        "mutates": "wrong_answer", "shared memory": "out_of_memory", "crashes": "crash", "raises": "run_error",
        "compile error": "compile_error", "compile hangs": "compile_timeout", "good again": "timed",
    }  # fmt: skip
    tool = TritonEvaluator(
        arguments=arguments, build=zoo_build, reference=lambda x, out, n: x * 2, outputs=(1,),
        compile_timeout_s=15.0, run_timeout_s=4.0,
    )  # fmt: skip
    found = outcomes(tool, Space({"what": Choice(list(expected))}), [Config(what=what) for what in expected])
    kinds = [outcome.kind if isinstance(outcome, Failed) else "timed" for outcome in found]
    assert dict(zip(expected, kinds, strict=True)) == expected


def test_tensors_of_this_process_are_not_copied() -> None:
    a, b, c = (torch.randn(N, device="cuda") for _ in range(3))
    tool = TritonEvaluator(add, (a, b, c, N), grid=add_grid, reference=add_reference, outputs=("c",))
    (outcome,) = outcomes(tool, ADD, [Config(BLOCK=1024, num_warps=4)])
    assert isinstance(outcome, Timed)
    assert "compiled_here" not in outcome.details
    assert torch.allclose(c, 2 * a + b), "the other process wrote into this one's memory"


def test_a_search_of_two_shapes() -> None:
    def small() -> dict[str, Any]:
        import torch

        return {**{name: torch.randn(1 << 16, device="cuda") for name in "abc"}, "n": 1 << 16}

    tool = TritonEvaluator(
        add, grid=add_grid, reference=add_reference, outputs=("c",), relative=True, objective="worst",
        workloads=[ArgumentSet(add_arguments, name="large"), ArgumentSet(small, name="small")],
    )  # fmt: skip
    result = tune(ADD, tool, budget=Budget(evaluations=16))
    assert result.best.time_ms > 0
    assert result.counts["timed"] > 8


@pytest.mark.skipif(len(processes.visible_gpus(None)) < 2, reason="one GPU")
def test_every_gpu_is_used(tmp_path: Path) -> None:
    tool = TritonEvaluator(
        add, add_arguments, grid=add_grid, reference=add_reference, outputs=("c",), timeline=tmp_path / "spans"
    )
    outcomes(tool, ADD, ADD.enumerate())
    text = (tmp_path / "spans").read_text()
    assert '"gpu 0"' in text
    assert '"gpu 1"' in text


def test_the_callers_memory_is_free_again_when_a_search_is_over() -> None:
    """What was lent to processes that were killed is the caller's to free; torch's cache is in nobody's way."""
    torch.cuda.empty_cache()
    before = torch.cuda.mem_get_info()[0]
    cached = torch.empty(int(0.9 * before), dtype=torch.uint8, device="cuda")
    del cached  # torch keeps it; the process that measures has only a tenth
    n = 1 << 28
    a, b, c = (torch.ones(n, device="cuda") for _ in range(3))
    tool = TritonEvaluator(
        add, {"a": a, "b": b, "c": c, "n": n}, grid=add_grid, reference=add_reference, outputs=("c",)
    )  # fmt: skip
    found = outcomes(tool, ADD, ADD.enumerate()[:2])
    assert all(isinstance(outcome, Timed) for outcome in found), found
    del tool, a, b, c
    gc.collect()
    torch.cuda.empty_cache()
    assert before - torch.cuda.mem_get_info()[0] < 1 << 28, "three tensors of 1 GiB were lent"
