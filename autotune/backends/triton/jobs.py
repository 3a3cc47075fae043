"""A trial on its way through a Triton session, and the outcome of its measurement.

Configs that differ only in run-time arguments of a kernel share their binary: it is compiled once for all of them.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from msgspec.structs import replace

from autotune.backends.triton import messages
from autotune.backends.triton.timing import WorkloadObjective, condense
from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Detail, Failed, Outcome, Timed, Trial, timed_or_failed
from autotune.core.search.messages import Event, Limits, Observed, TrialWork
from autotune.shell.processes.pool import Lost


@dataclass(frozen=True, kw_only=True)
class SessionRules:
    """The settings of a session. names: of the workloads, for the details of outcomes. binary_key: equal for configs
    that share a binary. ahead: how many configs are queued for compiling although no worker is free yet, so that no
    compile worker ever waits for the search. replays: GPU workers launch what compile workers have recorded. extends:
    whether a comparison goes on until it is decided.
    """

    compile_timeout_s: float
    run_timeout_s: float
    objective: WorkloadObjective
    names: tuple[str, ...]
    binary_key: Callable[[Config], Hashable] = Config.to_json
    ahead: int = 1
    replays: bool = False
    extends: bool = True


@dataclass(eq=False)
class Job:
    """A trial on its way.

    fresh: it must run in a process that has served no config before. dropped: nobody waits for it any more. gpu, used:
    the GPU whose process got it, and whether that process had run others before. keys: of its kernels in Triton's
    cache. launches: for a GPU worker that replays them. sent_s: when a compile worker got it, on the search's clock.
    work: of the processes that had it so far.
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
    launches: tuple[messages.RecordedLaunch, ...] = ()
    sent_s: float = 0.0
    work: list[TrialWork] = field(default_factory=list)

    def add_work(self, lane: str, what: str, start_s: float, end_s: float) -> None:
        """Microseconds are enough, and keep a journal short."""
        self.work.append(TrialWork(lane, what, round(start_s, 6), round(end_s, 6)))


def timed_outcome(
    measured: messages.MeasureReply, rules: SessionRules, default_ms: tuple[float, ...] | None
) -> Outcome:
    """The outcome of samples on each workload: one number a round by the objective; the medians of each in details.

    default_ms: the times of the default config, for a relative objective.
    """
    times = measured.times_ms
    if not all(times):
        return Failed("invalid_time", "there are no samples", run_s=measured.run_s)
    least = min(map(len, times))
    rounds = zip(*(condense(one, least) for one in times), strict=True)
    combined = [rules.objective(one, default_ms) for one in rounds]
    outcome = timed_or_failed(combined, measured.compile_s, measured.run_s, measured.cut)
    return replace(outcome, details={**measured.details, **workload_details(rules.names, times)})


class NotRecorded(EvaluatorError):
    """The launches of a config cannot be recorded; nor can those of another config of the kernel, in all likelihood."""


def require_launches(
    rules: SessionRules, config: Config, reply: messages.TritonReply | Lost
) -> tuple[messages.RecordedLaunch, ...]:
    """The launches in the reply of a compile worker; raises NotRecorded where they are needed and missing."""
    if isinstance(reply, messages.Compiled):
        if reply.launches or not rules.replays:
            return reply.launches
        why = "one of its arguments is neither a tensor of the call nor a number, or Triton's cache lacks its binary"
    elif isinstance(reply, messages.NotCompiled) and not reply.compiler:
        if not rules.replays:
            return ()
        why = reply.message
    else:
        return ()
    raise NotRecorded(f"the launches of {config} cannot be recorded: {why}")


def workload_details(names: Sequence[str], times_ms: Sequence[Sequence[float]]) -> dict[str, Detail]:
    """The median on each workload, where there are several; times_ms: the samples of each."""
    if len(names) < 2 or len(times_ms) < len(names):
        return {}
    return {f"ms[{name}]": median(one) for name, one in zip(names, times_ms, strict=True)}


def default_times(past: Sequence[Event], names: tuple[str, ...]) -> tuple[float, ...] | None:
    """The times of the default config on each workload in milliseconds, from the events of a journal."""
    for event in past:
        if isinstance(event, Observed) and event.trial == 0 and isinstance(event.outcome, Timed):
            found = [event.outcome.details.get(f"ms[{name}]") for name in names]
            times = [float(time) for time in found if isinstance(time, int | float)]
            return tuple(times) if len(times) == len(names) else None
    return None


def reply_seconds(reply: messages.TritonReply | Lost) -> float | None:
    """The seconds that an order took by the worker's own account, without the time for which the reply had to wait."""
    match reply:
        case messages.Compiled(seconds=seconds) | messages.NotCompiled(seconds=seconds):
            return seconds
        case messages.MeasureReply() | messages.PrepareReply() | messages.SampleReply():
            return reply.run_s
        case messages.Refused():
            return reply.failed.run_s
        case _:
            return None


CompileVerdict = messages.Compiled | messages.NotCompiled | Failed
"""The result of compiling a binary; Failed: the compiler was killed or has crashed."""

_GRAIN = 16
"""Triton compiles another binary for whole numbers that are divisible by this, and for 1."""


def binary_key_of(kernel: Any) -> Callable[[Config], Hashable]:
    """A function that gives configs an equal value only where the kernel's binary is the same.

    Where nothing is known of the kernel (`build`, the interpreter), every config has a binary of its own.
    """
    parameters = {p.name: p for p in getattr(kernel, "params", ()) if not p.is_constexpr}

    def key(config: Config) -> Hashable:
        return tuple((name, _specialisation(value, parameters.get(name))) for name, value in config.items())

    return key


def _specialisation(value: Any, parameter: Any) -> Hashable:
    """The value; for an argument at run time, everything about it that Triton's dispatcher looks at, or more."""
    if parameter is None or not isinstance(value, int):
        return type(value).__name__, value
    special = not parameter.do_not_specialize
    if isinstance(value, bool):
        return ("bool", value if special else None)
    width = next((bits for bits in (31, 63, 64) if -(2**bits) <= value < 2**bits), None)
    return ("int", width, special and (value == 1, value % _GRAIN == 0))


class SharedBinaries:
    """The jobs that wait for each binary, and the verdicts on compiled ones."""

    def __init__(self, key: Callable[[Config], Hashable]) -> None:
        self._key = key
        self._verdicts: dict[Hashable, CompileVerdict] = {}
        self._waiting: dict[Hashable, list[Job]] = {}

    @property
    def waiting(self) -> int:
        """How many jobs wait for a binary that is being compiled for another one."""
        return sum(map(len, self._waiting.values()))

    def verdict(self, job: Job) -> CompileVerdict | None:
        """The verdict on this job's binary, if there is one."""
        return self._verdicts.get(self._key(job.trial.config))

    def claim(self, job: Job) -> bool:
        """Whether this job is the first to want its binary, and must have it compiled; if not, it waits."""
        key = self._key(job.trial.config)
        if key in self._waiting:
            self._waiting[key].append(job)
            return False
        self._waiting[key] = []
        return True

    def settle(self, job: Job, verdict: CompileVerdict) -> list[Job]:
        """Record the verdict on the binary that this job had claimed; the other jobs that waited for it."""
        key = self._key(job.trial.config)
        self._verdicts[key] = verdict
        return self._waiting.pop(key, [])

    def clear_waiting(self) -> None:
        """No job waits any more."""
        self._waiting.clear()
