"""A trial on its way through a session, and what its measurement amounts to.

Configs that differ only in what a kernel is given at run time share their binary: it is compiled once for all.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

from msgspec.structs import replace

from autotune.backends.triton import messages
from autotune.backends.triton.timing import Objective, condensed
from autotune.core.config import Config
from autotune.core.outcomes import Detail, Failed, Outcome, Timed, Trial, timed_or_failed
from autotune.core.search.messages import Event, Limits, Observed
from autotune.shell.processes.pool import Lost


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


def timed(measured: messages.MeasureReply, rules: Rules, default_ms: tuple[float, ...] | None) -> Outcome:
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


def reply_seconds(reply: messages.TritonReply | Lost) -> float | None:
    """How long the worker itself says it took: what it waited for us afterwards is not its work."""
    match reply:
        case messages.Compiled(seconds=seconds) | messages.NotCompiled(seconds=seconds):
            return seconds
        case (
            messages.MeasureReply(run_s=run_s) | messages.PrepareReply(run_s=run_s) | messages.SampleReply(run_s=run_s)
        ):
            return run_s
        case messages.Refused(failed):
            return failed.run_s
        case _:
            return None


Verdict = messages.Compiled | messages.NotCompiled | Failed
"""What became of a binary; Failed: its compiler was killed or has crashed."""

GRAIN = 16
"""Triton compiles another binary for whole numbers that are divisible by this, and for 1."""


def binary_key_of(kernel: Any) -> Callable[[Config], Hashable]:
    """A function that gives configs an equal value only where the kernel's binary is the same.

    Where nothing is known of the kernel (`build`, the interpreter), every config has a binary of its own.
    """
    parameters = {p.name: p for p in getattr(kernel, "params", ()) if not p.is_constexpr}

    def key(config: Config) -> Hashable:
        return tuple((name, _kind(value, parameters.get(name))) for name, value in config.items())

    return key


def _kind(value: Any, parameter: Any) -> Hashable:
    """The value; of an argument at run time what Triton's dispatcher looks at, or more than that."""
    if parameter is None or not isinstance(value, int):
        return type(value).__name__, value
    special = not parameter.do_not_specialize
    if isinstance(value, bool):
        return ("bool", value if special else None)
    width = next((bits for bits in (31, 63, 64) if -(2**bits) <= value < 2**bits), None)
    return ("int", width, special and (value == 1, value % GRAIN == 0))


class SharedBinaries:
    """Who waits for which binary, and what became of those that were compiled."""

    def __init__(self, key: Callable[[Config], Hashable]) -> None:
        self._key = key
        self._known: dict[Hashable, Verdict] = {}
        self._waiting: dict[Hashable, list[Job]] = {}

    @property
    def waiting(self) -> int:
        """How many configs wait for a binary that another is having compiled."""
        return sum(map(len, self._waiting.values()))

    def verdict(self, job: Job) -> Verdict | None:
        """What is known already of this config's binary."""
        return self._known.get(self._key(job.trial.config))

    def claim(self, job: Job) -> bool:
        """Whether this config is the first to want its binary, and is to have it compiled; if not, it waits."""
        key = self._key(job.trial.config)
        if key in self._waiting:
            self._waiting[key].append(job)
            return False
        self._waiting[key] = []
        return True

    def settle(self, job: Job, verdict: Verdict) -> list[Job]:
        """The binary that this config had claimed has come to this; the others that waited for it."""
        key = self._key(job.trial.config)
        self._known[key] = verdict
        return self._waiting.pop(key, [])

    def give_up(self) -> None:
        """Nobody waits any more."""
        self._waiting.clear()
