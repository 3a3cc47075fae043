"""What runs a kernel and times it: a GPU by its own events, or the CPU that interprets it, by the wall clock.

How often to run a kernel: warm-up, a probe that may end it, then as many runs as its duration allows.

Pure but for the clock it is given: `time(n)` runs the kernel n times and gives the milliseconds of each.

One number out of the times of several workloads.
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
from autotune.core.outcomes import Detail

Call = Callable[[int], Any]
"""Launches run number i: where there are several copies of the arguments, it takes the next one."""

Cache = Literal["flush", "rotate", "warm"]
FLUSH_FACTOR = 2
LEAST_FLUSH = 32 << 20
LEAD_CYCLES = 200_000
"""A tenth of a millisecond for which the GPU is held: the host's part of the first launch is over by then."""
IN_FLIGHT = 64
"""Events in use at a time; as many runs are queued before the host waits for them."""


class Device(Protocol):
    """gpu: what it is. kind: torch's name for where its tensors are."""

    @property
    def gpu(self) -> Gpu: ...

    @property
    def kind(self) -> str: ...

    def synchronize(self) -> None:
        """Wait for all that was launched; raises what it died of."""

    def time(self, call: Call, count: int, before: Callable[[int], Any] | None, cold: bool) -> list[float]:
        """Milliseconds of each of `count` runs. before: untimed, ahead of each. cold: with an empty L2 cache."""

    def graphed(self, call: Call, runs: int) -> tuple[Call, int]:
        """The call as it can be launched with the least cost, and how many runs one launch of it makes."""

    def gauges(self) -> dict[str, Detail]:
        """Clock and temperature, as far as they can be read."""


class HostDevice:
    """This process itself, where Triton interprets kernels."""

    gpu = Gpu("the interpreter")
    kind = "cpu"

    def synchronize(self) -> None:
        """Everything is done already."""

    def time(self, call: Call, count: int, before: Callable[[int], Any] | None, cold: bool) -> list[float]:
        """By the wall clock."""
        times = []
        for i in range(count):
            if before is not None:
                before(i)
            start = time.perf_counter_ns()
            call(i)
            times.append((time.perf_counter_ns() - start) / 1e6)
        return times

    def graphed(self, call: Call, runs: int) -> tuple[Call, int]:
        """There are no graphs here."""
        return call, 1

    def gauges(self) -> dict[str, Detail]:
        """None that would mean anything."""
        return {}


class CudaDevice:
    """The one GPU that this process sees. index: its number for the driver's management library."""

    kind = "cuda"

    def __init__(self, index: str) -> None:
        import torch

        torch.cuda.init()
        self._torch = torch
        self._pairs = [
            (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(IN_FLIGHT)
        ]
        properties = torch.cuda.get_device_properties(0)
        self.gpu = _described(properties)
        size = max(FLUSH_FACTOR * self.gpu.l2_bytes, LEAST_FLUSH)
        self._flushed = torch.empty(size // 4, dtype=torch.int32, device="cuda")
        self._handle, self._nvml = _nvml(index)

    def synchronize(self) -> None:
        """Wait for the GPU."""
        self._torch.cuda.synchronize()

    def time(self, call: Call, count: int, before: Callable[[int], Any] | None, cold: bool) -> list[float]:
        """By events around each run. Clearing the cache also keeps the GPU busy while the host prepares the launch."""
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
        hold = getattr(self._torch.cuda, "_sleep", None)
        if hold is not None:
            hold(LEAD_CYCLES)

    def graphed(self, call: Call, runs: int) -> tuple[Call, int]:
        """`runs` launches captured in one graph."""
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
        """What NVML tells just after a measurement."""
        found: dict[str, Detail] = {}
        if self._nvml is not None:
            nvml, handle = self._nvml, self._handle
            with suppress(Exception):
                found["sm_clock_mhz"] = nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)
            with suppress(Exception):
                found["temperature_c"] = nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
        return found


def _described(properties: Any) -> Gpu:
    """What torch and Triton's driver know of it."""
    shared, registers = getattr(properties, "shared_memory_per_block_optin", None), None
    with suppress(Exception):
        from triton.runtime.driver import driver

        more = driver.active.utils.get_device_properties(0)
        shared, registers = more["max_shared_mem"], more.get("max_num_regs")
    return Gpu(
        properties.name,
        f"sm_{properties.major}{properties.minor}",
        shared,
        registers or getattr(properties, "regs_per_multiprocessor", None),
        1024,
        properties.multi_processor_count,
        getattr(properties, "L2_cache_size", 0),
    )


def _nvml(index: str) -> tuple[Any, Any]:
    """A handle of the device, and the library; None where there is none."""
    try:
        import pynvml

        pynvml.nvmlInit()
        if index.isdigit():
            return pynvml.nvmlDeviceGetHandleByIndex(int(index)), pynvml
        return pynvml.nvmlDeviceGetHandleByUUID(index), pynvml
    except Exception:
        return None, None


Time = Callable[[int], list[float]]

PROBES = 3
CHUNK_MS = 200.0
MOST_SAMPLES = 25
ROUND_MS = 8.0
MOST_RUNS_IN_ROUND = 20


class Schedule(Struct, frozen=True):
    """How much timing a config gets on each of its workloads; all times in milliseconds of the kernel's own.

    warmup_ms: untimed runs first. target_ms: timed runs add up to this, but there are at least `min_repeats` and at
    most `max_repeats`.
    """

    warmup_ms: float = 5.0
    target_ms: float = 40.0
    min_repeats: int = 5
    max_repeats: int = 200


def briefly(schedule: Schedule) -> Schedule:
    """For what is certainly not the best: as few runs as say by how much."""
    return replace(schedule, target_ms=0.0)


def warm_up(time: Time, schedule: Schedule) -> float:
    """Run until it is warm; the milliseconds that one run seems to take."""
    first = time(1)[0]
    more = min(ceil(schedule.warmup_ms / max(first, 1e-4)), schedule.max_repeats)
    return first if more <= 1 else median(time(more))


def probe(time: Time) -> list[float]:
    """The first runs that count."""
    return time(PROBES)


def sample(time: Time, probed: Sequence[float], schedule: Schedule, in_time: Callable[[], bool]) -> list[float]:
    """The probed runs and as many more as the schedule wants, while `in_time`."""
    each = max(median(probed), 1e-4)
    wanted = min(max(ceil(schedule.target_ms / each), schedule.min_repeats), schedule.max_repeats)
    times = list(probed)
    while len(times) < wanted and in_time():
        times += time(min(wanted - len(times), max(1, int(CHUNK_MS / each))))
    return times


def condensed(times: Sequence[float], most: int = MOST_SAMPLES) -> tuple[float, ...]:
    """At most so many samples, each the median of some runs in a row: what a journal can hold of hundreds of runs."""
    if len(times) <= most:
        return tuple(times)
    edges = [round(i * len(times) / most) for i in range(most + 1)]
    return tuple(median(times[a:b]) for a, b in pairwise(edges))


def runs_in_round(each_ms: float) -> int:
    """How many runs make one sample of an interleaved comparison."""
    return max(1, min(MOST_RUNS_IN_ROUND, int(ROUND_MS / max(each_ms, 1e-4))))


Kind = Literal["geomean", "worst"]


class Objective(Struct, frozen=True):
    """kind: the weighted geometric mean of the times, or the longest of them. relative: of the times over those of the
    default config, brought back to milliseconds by the default's own geometric mean. weights: one for each workload.
    """

    kind: Kind = "geomean"
    relative: bool = False
    weights: tuple[float, ...] = (1.0,)

    def __call__(self, times_ms: Sequence[float], default_ms: Sequence[float] | None = None) -> float:
        """Milliseconds; the default's times are looked at only where the objective is relative, and may be missing."""
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
