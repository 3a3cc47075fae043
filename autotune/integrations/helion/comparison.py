"""Several configs timed side by side in this process, in rounds, as the verification of a search wants it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from helion.autotuner.base_search import PopulationMember
from helion.autotuner.benchmarking import _make_l2_cache_clearer

from autotune.core.outcomes import Failed, Outcome, timed_or_failed
from autotune.shell.evaluators.triton.device import CudaDevice, Device, HostDevice
from autotune.shell.evaluators.triton.sampling import runs_in_round

WARM_UPS = 3

Sample = Callable[[int, int], float]
"""Milliseconds of call `i`, over so many runs."""

Order = Callable[[int], Sequence[int]]
"""In which order the calls are sampled in a round, given its number."""


def compare(
    search: Any, members: Sequence[PopulationMember], rounds: int, seconds: float | None, order: Order
) -> list[Outcome]:
    """The outcome of each member. Each has run and answered right before, in a process of its own where Helion could
    give it one.
    """
    arguments = search._shared_benchmark_args()
    calls = [_call(member, arguments) for member in members]
    own = search.settings.autotune_benchmark_fn
    if own is not None:
        return side_by_side(lambda i, runs: float(own([calls[i]], repeat=runs)[0]), order, rounds, seconds)
    with device_of(search.kernel.env.device) as device:
        return side_by_side(sampling(device, calls), order, rounds, seconds)


def side_by_side(sample: Sample, order: Order, rounds: int, seconds: float | None = None) -> list[Outcome]:
    """The outcome of each call, a sample a round; every round has an order of its own.

    seconds: begin no round that would not be over by then.
    """
    failures: dict[int, Failed] = {}
    count = len(order(0))
    runs = [_first(i, sample, failures) for i in range(count)]
    samples: list[list[float]] = [[] for _ in range(count)]
    began = time.perf_counter()
    for number in range(rounds):
        spent = time.perf_counter() - began
        if number and seconds is not None and spent * (number + 1) / number > seconds:
            break
        for i in order(number):
            if i not in failures:
                _take(i, runs[i], sample, samples, failures)
    return [failures.get(i) or timed_or_failed(taken) for i, taken in enumerate(samples)]


def _call(member: PopulationMember, arguments: Sequence[object]) -> Callable[[], object]:
    return lambda: member.fn(*arguments)


def _first(i: int, sample: Sample, failures: dict[int, Failed]) -> int:
    """How many runs make one sample, found out while it warms up."""
    try:
        return runs_in_round(median(sample(i, 1) for _ in range(WARM_UPS)))
    except Exception as error:  # whatever a kernel raises costs this config, not the search
        failures[i] = Failed("run_error", f"{type(error).__name__}: {error}")
        return 1


def _take(i: int, runs: int, sample: Sample, samples: list[list[float]], failures: dict[int, Failed]) -> None:
    try:
        samples[i].append(sample(i, runs))
    except Exception as error:  # as above
        failures[i] = Failed("run_error", f"{type(error).__name__}: {error}")


@contextmanager
def device_of(where: Any) -> Iterator[Device]:
    """What times kernels there: the GPU by its events, else this process by the wall clock."""
    if where.type != "cuda":
        yield HostDevice()
        return
    with torch.cuda.device(where):
        yield CudaDevice("")


def sampling(device: Device, calls: Sequence[Callable[[], object]]) -> Sample:
    """Samples with an empty L2 cache, which is emptied as Helion does (on AMD as we do): it times as its own does."""
    clear, ours = _make_l2_cache_clearer(), torch.version.hip is not None
    return lambda i, runs: median(device.time(lambda _: calls[i](), runs, lambda _: clear(), ours))
