"""One comparison: all configs kept warm in the process of one GPU, a sample of each a round, until it is is_decided.

The rounds asked for are all done; where the noise then still leaves it open which is the fastest, up to five times as
many are, while that takes some seconds only, unless those left are equal for all practical purposes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median_low
from typing import Literal

from msgspec.structs import replace

from autotune.backends.triton import messages
from autotune.backends.triton.jobs import Rules, per_shape
from autotune.backends.triton.processes import Processes, TritonWorker
from autotune.backends.triton.resources import resource_details
from autotune.backends.triton.session_cache import keys_of
from autotune.core.outcomes import Detail, Failed, FailureKind, Outcome, Trial, timed_or_failed
from autotune.core.search.messages import Compare
from autotune.core.search.rounds import is_decided
from autotune.shell.evaluators.protocol import Rounds, WallClock
from autotune.shell.processes.pool import Lost

DESK = 0
LONGER, LONGER_S = 5, 10.0
"""How many times the rounds that were asked for, and how many seconds beyond these, where it is not is_decided."""


@dataclass(eq=False)
class Entry:
    """A config in the contest. slot: what the GPU's process calls it. each_ms: on each workload, in every round.

    keys: in Triton's cache, of what it launches.
    """

    trial: Trial
    slot: int
    stage: Literal["waiting", "compiling", "compiled", "prepared", "verified"] = "waiting"
    worker: TritonWorker | None = None
    fresh: bool = False
    compile_s: float = 0.0
    run_s: float = 0.0
    times_ms: list[float] = field(default_factory=list)
    each_ms: list[tuple[float, ...]] = field(default_factory=list)
    gauges: list[dict[str, Detail]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    details: dict[str, Detail] = field(default_factory=dict)
    failed: Failed | None = None


class TritonComparison:
    """combine: the objective, of the times on each workload."""

    def __init__(
        self, task: Compare, hub: Processes, clock: WallClock, rules: Rules, combine: Callable[[Sequence[float]], float]
    ) -> None:
        self._entries = [Entry(trial, slot) for slot, trial in enumerate(task.trials)]
        if hub.compile_pool is None:
            for entry in self._entries:
                entry.stage = "compiled"
        self._processes = hub
        self._least = task.rounds
        self._rounds = Rounds(replace(task, rounds=LONGER * task.rounds), clock)
        self._clock = clock
        self._extra_since: float | None = None
        self._compile_timeout_s = rules.compile_timeout_s
        self._run_timeout_s = rules.run_timeout_s
        self._names = rules.names
        self._combine = combine
        self._acting: Entry | None = None
        self._sampled = False
        self._desk: TritonWorker | None = None

    def advance(self) -> tuple[tuple[int, Outcome], ...] | None:
        """Give the next orders; the outcomes once there are none left, and None before."""
        if self._acting is not None or self._compile_some():
            return None
        entry = self._next()
        if entry is None:
            return self._outcomes()
        self._order(entry)
        return None

    def _next(self) -> Entry | None:
        """The entry that is to do something; None once all rounds are over and all entries are verified."""
        alive = self._alive
        if not self._sampled:
            entry = min(alive, key=self._turn, default=None)
            begins = entry is not None and entry.stage == "prepared" and len({len(e.times_ms) for e in alive}) == 1
            if not begins or not self._over(alive):
                return entry
            self._sampled = True
        return next((entry for entry in alive if entry.stage != "verified"), None)

    @property
    def keys(self) -> dict[int, set[str]]:
        """Of each trial that works."""
        return {entry.trial.id: entry.keys for entry in self._alive}

    def take_reply(self, worker: TritonWorker, reply: messages.TritonReply | Lost) -> None:
        """Take in what one of our workers answered, or that it is gone."""
        entry = next((e for e in self._entries if e.worker is worker), None)
        if entry is not None:
            entry.worker = None
            self._compiled(entry, worker, reply)
        elif self._acting is not None and worker is self._desk:
            entry, self._acting = self._acting, None
            self._acted(entry, worker, reply)

    def _turn(self, entry: Entry) -> tuple[bool, int, int]:
        """What is not prepared comes first; then round after round, and within one in its order."""
        done = len(entry.times_ms)
        return entry.stage == "prepared", done, self._rounds.order(done).index(entry.slot)

    @property
    def _alive(self) -> list[Entry]:
        return [entry for entry in self._entries if entry.failed is None]

    def _compile_some(self) -> bool:
        """Order compiles as far as there are workers; whether any is still to come. Most are in the cache already."""
        waiting = [entry for entry in self._alive if entry.stage == "waiting"]
        for entry in waiting:
            worker = self._processes.idle_compiler()
            if worker is None:
                break
            assert self._processes.compile_pool is not None, "there is a compile worker"
            entry.stage, entry.worker = "compiling", worker
            self._processes.compile_pool.send(
                worker, messages.CompileOrder(entry.trial.config.to_json()), self._compile_timeout_s
            )
        self._processes.start_compilers(sum(entry.stage == "waiting" for entry in self._alive))
        return any(entry.stage in ("waiting", "compiling") for entry in self._alive)

    def _compiled(self, entry: Entry, worker: TritonWorker, reply: messages.TritonReply | Lost) -> None:
        entry.stage = "compiled"
        match reply:
            case messages.Compiled(seconds, kernels):
                entry.compile_s, entry.details = seconds, resource_details(kernels, self._processes.gpu())
                entry.keys.update(keys_of(kernel.hash for kernel in kernels))
            case messages.NotCompiled(seconds, message, compiler):
                entry.compile_s = seconds
                entry.failed = Failed("compile_error", message, seconds) if compiler else None
            case Lost("timeout", message):
                entry.failed = Failed("compile_timeout", message, worker.allowed_s)
            case _:
                pass  # the process of the GPU will compile it
        if not isinstance(reply, Lost) and self._processes.compile_pool is not None:
            self._processes.compile_pool.release(worker)

    def _order(self, entry: Entry) -> None:
        desk = self._processes.gpu_worker(DESK, fresh=False)
        if desk is None:
            return
        if desk is not self._desk:  # it is another process, which knows nothing of what was prepared
            self._desk = desk
            for other in self._alive:
                other.stage = "compiled"
        if entry.stage == "prepared":
            order: messages.TritonOrder = (
                messages.VerifyOrder(entry.slot) if self._sampled else messages.SampleOrder(entry.slot)
            )
            allowed = self._run_timeout_s
        else:
            order = messages.PrepareOrder(entry.trial.config.to_json(), entry.slot)
            allowed = self._run_timeout_s + self._compile_timeout_s
        self._acting = entry
        self._processes.gpu_pools[DESK].send(desk, order, allowed)

    def _acted(self, entry: Entry, worker: TritonWorker, reply: messages.TritonReply | Lost) -> None:
        match reply:
            case messages.PrepareReply(seconds, keys):
                entry.keys.update(keys)
                entry.stage = "verified" if self._sampled and entry.stage == "prepared" else "prepared"
                entry.run_s += seconds
            case messages.SampleReply(times_ms, seconds, gauges):
                entry.times_ms.append(self._combine(times_ms))
                entry.each_ms.append(times_ms)
                entry.gauges.append(gauges)
                entry.run_s += seconds
            case messages.Refused(failed, spoilt):
                self._drop(entry, worker, failed, spoilt)
            case Lost("timeout", message):
                late: FailureKind = "run_timeout"
                self._drop(entry, worker, Failed(late, message), gone=True)
            case Lost(_, message):
                self._drop(entry, worker, Failed("crash", message), gone=True)
            case _:
                self._drop(entry, worker, Failed("crash", "it answered something that was not asked"), gone=True)

    def _drop(self, entry: Entry, worker: TritonWorker, failed: Failed, gone: bool) -> None:
        """The entry failed. What the others may have caused gets one more try, in a process that starts anew."""
        if gone:
            self._processes.gpu_pools[DESK].kill(worker)
            self._desk = None
        if failed.kind in ("crash", "out_of_memory") and not entry.fresh and len(self._alive) > 1 and gone:
            entry.fresh = True
        else:
            entry.failed = replace(failed, compile_s=entry.compile_s, run_s=entry.run_s)

    def _over(self, alive: list[Entry]) -> bool:
        done = len(alive[0].times_ms)
        if self._rounds.over(done):
            return True
        if done < self._least:
            return False
        if self._extra_since is None:
            self._extra_since = self._clock()
        return self._clock() - self._extra_since > LONGER_S or is_decided([entry.times_ms for entry in alive])

    def _outcomes(self) -> tuple[tuple[int, Outcome], ...]:
        pool = self._processes.gpu_pools[DESK]
        if self._desk is not None and self._desk in pool:
            pool.send(self._desk, messages.ForgetOrder(), self._run_timeout_s)
        return tuple((entry.trial.id, self._outcome(entry)) for entry in self._entries)

    def _outcome(self, entry: Entry) -> Outcome:
        if entry.failed is not None:
            return entry.failed
        details = {
            **entry.details,
            **per_shape(self._names, list(zip(*entry.each_ms, strict=True))),
            **typical(entry.gauges),
        }
        return replace(timed_or_failed(entry.times_ms, entry.compile_s, entry.run_s), details=details)


def typical(gauges: Sequence[dict[str, Detail]]) -> dict[str, Detail]:
    """Of each gauge that was read, the median of what it showed."""
    shown: dict[str, list[float]] = {}
    for one in gauges:
        for name, value in one.items():
            if isinstance(value, int | float):
                shown.setdefault(name, []).append(value)
    return {name: median_low(values) for name, values in shown.items()}
