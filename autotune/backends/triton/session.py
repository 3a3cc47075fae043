"""A pipeline: configs compile side by side ahead of the GPUs, and each GPU times what is compiled, one at a time.

The law: every trial submitted gets one outcome; a compile that hangs costs its worker's time and nobody else's; what
kills or spoils a GPU's process costs that one config, and one that an earlier config may have harmed is tried again.

Compiled configs on their way through the GPUs: each GPU's process times one at a time, and has the next one already.

What kills or spoils a GPU's process costs that one config; the one behind it goes back to where it was, and one that an
earlier config may have harmed is tried again in a fresh process.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from heapq import nsmallest
from statistics import median
from types import TracebackType
from typing import Any, Self

from msgspec.structs import replace
from threadpoolctl import ThreadpoolController

from autotune.backends.triton import messages
from autotune.backends.triton.comparison import TritonComparison
from autotune.backends.triton.jobs import (
    Job,
    Rules,
    SharedBinaries,
    Verdict,
    default_times,
    replace_fresh,
    reply_seconds,
    timed,
)
from autotune.backends.triton.processes import Processes, TritonWorker
from autotune.backends.triton.resources import find_misfit, resource_details
from autotune.backends.triton.session_cache import FASTEST, keys_of
from autotune.core.outcomes import Failed, FailureKind, Outcome, Timed, Trial
from autotune.core.search.messages import Compare, Compared, Event, Limits, Observed
from autotune.shell.evaluators.protocol import WallClock
from autotune.shell.processes.pool import Lost
from autotune.shell.timeline import NO_TRIAL, Activity, Timeline

SAMPLING_SHARE = 0.8
PATIENCE_S = 2.0
"""How long a kernel that nobody wants any more may go on before its process is killed."""


class GpuQueue:
    """ready: those that can be run, in the order in which they will be. report: told what became of each."""

    def __init__(
        self, hub: Processes, rules: Rules, clock: WallClock, timeline: Timeline, past: Sequence[Event],
        report: Callable[[Job, Outcome], None],
    ) -> None:  # fmt: skip
        self.ready: deque[Job] = deque()
        self.default_ms = default_times(past, rules.names) if rules.objective.relative else None
        self._processes = hub
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
        for i in range(len(self._processes.gpu_pools)):
            if not self.ready:
                if not any(self._processes.index_of(worker) == i for worker in self._running):
                    self._processes.release_gpu(i)
                continue
            worker = self._processes.gpu_worker(i, self.ready[0].fresh)
            if worker is not None:
                self._run(i, worker)
        for worker in self._running:
            at = self._processes.index_of(worker)
            if at is not None and self.ready and not self.ready[0].fresh and worker.following is None:
                self._run(at, worker)

    def hear(self, worker: TritonWorker, reply: messages.TritonReply | Lost) -> bool:
        """Take in a reply if it is to one of these."""
        if worker not in self._running:
            return False
        job = self._running[worker].popleft()
        self._note(worker, job, reply)
        if isinstance(reply, messages.Refused) and reply.spoilt:
            self.let_go(worker)
        if isinstance(reply, Lost) or self._processes.index_of(worker) is None:
            self.ready.extendleft(other for other in reversed(self._running[worker]) if not other.dropped)
            self._running[worker].clear()
        if not self._running[worker]:
            del self._running[worker]
        if not job.dropped:
            self._ran(worker, job, reply)
        return True

    def let_go(self, worker: TritonWorker) -> None:
        """End a GPU's process that is not to be trusted, and start the next one."""
        i = self._processes.index_of(worker)
        if i is not None:
            self._processes.gpu_pools[i].kill(worker)
            self._processes.start_gpu_workers()

    def abandon(self) -> None:
        """Nobody wants any of it; a kernel that runs may end, for a while, so that its process can go on."""
        self.ready.clear()
        for worker, jobs in self._running.items():
            worker.shorten_deadline(PATIENCE_S)
            for job in jobs:
                job.dropped = True

    def _run(self, i: int, worker: TritonWorker) -> None:
        job = self.ready.popleft()
        job.used, job.gpu = worker.served > 0, i
        self._running.setdefault(worker, deque()).append(job)
        allowed = self._rules.run_timeout_s
        late = 0.0 if job.compiled else self._rules.compile_timeout_s  # what is not compiled yet, is now
        limits = job.limits
        order = messages.MeasureOrder(
            job.trial.config.to_json(), limits.cutoff_ms, SAMPLING_SHARE * allowed, self.default_ms, limits.near_ms
        )
        self._processes.gpu_pools[i].send(worker, order, allowed + late)

    def _note(self, worker: TritonWorker, job: Job, reply: messages.TritonReply | Lost) -> None:
        """When it ran, by the process's own account: we may have been busy elsewhere when it was done."""
        now, own = self._clock(), time.monotonic()
        began = (
            reply.began
            if isinstance(reply, messages.MeasureReply | messages.Refused)
            else worker.deadline - worker.allowed_s
        )
        start, took = now - (own - began), reply_seconds(reply)
        self._timeline.note(
            f"gpu {job.gpu}", "run", job.trial.id, start, now if took is None else min(now, start + took)
        )

    def _ran(self, worker: TritonWorker, job: Job, reply: messages.TritonReply | Lost) -> None:
        match reply:
            case messages.MeasureReply():
                job.keys.update(reply.keys)
                self._report(job, timed(reply, self._rules, self._default_ms_with(job, reply)))
            case messages.Refused(suspect=True) if job.used:
                self.ready.appendleft(replace_fresh(job))
            case messages.Refused(failed):
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

    def _default_ms_with(self, job: Job, measured: messages.MeasureReply) -> tuple[float, ...] | None:
        """What the default takes on each workload, where the objective needs it; the default itself is noted."""
        of_default = job.trial.origin == "default" and self._rules.objective.relative and not measured.cut
        if of_default and all(measured.times_ms):
            self.default_ms = tuple(map(median, measured.times_ms))
        return self.default_ms


LONGEST_POLL_S = 0.25


class TritonSession:
    """See `TritonEvaluator`."""

    def __init__(
        self, hub: Processes, rules: Rules, clock: WallClock, timeline: Timeline, past: Sequence[Event] = ()
    ) -> None:
        self._processes = hub
        self._rules = rules
        self._clock = clock
        self._timeline = timeline
        self._binaries = SharedBinaries(rules.binary)
        self._queue: deque[Job] = deque()
        self._compiling: dict[TritonWorker, Job] = {}
        self._comparison: TritonComparison | None = None
        self._news: list[Observed | Compared] = []
        self._limited: Any = None
        self._keys: dict[int, set[str]] = {}
        self._finalists: tuple[int, ...] = ()
        self._time_of: dict[int, float] = {}
        self._runs = GpuQueue(hub, rules, clock, timeline, past, self._report)

    @property
    def room(self) -> int:
        """As many as there are free compile workers, and `ahead` more; none while enough wait for the GPU."""
        if self._comparison is not None:
            return 0
        if self._processes.compile_pool is None:
            gpus = len(self._processes.gpu_pools)
            return max(0, gpus + (gpus > 1) - len(self._runs.ready) - self._runs.running)
        workers, ahead = self._processes.layout.compile_workers, self._rules.ahead
        to_compile = workers + ahead - len(self._queue) - len(self._compiling)
        to_run = max(workers + len(self._processes.gpu_pools), ahead) - len(self._runs.ready) - self._binaries.waiting
        return max(0, min(to_compile, to_run))

    @property
    def idle(self) -> bool:
        """Whether nothing is queued, running or waiting to be reported."""
        return not (self._under_way or self._news)

    def now(self) -> float:
        """Seconds since the search began."""
        return self._clock()

    def submit(self, trials: Sequence[Trial], limits: Limits) -> None:
        """Queue trials; compiling begins at once."""
        for trial in trials:
            self._enter(Job(trial, limits))
        self._dispatch()

    def compare(self, task: Compare) -> None:
        """Queue a comparison: all its configs in the process of one GPU, one sample of each in turn."""
        rules = self._rules
        self._comparison = TritonComparison(
            task, self._processes, self._clock, rules, lambda times: rules.objective(times, self._runs.default_ms)
        )
        self._dispatch()

    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        """What has finished; empty as soon as there is room for more, so that no compile worker waits for the GPU."""
        until = self.now() + (LONGEST_POLL_S if timeout_s is None else min(timeout_s, LONGEST_POLL_S))
        room = self.room
        while True:
            self._dispatch()
            left = until - self.now()
            news = self._processes.wait(0.0 if self._news else max(0.0, left)) if self._under_way else []
            for worker, reply in news:
                self._hear(worker, reply)
            if news:
                self._dispatch()
            if self._news or not self._under_way or left <= 0 or self.room > room:
                found, self._news = self._news, []
                return found

    def abandon(self) -> None:
        """Drop all. Compilers are killed; a kernel that runs may end, for a while, so that its process can go on."""
        self._queue.clear()
        self._compiling.clear()
        self._binaries.give_up()
        self._news.clear()
        self._timeline.end_all(self.now())
        if self._comparison is not None:
            self._comparison = None
            for worker in self._busy_desks():
                worker.shorten_deadline(PATIENCE_S)
        if self._processes.compile_pool is not None:
            self._processes.compile_pool.kill_busy()
        self._runs.abandon()

    def __enter__(self) -> Self:
        if self._processes.compile_pool is not None:
            # The compilers have all cores. A model that computes on as many threads would wait for itself.
            self._limited = ThreadpoolController().limit(limits=1, user_api="blas")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._limited is not None:
            self._limited.restore_original_limits()
        now = self.now()
        for lane, age_s, loading_s in self._processes.loaded():
            self._timeline.note(lane, "start", NO_TRIAL, now - age_s, now - age_s + loading_s)
        self._timeline.close(now)
        self._processes.close(self._kept)

    @property
    def _kept(self) -> set[str]:
        """The kernels of the configs that were compared last, or of the fastest: one of these is the pick."""
        trials = self._finalists or nsmallest(FASTEST, self._time_of, self._time_of.__getitem__)
        return set().union(*(self._keys.get(trial, ()) for trial in trials))

    def _busy_desks(self) -> list[TritonWorker]:
        return [
            worker for pool in self._processes.gpu_pools for worker in pool.busy_workers() if worker.order != "start"
        ]

    @property
    def _under_way(self) -> bool:
        return bool(self._queue or self._compiling or self._runs.wanted or self._comparison)

    def _enter(self, job: Job) -> None:
        """A config is to be run as it is, or after its binary is there, which it may share with others."""
        if self._processes.compile_pool is None:
            self._runs.ready.append(job)
        elif (verdict := self._binaries.verdict(job)) is not None:
            self._built(job, verdict)
        elif self._binaries.claim(job):
            self._queue.append(job)

    def _dispatch(self) -> None:
        """Give out all orders that can be given now."""
        self._processes.start_gpu_workers()
        if self._comparison is not None:
            if not (self._queue or self._compiling or self._runs.ready or self._runs.running):
                self._advance(self._comparison)
            return
        self._runs.give()
        self._give_compiles()

    def _advance(self, contest: TritonComparison) -> None:
        outcomes = contest.advance()
        if outcomes is not None:
            self._comparison = None
            for trial, keys in contest.keys.items():
                self._keys.setdefault(trial, set()).update(keys)
            self._finalists = tuple(contest.keys) or self._finalists
            self._news.append(Compared(self.now(), outcomes))

    def _give_compiles(self) -> None:
        while self._queue and (worker := self._processes.idle_compiler()) is not None:
            job = self._queue.popleft()
            self._compiling[worker] = job
            limit = job.limits.compile_timeout_s
            allowed = self._rules.compile_timeout_s if limit is None else min(limit, self._rules.compile_timeout_s)
            assert self._processes.compile_pool is not None, "there is a compile worker"
            self._processes.compile_pool.send(worker, messages.CompileOrder(job.trial.config.to_json()), allowed)
            self._timeline.begin(self._lane(worker), "compile", job.trial.id, worker, self.now())
        self._processes.start_compilers(len(self._queue))

    def _hear(self, worker: TritonWorker, reply: messages.TritonReply | Lost) -> None:
        now, seconds = self.now(), reply_seconds(reply)
        self._timeline.end(worker, now, seconds)
        if worker in self._compiling:
            self._compiled(worker, self._compiling.pop(worker), reply)
        elif self._runs.hear(worker, reply):
            pass
        elif isinstance(reply, messages.ReadyReply):
            self._timeline.note(self._lane(worker), "start", NO_TRIAL, now - worker.age_s, now)
        elif self._comparison is not None:
            if seconds is not None:
                what: Activity = "run" if self._processes.index_of(worker) is not None else "compile"
                self._timeline.note(self._lane(worker), what, NO_TRIAL, now - seconds, now)
            self._comparison.take_reply(worker, reply)
        elif isinstance(reply, messages.Refused) and reply.spoilt:
            self._runs.let_go(worker)

    def _lane(self, worker: TritonWorker) -> str:
        """Its name in the timeline."""
        i = self._processes.index_of(worker)
        return f"compile {worker.process.pid}" if i is None else f"gpu {i}"

    def _compiled(self, worker: TritonWorker, job: Job, reply: messages.TritonReply | Lost) -> None:
        compile_pool = self._processes.compile_pool
        assert compile_pool is not None, "somebody has compiled"
        match reply:
            case messages.Compiled() | messages.NotCompiled():
                self._settle(job, reply)
            case Lost("timeout", message):
                self._settle(job, Failed("compile_timeout", f"compiling: {message}", worker.allowed_s))
            case Lost("crash", message) if worker.served > 1 and not job.fresh:
                self._queue.appendleft(replace_fresh(job))
            case Lost(_, message):
                self._settle(job, Failed("crash", f"compiling: {message}"))
            case _:
                self._settle(job, Failed("crash", "the compile worker answered something that was not asked"))
        if not isinstance(reply, Lost):
            compile_pool.release(worker)

    def _settle(self, job: Job, verdict: Verdict) -> None:
        """The binary that this config wanted is there, or will never be: that goes for all who share it."""
        for one in (job, *self._binaries.settle(job, verdict)):
            self._built(one, verdict)

    def _built(self, job: Job, verdict: Verdict) -> None:
        refused: Failed | None = None
        match verdict:
            case messages.Compiled(seconds, kernels):
                gpu = self._processes.gpu()
                job.compile_s, job.compiled, job.details = seconds, True, resource_details(kernels, gpu)
                job.keys.update(keys_of(kernel.hash for kernel in kernels))
                refused = next((f for k in kernels if gpu is not None and (f := find_misfit(k, gpu)) is not None), None)
            case messages.NotCompiled(seconds, message, compiler):
                job.compile_s = seconds
                refused = Failed("compile_error", message) if compiler else None
            case Failed():
                job.compile_s, refused = verdict.compile_s, verdict
        if refused is not None:
            self._report(job, refused)
        elif not self._processes.gpu_pools:
            self._report(job, Failed("skipped", "compiled, and not run"))
        else:
            self._runs.ready.append(job)

    def _report(self, job: Job, outcome: Outcome) -> None:
        if isinstance(outcome, Timed):
            self._keys.setdefault(job.trial.id, set()).update(job.keys)
            self._time_of[job.trial.id] = outcome.time_ms
        whole = replace(outcome, compile_s=job.compile_s, details={**job.details, **outcome.details})
        self._news.append(Observed(self.now(), job.trial.id, whole))
