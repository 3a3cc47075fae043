"""Timing by the wall clock: warm-up, several calls a sample for short kernels, a target time, an early cut-off."""

import gc
from collections.abc import Callable
from itertools import repeat
from math import ceil, isfinite
from time import perf_counter_ns

from msgspec import Struct

Call = Callable[[], object]
Timer = Callable[[Call], float]
"""Calls its argument once and returns the milliseconds that the kernel took."""

_MOST_CALLS = 1 << 20
"""Calls of one sample at most: an empty Python function reaches a millisecond with a tenth of them."""

_CUT_AFTER = 3
"""A config is cut off if its first samples, this many, are all slower than the cut-off."""


class Schedule(Struct, frozen=True, kw_only=True):
    """How much timing a config gets; times in milliseconds.

    warmup_ms: untimed calls before the first sample. A kernel whose single call lasts longer needs none.
    target_ms: samples are taken until they add up to this, but at least `min_repeats` and at most `max_repeats`.
    min_sample_ms: shorter kernels are called many times a sample; the sample is then the mean of those calls.
    """

    warmup_ms: float = 20.0
    target_ms: float = 100.0
    min_repeats: int = 3
    max_repeats: int = 50
    min_sample_ms: float = 1.0


class SampleSeries(Struct, frozen=True):
    """Samples in milliseconds per call, each the mean of `calls` calls; cut: stopped early, slower than the cut-off."""

    times_ms: tuple[float, ...]
    calls: int = 1
    cut: bool = False


def sample(call: Call, calls: int = 1, reset: Call | None = None, timer: Timer | None = None) -> float:
    """Milliseconds per call, over `calls` calls in a row, without garbage collection; `reset` runs before, untimed."""
    if reset is not None:
        reset()
    collecting = gc.isenabled()
    gc.disable()
    try:
        if timer is not None:
            return float(timer(call))
        start = perf_counter_ns()
        for _ in repeat(None, calls):
            call()
        return (perf_counter_ns() - start) / 1e6 / calls
    finally:
        if collecting:
            gc.enable()


def warm_up(call: Call, schedule: Schedule, first_ms: float, reset: Call | None = None) -> int:
    """Call until `warmup_ms` have passed; how many calls take `min_sample_ms`. first_ms: time of a first call."""
    calls, last, spent = 1, first_ms, first_ms
    while True:
        if last * calls < schedule.min_sample_ms and calls < _MOST_CALLS:
            # At most ten times as many in a step: the first calls of a cold kernel say little about the later ones.
            wanted = ceil(1.1 * schedule.min_sample_ms / last) if last > 0 else 10 * calls
            calls = min(max(wanted, calls + 1), 10 * calls, _MOST_CALLS)
        elif spent >= schedule.warmup_ms:
            return calls
        last = sample(call, calls, reset)
        spent += last * calls


def measure(
    call: Call,
    schedule: Schedule,
    cutoff_ms: float | None = None,
    reset: Call | None = None,
    timer: Timer | None = None,
    stop_at_ns: int | None = None,
) -> SampleSeries:
    """Warm up, and take samples until the schedule is fulfilled.

    cutoff_ms: stop if the first three samples, or fewer that fill the target time, are all slower than this.
    timer: takes each sample by one call; None: the wall clock over as many calls as a sample needs. stop_at_ns: the
    `perf_counter_ns` after which no sample begins but the first, so that a slow kernel still gets a time.
    """
    first = sample(call, 1, reset, timer)
    if not is_duration(first):
        return SampleSeries((first,))
    if first >= schedule.warmup_ms:
        calls, times = 1, [first]
    else:
        calls, times = warm_up(call, schedule, first, reset), []
        calls = 1 if timer is not None else calls
    spent = sum(times)
    while True:
        if _is_cut(times, spent, cutoff_ms, schedule):
            return SampleSeries(tuple(times), calls, cut=True)
        if times and (_is_enough(times, spent, schedule) or _is_late(stop_at_ns, times[-1] * calls)):
            return SampleSeries(tuple(times), calls)
        times.append(sample(call, calls, reset, timer))
        spent += times[-1] * calls
        if not is_duration(times[-1]):
            return SampleSeries(tuple(times), calls)


def is_duration(time_ms: float) -> bool:
    """Whether this is finite and above zero."""
    return isfinite(time_ms) and time_ms > 0


def _is_cut(times: list[float], spent_ms: float, cutoff_ms: float | None, schedule: Schedule) -> bool:
    if cutoff_ms is None or not times or not (len(times) == _CUT_AFTER or spent_ms >= schedule.target_ms):
        return False
    return len(times) <= _CUT_AFTER and min(times) > cutoff_ms


def _is_enough(times: list[float], spent_ms: float, schedule: Schedule) -> bool:
    if len(times) < schedule.min_repeats:
        return False
    return len(times) >= schedule.max_repeats or spent_ms >= schedule.target_ms


def _is_late(stop_at_ns: int | None, next_ms: float) -> bool:
    return stop_at_ns is not None and perf_counter_ns() + next_ms * 1e6 > stop_at_ns
