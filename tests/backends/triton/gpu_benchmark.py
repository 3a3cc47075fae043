"""A GPU worker's benchmark in this process, on the interpreter's device: how tests measure one function."""

from collections.abc import Callable
from typing import Any

import torch

from autotune import ArgumentSet
from autotune.backends.triton import messages
from autotune.backends.triton.gpu_worker import GpuBenchmark, TimingOptions
from autotune.backends.triton.kernel import Launch
from autotune.backends.triton.prepared_arguments import CheckSpec
from autotune.backends.triton.timing import HostDevice, TimingSchedule, WorkloadObjective

FAST = TimingSchedule(warmup_ms=0.0, target_ms=0.0, min_repeats=3, max_repeats=3)


def benchmark(
    function: Callable[..., Any],
    arguments: Any,
    repeatable: bool = False,
    schedule: TimingSchedule = FAST,
    device: HostDevice | None = None,
    **spec: Any,
) -> GpuBenchmark:
    launch = Launch(build=lambda config: function)
    given = arguments if isinstance(arguments, list) else [ArgumentSet(arguments)]
    return GpuBenchmark(
        device or HostDevice(), launch, None, given, CheckSpec(**spec), WorkloadObjective(weights=(1.0,) * len(given)),
        TimingOptions(schedule, repeatable=repeatable),
    )  # fmt: skip


def measure(tool: GpuBenchmark, **limits: Any) -> messages.MeasureReply | messages.Refused:
    return tool.measure(messages.MeasureOrder(config="{}", **{"cutoff_ms": None, "budget_s": 10.0, **limits}))


def verdict(function: Callable[..., Any], arguments: Any, **spec: Any) -> str:
    """ "timed", or the kind of failure and its message."""
    answer = measure(benchmark(function, arguments, **spec))
    if isinstance(answer, messages.MeasureReply):
        return "timed"
    assert isinstance(answer, messages.Refused)
    return f"{answer.failed.kind}: {answer.failed.message}"


def vectors() -> tuple[Any, ...]:
    return torch.arange(8.0), torch.zeros(8)
