"""How often to run a kernel: warm-up, a probe that may end it, then as many runs as its duration allows.

Pure but for the clock it is given: `time(n)` runs the kernel n times and gives the milliseconds of each.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

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
