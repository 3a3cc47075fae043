"""Several configs timed side by side in this process, in rounds, as the verification of a search wants it."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any

import torch
from helion.autotuner.base_search import PopulationMember

from autotune.core.outcomes import Failed, Outcome, timed_or_failed
from autotune.shell.evaluators.triton.device import CudaDevice, Device, HostDevice
from autotune.shell.evaluators.triton.sampling import runs_in_round

WARM_UPS = 3

Sample = Callable[[int, int], float]
"""Milliseconds of member `i`, over so many runs."""


def compare(search: Any, members: Sequence[PopulationMember], rounds: int, seconds: float | None) -> list[Outcome]:
    """The outcome of each member: a sample a round. seconds: begin no round that would not be over by then.

    Each has run and answered right before, in a process of its own where Helion could give it one. The order turns
    around from one round to the next.
    """
    arguments = search._shared_benchmark_args()
    calls = [_call(member, arguments) for member in members]
    with _on_device(search) as sample_with:
        sample = sample_with(search, calls)
        failures: dict[int, Failed] = {}
        runs = [_first(i, sample, failures) for i in range(len(members))]
        samples: list[list[float]] = [[] for _ in members]
        began = time.perf_counter()
        for number in range(rounds):
            spent = time.perf_counter() - began
            if number and seconds is not None and spent * (number + 1) / number > seconds:
                break
            order = [i for i in range(len(members)) if i not in failures]
            for i in order if number % 2 == 0 else order[::-1]:
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


def _on_device(search: Any) -> AbstractContextManager[Callable[[Any, list[Callable[[], object]]], Sample]]:
    """Where the kernel runs, as a context, which gives what takes the samples."""
    where = search.kernel.env.device
    if where.type == "cuda" and search.settings.autotune_benchmark_fn is None:
        return _Cuda(where)
    return nullcontext(_on_host)


class _Cuda:
    """The kernel's GPU while it lasts."""

    def __init__(self, where: Any) -> None:
        self._context = torch.cuda.device(where)

    def __enter__(self) -> Callable[[Any, list[Callable[[], object]]], Sample]:
        self._context.__enter__()
        device = CudaDevice("")
        return lambda search, calls: _by_device(device, calls)

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)


def _on_host(search: Any, calls: list[Callable[[], object]]) -> Sample:
    """By the user's own benchmark function where the kernel has one, else by the wall clock."""
    own = search.settings.autotune_benchmark_fn
    if own is None:
        return _by_device(HostDevice(), calls)
    return lambda i, runs: float(own([calls[i]], repeat=runs)[0])


def _by_device(device: Device, calls: list[Callable[[], object]]) -> Sample:
    return lambda i, runs: median(device.time(lambda _: calls[i](), runs, None, True))
