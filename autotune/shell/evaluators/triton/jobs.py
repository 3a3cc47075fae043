"""A trial on its way through a session, and what its measurement amounts to."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from msgspec.structs import replace

from autotune.core.config import Config
from autotune.core.outcomes import Detail, Failed, Outcome, Timed, Trial, timed_or_failed
from autotune.core.search.messages import Event, Limits, Observed
from autotune.shell.evaluators.triton import wire
from autotune.shell.evaluators.triton.objective import Objective
from autotune.shell.evaluators.triton.sampling import condensed
from autotune.shell.evaluators.worker import Lost


class Rules(NamedTuple):
    """names: of the workloads, for the details of outcomes. binary: equal for configs that share one.

    ahead: how many configs are queued for compiling although no worker is free yet, so that none ever waits for us.
    """

    compile_timeout_s: float
    run_timeout_s: float
    objective: Objective
    names: tuple[str, ...]
    binary: Callable[[Config], Hashable] = Config.to_json
    ahead: int = 1


@dataclass(eq=False)
class Job:
    """A trial on its way. fresh: it is to be run in a process that nobody has used. dropped: nobody wants it.

    gpu, used: whose process it was given to, and whether that had run others before. keys: in Triton's cache, of what
    it launches.
    """

    trial: Trial
    limits: Limits
    compile_s: float = 0.0
    compiled: bool = False
    fresh: bool = False
    dropped: bool = False
    gpu: int = 0
    used: bool = False
    details: dict[str, Detail] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)


def timed(measured: wire.Measured, rules: Rules, default_ms: tuple[float, ...] | None) -> Outcome:
    """The outcome of samples on each workload: one number a round by the objective, the medians of each in details."""
    times = measured.times_ms
    if not all(times):
        return Failed("invalid_time", "there are no samples", run_s=measured.run_s)
    least = min(map(len, times))
    rounds = zip(*(condensed(one, least) for one in times), strict=True)
    outcome = timed_or_failed([rules.objective(one, default_ms) for one in rounds], 0.0, measured.run_s, measured.cut)
    return replace(outcome, details={**measured.details, **per_shape(rules.names, times)})


def per_shape(names: Sequence[str], times_ms: Sequence[Sequence[float]]) -> dict[str, Detail]:
    """The median on each workload, where there are several; times_ms: the samples of each."""
    if len(names) < 2 or len(times_ms) < len(names):
        return {}
    return {f"ms[{name}]": median(one) for name, one in zip(names, times_ms, strict=True)}


def replace_fresh(job: Job) -> Job:
    """The job, to be tried again where nobody has been before."""
    job.fresh = True
    return job


def default_times(past: Sequence[Event], names: tuple[str, ...]) -> tuple[float, ...] | None:
    """What the default config took on each workload, from a journal."""
    for event in past:
        if isinstance(event, Observed) and event.trial == 0 and isinstance(event.outcome, Timed):
            found = [event.outcome.details.get(f"ms[{name}]") for name in names]
            times = [float(time) for time in found if isinstance(time, int | float)]
            return tuple(times) if len(times) == len(names) else None
    return None


def seconds_of(reply: wire.Reply | Lost) -> float | None:
    """How long the worker itself says it took: what it waited for us afterwards is not its work."""
    match reply:
        case wire.Compiled(seconds=seconds) | wire.NotCompiled(seconds=seconds):
            return seconds
        case wire.Measured(run_s=run_s) | wire.Prepared(run_s=run_s) | wire.Sampled(run_s=run_s):
            return run_s
        case wire.Refused(failed):
            return failed.run_s
        case _:
            return None
