"""Timing: warm-up, repeats, samples, the events of a GPU, and the objective of several workloads."""

from types import SimpleNamespace

import pytest

from autotune.backends.triton import timing
from autotune.backends.triton.timing import IN_FLIGHT, CudaDevice, TimingSchedule, WorkloadObjective


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
    assert WorkloadObjective()((3.0,)) == 3.0
    assert WorkloadObjective(weights=(1.0, 1.0))((2.0, 8.0)) == pytest.approx(4.0)
    assert WorkloadObjective(weights=(3.0, 1.0))((1.0, 16.0)) == pytest.approx(2.0)
    assert WorkloadObjective("worst", weights=(1.0, 1.0))((2.0, 8.0)) == 8.0
    assert WorkloadObjective("worst", weights=(1.0, 0.0))((2.0, 8.0)) == 2.0
    relative = WorkloadObjective("worst", True, (1.0, 1.0))
    assert relative((1.0, 8.0), (1.0, 4.0)) == pytest.approx(4.0), "twice the default's geometric mean, 2 ms"
    assert relative((1.0, 8.0)) == 8.0, "before the default is known, absolute"
    even = WorkloadObjective("geomean", True, (1.0, 1.0))
    assert even((2.0, 8.0), (1.0, 4.0)) == pytest.approx(4.0), "in milliseconds, as without"


@pytest.mark.parametrize(("hip", "target", "registers"), [(None, "sm_94", 65536), ("6.4", "gfx942", 131072)])
def test_a_gpu_is_described_by_its_make(
    hip: str | None, target: str, registers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.version, "hip", hip)
    properties = SimpleNamespace(
        name="a GPU", major=9, minor=4, gcnArchName="gfx942:sramecc+:xnack-", multi_processor_count=304,
        regs_per_multiprocessor=65536, shared_memory_per_block_optin=65536, L2_cache_size=4,
    )  # fmt: skip
    described = timing._describe_gpu(properties)
    assert (described.target, described.registers, described.multiprocessors) == (target, registers, 304)
