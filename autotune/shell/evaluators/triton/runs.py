"""Compiled configs on their way through the GPUs: each GPU's process times one at a time, and has the next one already.

What kills or spoils a GPU's process costs that one config; the one behind it goes back to where it was, and one that an
earlier config may have harmed is tried again in a fresh process.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from statistics import median

from autotune.core.outcomes import Failed, FailureKind, Outcome
from autotune.core.search.messages import Event
from autotune.shell.evaluators.protocol import WallClock
from autotune.shell.evaluators.triton import wire
from autotune.shell.evaluators.triton.hub import Hub, TritonWorker
from autotune.shell.evaluators.triton.jobs import Job, Rules, default_times, replace_fresh, seconds_of, timed
from autotune.shell.evaluators.triton.timeline import Timeline
from autotune.shell.evaluators.worker import Lost

SAMPLING_SHARE = 0.8
PATIENCE_S = 2.0
"""How long a kernel that nobody wants any more may go on before its process is killed."""


class Runs:
    """ready: those that can be run, in the order in which they will be. report: told what became of each."""

    def __init__(
        self, hub: Hub, rules: Rules, clock: WallClock, timeline: Timeline, past: Sequence[Event],
        report: Callable[[Job, Outcome], None],
    ) -> None:  # fmt: skip
        self.ready: deque[Job] = deque()
        self.default_ms = default_times(past, rules.names) if rules.objective.relative else None
        self._hub = hub
        self._rules = rules
        self._clock = clock
        self._timeline = timeline
        self._report = report
        self._running: dict[TritonWorker, deque[Job]] = {}

    @property
    def running(self) -> int:
        """How many have been handed to a GPU's process."""
        return sum(map(len, self._running.values()))

    @property
    def wanted(self) -> bool:
        """Whether there is anything that somebody still waits for."""
        return bool(self.ready) or any(not job.dropped for jobs in self._running.values() for job in jobs)

    def give(self) -> None:
        """Hand out what can be: first to the GPUs that have nothing to do, then one ahead to each."""
        for i in range(len(self._hub.desks)):
            if not self.ready:
                if not any(self._hub.index_of(worker) == i for worker in self._running):
                    self._hub.leave(i)
                continue
            worker = self._hub.desk(i, self.ready[0].fresh)
            if worker is not None:
                self._run(i, worker)
        for worker in self._running:
            at = self._hub.index_of(worker)
            if at is not None and self.ready and not self.ready[0].fresh and worker.following is None:
                self._run(at, worker)

    def hear(self, worker: TritonWorker, reply: wire.Reply | Lost) -> bool:
        """Take in a reply if it is to one of these."""
        if worker not in self._running:
            return False
        job = self._running[worker].popleft()
        self._note(worker, job, reply)
        if isinstance(reply, wire.Refused) and reply.spoilt:
            self.let_go(worker)
        if isinstance(reply, Lost) or self._hub.index_of(worker) is None:
            self.ready.extendleft(other for other in reversed(self._running[worker]) if not other.dropped)
            self._running[worker].clear()
        if not self._running[worker]:
            del self._running[worker]
        if not job.dropped:
            self._ran(worker, job, reply)
        return True

    def let_go(self, worker: TritonWorker) -> None:
        """End a GPU's process that is not to be trusted, and start the next one."""
        i = self._hub.index_of(worker)
        if i is not None:
            self._hub.desks[i].dismiss(worker)
            self._hub.warm()

    def abandon(self) -> None:
        """Nobody wants any of it; a kernel that runs may end, for a while, so that its process can go on."""
        self.ready.clear()
        for worker, jobs in self._running.items():
            worker.hurry(PATIENCE_S)
            for job in jobs:
                job.dropped = True

    def _run(self, i: int, worker: TritonWorker) -> None:
        job = self.ready.popleft()
        job.used, job.gpu = worker.served > 0, i
        self._running.setdefault(worker, deque()).append(job)
        allowed = self._rules.run_timeout_s
        late = 0.0 if job.compiled else self._rules.compile_timeout_s  # what is not compiled yet, is now
        limits = job.limits
        order = wire.Measure(
            job.trial.config.to_json(), limits.cutoff_ms, SAMPLING_SHARE * allowed, self.default_ms, limits.near_ms
        )
        self._hub.desks[i].give(worker, order, allowed + late)

    def _note(self, worker: TritonWorker, job: Job, reply: wire.Reply | Lost) -> None:
        """When it ran, by the process's own account: we may have been busy elsewhere when it was done."""
        now, own = self._clock(), time.monotonic()
        began = reply.began if isinstance(reply, wire.Measured | wire.Refused) else worker.deadline - worker.allowed_s
        start, took = now - (own - began), seconds_of(reply)
        self._timeline.note(
            f"gpu {job.gpu}", "run", job.trial.id, start, now if took is None else min(now, start + took)
        )

    def _ran(self, worker: TritonWorker, job: Job, reply: wire.Reply | Lost) -> None:
        match reply:
            case wire.Measured():
                job.keys.update(reply.keys)
                self._report(job, timed(reply, self._rules, self._default_ms_with(job, reply)))
            case wire.Refused(suspect=True) if job.used:
                self.ready.appendleft(replace_fresh(job))
            case wire.Refused(failed):
                self._report(job, failed)
            case Lost("timeout", message):
                kind: FailureKind = "run_timeout"
                self._report(job, Failed(kind, f"running: {message}", run_s=worker.allowed_s))
            case Lost("crash", message) if job.used:
                self.ready.appendleft(replace_fresh(job))
            case Lost(_, message):
                self._report(job, Failed("crash", f"running: {message}"))
            case _:
                self._report(job, Failed("crash", "the process of the GPU answered something that was not asked"))

    def _default_ms_with(self, job: Job, measured: wire.Measured) -> tuple[float, ...] | None:
        """What the default takes on each workload, where the objective needs it; the default itself is noted."""
        of_default = job.trial.origin == "default" and self._rules.objective.relative and not measured.cut
        if of_default and all(measured.times_ms):
            self.default_ms = tuple(map(median, measured.times_ms))
        return self.default_ms
