"""The parts of the Triton evaluator that need no other process: limits, schedules, objectives, memory, verdicts."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotune import ArgumentSet, Config, EvaluatorError, TritonEvaluator
from autotune.backends.triton import processes, timing
from autotune.backends.triton import resources as limits
from autotune.backends.triton.comparison import median_gauges
from autotune.backends.triton.jobs import SessionRules, default_times, timed_outcome
from autotune.backends.triton.kernel import Launch
from autotune.backends.triton.messages import CompiledKernel, MeasureReply
from autotune.backends.triton.resources import read_cubin
from autotune.backends.triton.timing import IN_FLIGHT, CudaDevice, Objective, TimingSchedule
from autotune.core.outcomes import Failed, Timed
from autotune.core.search.messages import Observed
from autotune.shell.timeline import NO_TRIAL, Span, Timeline, busy_share, read_timeline


def compiled(
    shared_bytes: int,
    threads: int,
    registers: int | None = None,
    spill_bytes: int | None = None,
    blocks: int = 1,
    name: str = "k",
) -> CompiledKernel:
    return CompiledKernel(
        name=name, hash="", shared_bytes=shared_bytes, threads=threads, registers=registers, spill_bytes=spill_bytes,
        blocks=blocks,
    )  # fmt: skip


H200 = limits.gpu_of_target("sm_90")


@pytest.mark.parametrize(
    ("figures", "kind", "words"),
    [
        (compiled(232448, 128, 64, 0), None, ""),
        (
            compiled(232449, 128, 64, 0),
            "out_of_memory",
            "232449 bytes of shared memory; sm_90 has 232448",
        ),
        (compiled(0, 2048, 16, 0), "run_error", "2048 threads in a block; sm_90 allows 1024"),
        (compiled(0, 1024, 64, 0), None, ""),
        (
            compiled(0, 1024, 65, 0),
            "run_error",
            "73728 registers for one block (65 a thread, 1024 threads)",
        ),
        (compiled(0, 128, 64, 0, 32), "run_error", "clusters of 32 blocks"),
        (compiled(0, 1024), None, ""),
    ],
)
def test_what_cannot_be_launched_is_known_before(figures: CompiledKernel, kind: str | None, words: str) -> None:
    failed = limits.find_misfit(figures, H200)
    assert (failed and failed.kind) == kind
    assert failed is None or (words in failed.message and failed.message.endswith(": not run"))


def test_blocks_at_once() -> None:
    """128 registers and 256 threads are 32768 registers: two blocks; 100 KiB of shared memory: two blocks as well."""
    assert limits.blocks_at_once(compiled(0, 256, 128, 0), H200) == 2
    assert limits.blocks_at_once(compiled(100 * 1024, 128, 32, 0), H200) == 2
    assert limits.blocks_at_once(compiled(0, 256), H200) is None


def test_details_are_the_most_that_any_kernel_needs() -> None:
    kernels = (compiled(10, 128, 40, 0, name="a"), compiled(5, 128, 90, 16, name="b"))
    assert limits.resource_details(kernels, H200) == {
        "shared_bytes": 10, "registers": 90, "spill_bytes": 16, "blocks_per_multiprocessor": 5, "kernels": 2,
    }  # fmt: skip
    assert limits.resource_details((), H200) == {}


@pytest.mark.parametrize("target", ["90", "sm90", "gfx942", "sm_9", ""])
def test_targets_are_named_as_nvidia_does(target: str) -> None:
    with pytest.raises(EvaluatorError, match="give an NVIDIA architecture such as 'sm_90'"):
        limits.gpu_of_target(target)


def test_a_binary_that_is_not_understood_has_no_figures() -> None:
    for blob in (b"", b"\x7fELF\x02", b"\x7fELF\x02" + bytes(200), b"\x7fELF\x01" + bytes(200), os.urandom(4096)):
        assert read_cubin(blob, "k") is None
    assert read_cubin(b"\x7fELF\x02" + bytes(35) + struct.pack("<Q", 10**9) + bytes(40), "k") is None


class Clock:
    """A kernel whose runs last as told; the last duration repeats."""

    def __init__(self, *times_ms: float) -> None:
        self.times_ms = list(times_ms)
        self.calls: list[int] = []

    def __call__(self, n: int) -> list[float]:
        self.calls.append(n)
        return [self.times_ms.pop(0) if len(self.times_ms) > 1 else self.times_ms[0] for _ in range(n)]


def test_warm_up_lasts_as_long_as_it_should() -> None:
    clock = Clock(9.0, 0.5)
    assert timing.warm_up(clock, TimingSchedule(warmup_ms=5.0)) == 9.0, "a slow first run is enough"
    assert clock.calls == [1]
    clock = Clock(0.5)
    assert timing.warm_up(clock, TimingSchedule(warmup_ms=5.0)) == 0.5
    assert clock.calls == [1, 10]


@pytest.mark.parametrize(("each_ms", "runs"), [(0.001, 200), (0.5, 80), (4.0, 10), (8.0, 5), (100.0, 5)])
def test_repeats_follow_the_duration(each_ms: float, runs: int) -> None:
    clock = Clock(each_ms)
    times = timing.sample(clock, timing.probe(clock), TimingSchedule(target_ms=40.0, max_repeats=200), lambda: True)
    assert len(times) == runs


def test_no_sample_is_begun_too_late() -> None:
    clock = Clock(100.0)
    assert len(timing.sample(clock, [100.0] * 3, TimingSchedule(min_repeats=50), lambda: False)) == 3
    left = iter([True, True, False])
    assert len(timing.sample(clock, [100.0] * 3, TimingSchedule(min_repeats=50), lambda: next(left))) == 7


def test_condensed_samples_are_medians_of_runs_in_a_row() -> None:
    assert timing.condense([1.0, 2.0, 3.0], 5) == (1.0, 2.0, 3.0)
    assert timing.condense([1, 1, 9, 2, 2, 2, 3, 3, 1], 3) == (1, 2, 3)
    assert len(timing.condense([1.0] * 199)) == 25
    assert timing.runs_in_round(0.1) == 20
    assert timing.runs_in_round(100.0) == 1


class FakeCuda:
    """torch, as far as timing by events needs it: says in which order things were asked for."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.now = 0.0
        self.cuda = self

    def synchronize(self) -> None:
        self.log.append("synchronize")


class FakeEvent:
    def __init__(self, torch: FakeCuda, name: str) -> None:
        self.torch, self.name, self.at = torch, name, 0.0

    def record(self) -> None:
        self.torch.log.append(self.name)
        self.at = self.torch.now

    def elapsed_time(self, end: "FakeEvent") -> float:
        return end.at - self.at


class FakeBuffer:
    def __init__(self, torch: FakeCuda) -> None:
        self.torch = torch

    def zero_(self) -> None:
        self.torch.log.append("flush")
        self.torch.now += 50.0


def test_events_are_around_the_launch_alone() -> None:
    """What restores arguments and clears the cache is outside; the host waits once for many runs."""
    torch = FakeCuda()
    gpu = object.__new__(CudaDevice)
    gpu._torch = torch
    gpu._pairs = [(FakeEvent(torch, "start"), FakeEvent(torch, "end")) for _ in range(IN_FLIGHT)]
    gpu._flushed = FakeBuffer(torch)
    runs: list[int] = []

    def call(i: int) -> None:
        torch.log.append("run")
        torch.now += 1.0 + i
        runs.append(i)

    def before(i: int) -> None:
        torch.log.append("before")
        torch.now += 7.0

    assert gpu.time(call, 2, before, cold=True) == [1.0, 2.0]
    assert torch.log == ["before", "flush", "start", "run", "end"] * 2 + ["synchronize"]
    torch.log.clear()
    runs.clear()
    assert len(gpu.time(call, 100, None, cold=False)) == 100
    assert runs == list(range(100))
    assert torch.log.count("synchronize") == 2
    assert "flush" not in torch.log


def test_objectives() -> None:
    assert Objective()((3.0,)) == 3.0
    assert Objective(weights=(1.0, 1.0))((2.0, 8.0)) == pytest.approx(4.0)
    assert Objective(weights=(3.0, 1.0))((1.0, 16.0)) == pytest.approx(2.0)
    assert Objective("worst", weights=(1.0, 1.0))((2.0, 8.0)) == 8.0
    assert Objective("worst", weights=(1.0, 0.0))((2.0, 8.0)) == 2.0
    relative = Objective("worst", True, (1.0, 1.0))
    assert relative((1.0, 8.0), (1.0, 4.0)) == pytest.approx(4.0), "twice the default's geometric mean, 2 ms"
    assert relative((1.0, 8.0)) == 8.0, "before the default is known, absolute"
    even = Objective("geomean", True, (1.0, 1.0))
    assert even((2.0, 8.0), (1.0, 4.0)) == pytest.approx(4.0), "in milliseconds, as without"


def test_rounds_of_several_shapes_become_one_number_each() -> None:
    rules = SessionRules(
        compile_timeout_s=60.0, run_timeout_s=30.0, objective=Objective("worst", True, (1.0, 1.0)), names=("a", "b")
    )
    measured = MeasureReply(times_ms=((1.0, 2.0, 3.0), (4.0, 4.0, 8.0, 8.0)), run_s=0.5, details={"runs": 3})
    outcome = timed_outcome(measured, rules, (1.0, 4.0))
    assert isinstance(outcome, Timed)
    assert outcome.times_ms == pytest.approx((2.0, 4.0, 6.0)), "the ratios to the default, times its mean of 2 ms"
    assert outcome.details == {"runs": 3, "ms[a]": 2.0, "ms[b]": 6.0}
    assert outcome.run_s == 0.5
    alone = timed_outcome(
        MeasureReply(times_ms=((2.0, 4.0),), run_s=0.5, cut=True),
        SessionRules(compile_timeout_s=60.0, run_timeout_s=30.0, objective=Objective(), names=("0",)),
        None,
    )
    assert isinstance(alone, Timed)
    assert (alone.times_ms, alone.cut, alone.details) == ((2.0, 4.0), True, {})
    assert isinstance(timed_outcome(MeasureReply(times_ms=((1.0,), ()), run_s=0.5), rules, None), Failed)


def test_gauges_of_a_comparison_are_those_that_were_usual() -> None:
    shown = [{"sm_clock_mhz": 1980, "temperature_c": 40}, {"sm_clock_mhz": 1500}, {"sm_clock_mhz": 1520}, {}]
    assert median_gauges(shown) == {"sm_clock_mhz": 1520, "temperature_c": 40}
    assert median_gauges([]) == {}


def test_the_defaults_times_are_found_in_a_journal() -> None:
    outcome = Timed((1.0,), details={"ms[a]": 2.0, "ms[b]": 3.0})
    assert default_times([Observed(1.0, 0, outcome)], ("a", "b")) == (2.0, 3.0)
    assert default_times([Observed(1.0, 0, outcome)], ("a", "c")) is None
    assert default_times([Observed(1.0, 1, outcome)], ("a", "b")) is None


def test_timeline(tmp_path: Path) -> None:
    path = tmp_path / "spans"
    line = Timeline(path)
    line.begin("compile 1", "compile", 0, "x", 0.0)
    line.begin("gpu 0", "run", 1, "y", 1.0)
    line.end("y", 3.5, took_s=2.0)  # heard of half a second later
    line.end("nobody", 3.0)
    line.note("gpu 0", "start", NO_TRIAL, 0.0, 1.0)
    line.close(4.0)
    spans = read_timeline(path)
    assert spans == [
        Span("gpu 0", "run", 1, 1.0, 3.0),
        Span("gpu 0", "start", NO_TRIAL, 0.0, 1.0),
        Span("compile 1", "compile", 0, 0.0, 4.0),
    ]
    assert busy_share(spans, 2, 0.0, 4.0) == 0.5, "one of two compile workers is not enough"
    assert busy_share(spans, 1, 0.0, 8.0) == 0.5


def test_gpus_are_those_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-ab")
    assert processes.visible_gpus(None) == ("3", "GPU-ab")
    assert processes.visible_gpus((1,)) == ("GPU-ab",)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert processes.visible_gpus((0, 2)) == ("0", "2")
    assert processes.default_compile_workers(10**6) == 1


def test_the_drivers_tool_is_asked_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(processes, "_SMI_TIMEOUT_S", 0.5)
    tool = tmp_path / "nvidia-smi"

    def smi(script: str) -> processes.NvidiaSmi:
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        return processes.NvidiaSmi()

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = smi("echo '0, GPU-ab, 9.0'; echo '1, GPU-cd, [N/A]'")
    assert processes.visible_gpus(None, found) == ("0", "1")
    assert processes.visible_gpus((1,), found) == ("1",)
    assert [processes.target_of(name, found) for name in ("0", "GPU-ab", "1", "7")] == ["sm_90", "sm_90", None, None]
    for broken in ("echo '0, GPU-ab, 9.0'; exit 9", "exec sleep 60"):
        assert processes.visible_gpus(None, smi(broken)) == ()
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert processes.NvidiaSmi().rows() == []


def build(config: Config) -> Callable[..., Any]:
    return lambda *args: None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "give either kernel= with grid=, or build="),
        ({"kernel": len}, "not a @triton.jit function"),
        ({"build": build, "l2": "cold"}, "l2 is 'cold'; use one of 'flush', 'rotate', 'warm'"),
        ({"build": build, "target": "90"}, "target is '90'"),
        ({"build": build, "rtol": -1}, "rtol is -1; give a number from 0 to 1e+30"),
        ({"build": build, "min_repeats": 9, "max_repeats": 8}, "max_repeats is 8, below min_repeats"),
        ({"build": build, "outputs": "c"}, "outputs is 'c'; give a tuple of argument names"),
        ({"build": build, "checker": 3}, "checker is 3; give a function"),
        ({"build": build, "arguments": (1,), "workloads": [ArgumentSet((1,))]}, "arguments and workloads"),
        ({"build": build, "workloads": [ArgumentSet((1,), 0.0)]}, "all workloads have weight 0"),
        ({"build": build, "workloads": [ArgumentSet((), name="a"), ArgumentSet((), name="a")]}, "the same name"),
        ({"build": build, "workloads": [(1,)]}, "give ArgumentSet"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(EvaluatorError) as caught:
        TritonEvaluator(**settings)
    assert words in str(caught.value)


def test_an_evaluator_describes_what_is_not_as_by_default() -> None:
    tool = TritonEvaluator(build=build, arguments=(1,), outputs=(0,), rtol=0.5, l2="warm")
    said = tool.describe()
    assert (said.pop("compile_timeout_s"), said.pop("run_timeout_s")) == (60.0, 30.0)
    assert said == {
        "kind": "triton", "build": f"{__name__}.build", "outputs": "0", "rtol": 0.5, "l2": "warm", "workloads": "0",
    }  # fmt: skip
    assert not tool.exact
    assert not tool.recovers


def test_arguments_go_by_position_as_triton_takes_some_names_for_its_own() -> None:
    class Kernel:
        arg_names = ("x", "grid", "stream", "BLOCK")
        launched: list[Any] = []  # noqa: RUF012

        def run(self, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
            self.launched.append((args, grid, kwargs))

        def __getitem__(self, grid: Any) -> Any:
            return lambda *args, **kwargs: self.run(*args, grid=grid, warmup=False, **kwargs)

    kernel = Kernel()
    call = Launch(kernel).call(Config(BLOCK=16, num_warps=2), lambda named: (named["grid"],))
    call({"stream": 4, "x": "tensor", "grid": 3})
    assert kernel.launched == [(("tensor", 3, 4), (3,), {"BLOCK": 16, "num_warps": 2})]
