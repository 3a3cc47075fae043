"""How a kernel is timed: by which device, how often, and how the times of several workloads become one number.

A GPU times by its own events, the CPU that interprets a kernel by the wall clock. A config gets a warm-up, a probe that
may end its timing, and then as many runs as its duration allows.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from math import ceil, exp, log
from statistics import median
from typing import Any, Literal, Protocol

from msgspec import Struct
from msgspec.structs import replace

from autotune.backends.triton.messages import Gpu
from autotune.backends.triton.targets import gpu_of_target, is_rocm, target_of_properties
from autotune.core.outcomes import Detail

LaunchRun = Callable[[int], Any]
"""Launches run number i: where there are several copies of the arguments, it takes the next one."""

L2Mode = Literal["flush", "rotate", "warm"]

_FLUSH_FACTOR, _LEAST_FLUSH_BYTES = 2, 32 << 20
"""The buffer that clears the L2 cache: twice the size of the cache, since lines are not replaced in order."""
_LEAD_CYCLES = 200_000
"""For these clock cycles, a tenth of a millisecond, the GPU is held: by then the host has launched the first run."""
IN_FLIGHT = 64
"""Pairs of events in use at a time; as many runs are queued before the host waits for them."""


class TimingDevice(Protocol):
    """A device that runs kernels. kind: torch's name for the place of its tensors."""

    @property
    def gpu(self) -> Gpu: ...

    @property
    def kind(self) -> str: ...

    def synchronize(self) -> None:
        """Wait for everything that was launched; raises its error if it failed."""

    def time(self, call: LaunchRun, count: int, before: Callable[[int], Any] | None, cold: bool) -> list[float]:
        """Milliseconds of each of `count` runs. before: called ahead of each run, untimed. cold: clear the L2 cache."""

    def capture_graph(self, call: LaunchRun, runs: int) -> tuple[LaunchRun, int]:
        """A call with the least cost of launching, and how many runs one launch of it makes."""

    def gauges(self) -> dict[str, Detail]:
        """Clock and temperature, as far as they can be read."""


class HostDevice:
    """This process itself, where Triton interprets kernels."""

    gpu = Gpu(name="the interpreter")
    kind = "cpu"

    def synchronize(self) -> None:
        """Every call has finished when it returns."""

    def time(self, call: LaunchRun, count: int, before: Callable[[int], Any] | None, cold: bool) -> list[float]:
        times = []
        for i in range(count):
            if before is not None:
                before(i)
            start = time.perf_counter_ns()
            call(i)
            times.append((time.perf_counter_ns() - start) / 1e6)
        return times

    def capture_graph(self, call: LaunchRun, runs: int) -> tuple[LaunchRun, int]:
        """There are no graphs here."""
        return call, 1

    def gauges(self) -> dict[str, Detail]:
        return {}


class CudaDevice:
    """torch's current GPU. index: its number, or its UUID, for the driver's management library."""

    kind = "cuda"

    def __init__(self, index: str) -> None:
        import torch

        torch.cuda.init()
        self._torch = torch
        self._pairs = [
            (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(IN_FLIGHT)
        ]
        self.gpu = _describe_gpu(torch.cuda.get_device_properties(torch.cuda.current_device()))
        size = max(_FLUSH_FACTOR * self.gpu.l2_bytes, _LEAST_FLUSH_BYTES)
        self._flushed = torch.empty(size // 4, dtype=torch.int32, device="cuda")
        self._handle, self._nvml = _open_nvml(index)

    def synchronize(self) -> None:
        self._torch.cuda.synchronize()

    def time(self, call: LaunchRun, count: int, before: Callable[[int], Any] | None, cold: bool) -> list[float]:
        """Events lie around each run. Clearing the cache also keeps the GPU busy while the host prepares the launch."""
        times: list[float] = []
        for begin in range(0, count, IN_FLIGHT):
            pairs = self._pairs[: min(IN_FLIGHT, count - begin)]
            self._hold()
            for i, (start, end) in enumerate(pairs, begin):
                if before is not None:
                    before(i)
                if cold:
                    self._flushed.zero_()
                start.record()
                call(i)
                end.record()
            self._torch.cuda.synchronize()
            times += [start.elapsed_time(end) for start, end in pairs]
        return times

    def _hold(self) -> None:
        """Let the host get ahead; else the first run would be timed with the wait for its own launch."""
        hold = getattr(self._torch.cuda, "_sleep", None)  # torch's own, which a later version may drop
        if hold is not None:
            hold(_LEAD_CYCLES)

    def capture_graph(self, call: LaunchRun, runs: int) -> tuple[LaunchRun, int]:
        """`runs` launches captured in one CUDA graph."""
        torch = self._torch
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            call(0)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            for i in range(runs):
                call(i)
        return lambda _: graph.replay(), runs

    def gauges(self) -> dict[str, Detail]:
        """The figures of NVML just after a measurement."""
        found: dict[str, Detail] = {}
        if self._nvml is not None:
            nvml, handle = self._nvml, self._handle
            with suppress(Exception):
                found["sm_clock_mhz"] = nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)
            with suppress(Exception):
                found["temperature_c"] = nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
        return found


def _describe_gpu(properties: Any) -> Gpu:
    """The device by the properties that torch and Triton's driver know. AMD's registers are known by the target alone:
    the driver tells those that one block may have, and leaves out the accumulation registers."""
    shared, registers = getattr(properties, "shared_memory_per_block_optin", None), None
    with suppress(Exception):
        from triton.runtime.driver import driver

        more = driver.active.utils.get_device_properties(driver.active.get_current_device())
        shared, registers = more["max_shared_mem"], more.get("max_num_regs")
    target = target_of_properties(properties)
    if is_rocm():
        registers = gpu_of_target(target).registers
    else:
        registers = registers or getattr(properties, "regs_per_multiprocessor", None)
    return Gpu(
        name=properties.name,
        target=target,
        shared_bytes=shared,
        registers=registers,
        multiprocessors=properties.multi_processor_count,
        l2_bytes=getattr(properties, "L2_cache_size", 0),
    )


def _open_nvml(index: str) -> tuple[Any, Any]:
    """A handle of the device, and the library; None where there is none."""
    try:
        import pynvml

        pynvml.nvmlInit()
        if index.isdigit():
            return pynvml.nvmlDeviceGetHandleByIndex(int(index)), pynvml
        return pynvml.nvmlDeviceGetHandleByUUID(index), pynvml
    except Exception:
        return None, None


TimeRuns = Callable[[int], list[float]]
"""Runs the kernel n times; the milliseconds of each run."""

_PROBES = 3
"""Runs that decide whether a config is cut off: three give a minimum that one disturbance does not spoil."""
_CHUNK_MS = 200.0
"""Milliseconds of runs between two looks at the clock."""
_MOST_SAMPLES = 25
"""Samples of a config in a journal: as many as a journal can hold of hundreds of runs."""
_ROUND_MS, _MOST_RUNS_IN_ROUND = 8.0, 20
"""A sample of a comparison takes so many milliseconds, or so many runs, whichever is less."""


class TimingSchedule(Struct, frozen=True, kw_only=True):
    """How often each workload of a config runs; all times in milliseconds of the kernel's own.

    warmup_ms: of untimed runs first. target_ms: timed runs add up to this, but there are at least `min_repeats` and at
    most `max_repeats`.
    """

    warmup_ms: float = 5.0
    target_ms: float = 40.0
    min_repeats: int = 5
    max_repeats: int = 200

    def shortest(self) -> "TimingSchedule":
        """For a config that is certainly not the best: as few runs as say how much slower it is."""
        return replace(self, target_ms=0.0)


def warm_up(time: TimeRuns, schedule: TimingSchedule) -> float:
    """Run until the kernel is warm; the milliseconds that one run seems to take."""
    first = time(1)[0]
    more = min(ceil(schedule.warmup_ms / max(first, 1e-4)), schedule.max_repeats)
    return first if more <= 1 else median(time(more))


def probe(time: TimeRuns) -> list[float]:
    """The first runs that count, in milliseconds."""
    return time(_PROBES)


def sample(
    time: TimeRuns, probed: Sequence[float], schedule: TimingSchedule, in_time: Callable[[], bool]
) -> list[float]:
    """The probed runs and as many more as the schedule wants, while `in_time`; in milliseconds."""
    each = max(median(probed), 1e-4)
    wanted = min(max(ceil(schedule.target_ms / each), schedule.min_repeats), schedule.max_repeats)
    times = list(probed)
    while len(times) < wanted and in_time():
        times += time(min(wanted - len(times), max(1, int(_CHUNK_MS / each))))
    return times


def condense(times: Sequence[float], most: int = _MOST_SAMPLES) -> tuple[float, ...]:
    """At most so many samples, each the median of a few runs in a row."""
    if len(times) <= most:
        return tuple(times)
    edges = [round(i * len(times) / most) for i in range(most + 1)]
    return tuple(median(times[a:b]) for a, b in pairwise(edges))


def runs_in_round(each_ms: float) -> int:
    """How many runs make one sample of an interleaved comparison; each_ms: milliseconds of one run."""
    return max(1, min(_MOST_RUNS_IN_ROUND, int(_ROUND_MS / max(each_ms, 1e-4))))


class WorkloadObjective(Struct, frozen=True):
    """One number from the times of several workloads.

    kind: the weighted geometric mean of the times, or the longest of them. relative: of the times over those of the
    default config, brought back to milliseconds by the default's own geometric mean. weights: one for each workload.
    """

    kind: Literal["geomean", "worst"] = "geomean"
    relative: bool = False
    weights: tuple[float, ...] = (1.0,)

    def __call__(self, times_ms: Sequence[float], default_ms: Sequence[float] | None = None) -> float:
        """Milliseconds; the default's times matter only where the objective is relative, and may be missing."""
        if len(times_ms) == 1:
            return times_ms[0]
        scale = [1.0] * len(times_ms)
        unit = 1.0
        if self.relative and default_ms is not None:
            scale, unit = list(default_ms), self._mean(default_ms)
        ratios = [time / own for time, own in zip(times_ms, scale, strict=True)]
        if self.kind == "worst":
            return unit * max(ratio for ratio, weight in zip(ratios, self.weights, strict=True) if weight > 0)
        return unit * self._mean(ratios)

    def _mean(self, values: Sequence[float]) -> float:
        total = sum(self.weights)
        return exp(sum(w * log(v) for w, v in zip(self.weights, values, strict=True)) / total)
