"""A Triton session: configs compile side by side ahead of the GPUs, and each GPU times compiled configs one at a time.

The law: every trial that is submitted gets one outcome. A compile that hangs costs its own worker's time. A config that
kills or spoils a GPU worker costs that config alone: the one queued behind it goes back to where it was, and one that
an earlier config may have harmed is tried again in a fresh process.
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
from autotune.backends.triton.gpu_sources import TritonWorker
from autotune.backends.triton.jobs import (
    CompileVerdict,
    Job,
    SessionRules,
    SharedBinaries,
    default_times,
    reply_seconds,
    require_launches,
    timed_outcome,
)
from autotune.backends.triton.processes import CompileWorker, Processes
from autotune.backends.triton.resources import find_misfit, resource_details
from autotune.backends.triton.session_cache import FASTEST, keys_of
from autotune.core.outcomes import Failed, FailureKind, Outcome, Timed, Trial
from autotune.core.search.messages import Compare, Compared, Event, Limits, Observed
from autotune.shell.evaluators.protocol import SAMPLING_SHARE, WallClock, WorkerSession
from autotune.shell.processes.pool import Lost
from autotune.shell.timeline import NO_TRIAL, Activity, Timeline

_PATIENCE_S = 2.0
"""Seconds that a kernel which nobody waits for may go on before its process is killed."""


class TritonSession(WorkerSession):
    """See `TritonEvaluator`. past: the events of a journal that the session goes on after."""

    def __init__(
        self,
        processes: Processes,
        rules: SessionRules,
        clock: WallClock,
        timeline: Timeline,
        past: Sequence[Event] = (),
    ) -> None:
        super().__init__(clock)
        self._processes = processes
        self._rules = rules
        self._timeline = timeline
        self._binaries = SharedBinaries(rules.binary_key)
        self._to_compile: deque[Job] = deque()
        self._compiling: dict[CompileWorker, Job] = {}
        self._gpu_queue = _GpuQueue(processes, rules, clock, timeline, past, self._report)
        self._comparison: TritonComparison | None = None
        self._blas_limits: Any = None
        self._keys: dict[int, set[str]] = {}
        self._finalists: tuple[int, ...] = ()
        self._time_of: dict[int, float] = {}

    @property
    def room(self) -> int:
        """As many trials as there are free compile workers, and `ahead` more; none while enough wait for the GPU."""
        if self._comparison is not None:
            return 0
        gpus, queue = len(self._processes.gpu_pools), self._gpu_queue
        if self._processes.compile_pool is None:
            return max(0, gpus + (gpus > 1) - len(queue.ready) - queue.running)
        workers, ahead = self._processes.layout.compile_workers, self._rules.ahead
        to_compile = workers + ahead - len(self._to_compile) - len(self._compiling)
        to_run = max(workers + gpus, ahead) - len(queue.ready) - self._binaries.waiting
        return max(0, min(to_compile, to_run))

    def submit(self, trials: Sequence[Trial], limits: Limits) -> None:
        """Queue trials; compiling begins at once."""
        for trial in trials:
            self._enter(Job(trial, limits))
        self._dispatch()

    def compare(self, task: Compare) -> None:
        """Queue a comparison: all its configs in one GPU worker, one sample of each in turn."""
        self._comparison = TritonComparison(
            task,
            self._processes,
            self._clock,
            self._rules,
            lambda times: self._rules.objective(times, self._gpu_queue.default_ms),
        )
        self._dispatch()

    def abandon(self) -> None:
        """Drop everything. Compilers are killed; a kernel that runs may go on for _PATIENCE_S, so that its process
        stays usable."""
        self._to_compile.clear()
        self._compiling.clear()
        self._binaries.clear_waiting()
        self._news.clear()
        self._timeline.end_all(self.now())
        if self._comparison is not None:
            self._comparison = None
            busy = [worker for pool in self._processes.gpu_pools for worker in pool.busy_workers()]
            for worker in busy:
                if worker.order != "start":
                    worker.shorten_deadline(_PATIENCE_S)
        if self._processes.compile_pool is not None:
            self._processes.compile_pool.kill_busy()
        self._gpu_queue.abandon()

    def __enter__(self) -> Self:
        if self._processes.compile_pool is not None:
            # The compilers have all cores. A model that computes on as many threads would wait for itself.
            self._blas_limits = ThreadpoolController().limit(limits=1, user_api="blas")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._blas_limits is not None:
            self._blas_limits.restore_original_limits()
        now = self.now()
        for lane, age_s, loading_s in self._processes.loaded_servers():
            self._timeline.add_span(lane, "start", NO_TRIAL, now - age_s, now - age_s + loading_s)
        self._timeline.close(now)
        # One of the configs that were compared last, or of the fastest, is the pick: their kernels stay.
        kept = self._finalists or nsmallest(FASTEST, self._time_of, self._time_of.__getitem__)
        self._processes.close(set().union(*(self._keys.get(trial, ()) for trial in kept)))

    @property
    def _busy(self) -> bool:
        return bool(self._to_compile or self._compiling or self._gpu_queue.wanted or self._comparison)

    def _enter(self, job: Job) -> None:
        """A job goes to the GPU as it is, or after its binary has been compiled, which it may share with others."""
        if self._processes.compile_pool is None:
            self._gpu_queue.ready.append(job)
        elif (verdict := self._binaries.verdict(job)) is not None:
            self._take_verdict(job, verdict)
        elif self._binaries.claim(job):
            self._to_compile.append(job)

    def _dispatch(self) -> None:
        self._processes.start_gpu_workers()
        if self._comparison is not None:
            if not (self._to_compile or self._compiling or self._gpu_queue.ready or self._gpu_queue.running):
                self._advance_comparison(self._comparison)
            return
        self._gpu_queue.send_orders()
        self._send_compiles()

    def _advance_comparison(self, comparison: TritonComparison) -> None:
        outcomes = comparison.advance()
        if outcomes is not None:
            self._comparison = None
            for trial, keys in comparison.keys.items():
                self._keys.setdefault(trial, set()).update(keys)
            self._finalists = tuple(comparison.keys) or self._finalists
            self._news.append(Compared(self.now(), outcomes))

    def _send_compiles(self) -> None:
        while self._to_compile and (worker := self._processes.idle_compiler()) is not None:
            job = self._to_compile.popleft()
            self._compiling[worker], job.sent_s = job, self.now()
            assert self._processes.compile_pool is not None, "there is a compile worker"
            order = messages.CompileOrder(job.trial.config.to_json())
            allowed_s = job.limits.compile_seconds(self._rules.compile_timeout_s)
            self._processes.compile_pool.send(worker, order, allowed_s)
            self._timeline.begin(self._lane(worker), "compile", job.trial.id, worker, self.now())
        self._processes.start_compilers(len(self._to_compile))

    def _receive(self, seconds: float) -> bool:
        replies = self._processes.wait(seconds)
        for worker, reply in replies:
            self._take_reply(worker, reply)
        return bool(replies)

    def _take_reply(self, worker: Any, reply: messages.TritonReply | Lost) -> None:
        now, seconds = self.now(), reply_seconds(reply)
        self._timeline.end(worker, now, seconds)
        if worker in self._compiling:
            job = self._compiling.pop(worker)
            end = now if seconds is None else min(now, job.sent_s + seconds)
            job.add_work(self._lane(worker), "compile", job.sent_s, end)
            self._take_compiled(worker, job, reply)
        elif self._gpu_queue.receive(worker, reply):
            pass
        elif isinstance(reply, messages.ReadyReply):
            self._timeline.add_span(self._lane(worker), "start", NO_TRIAL, now - worker.age_s, now)
        elif self._comparison is not None:
            if seconds is not None:
                what: Activity = "run" if self._processes.index_of(worker) is not None else "compile"
                self._timeline.add_span(self._lane(worker), what, NO_TRIAL, now - seconds, now)
            self._comparison.receive(worker, reply)
        elif isinstance(reply, messages.Refused) and reply.spoilt:
            self._gpu_queue.replace_worker(worker)

    def _lane(self, worker: TritonWorker) -> str:
        """The worker's name in the timeline."""
        i = self._processes.index_of(worker)
        return f"compile {worker.pid}" if i is None else f"gpu {i}"

    def _take_compiled(self, worker: CompileWorker, job: Job, reply: messages.TritonReply | Lost) -> None:
        pool = self._processes.compile_pool
        assert pool is not None, "a compile worker has answered"
        match reply:
            case messages.Compiled() | messages.NotCompiled():
                self._settle(job, reply)
            case Lost("timeout", message):
                self._settle(job, Failed("compile_timeout", f"compiling: {message}", worker.allowed_s))
            case Lost("crash", message) if worker.served > 1 and not job.fresh:
                job.fresh = True
                self._to_compile.appendleft(job)
            case Lost(_, message):
                self._settle(job, Failed("crash", f"compiling: {message}"))
            case _:
                self._settle(job, Failed("crash", "the compile worker answered something that was not asked"))
        if not isinstance(reply, Lost):
            pool.release(worker)

    def _settle(self, job: Job, verdict: CompileVerdict) -> None:
        """The verdict on the binary of this job goes to all jobs that share it."""
        for one in (job, *self._binaries.settle(job, verdict)):
            self._take_verdict(one, verdict)

    def _take_verdict(self, job: Job, verdict: CompileVerdict) -> None:
        refused: Failed | None = None
        match verdict:
            case messages.Compiled(seconds, kernels):
                job.launches = require_launches(self._rules, job.trial.config, verdict)
                gpu = self._processes.gpu()
                job.compile_s, job.compiled, job.details = seconds, True, resource_details(kernels, gpu)
                job.keys.update(keys_of(kernel.hash for kernel in kernels))
                refused = next((f for k in kernels if gpu is not None and (f := find_misfit(k, gpu)) is not None), None)
            case messages.NotCompiled(seconds, message, compiler):
                require_launches(self._rules, job.trial.config, verdict)
                job.compile_s = seconds
                # Without a GPU worker, nobody can say more about an error that is not the compiler's.
                refused = Failed("compile_error", message) if compiler or not self._processes.gpu_pools else None
            case Failed():
                job.compile_s, refused = verdict.compile_s, verdict
        if refused is not None:
            self._report(job, refused)
        elif not self._processes.gpu_pools:
            self._report(job, Failed("skipped", "compiled, and not run"))
        else:
            self._gpu_queue.ready.append(job)

    def _report(self, job: Job, outcome: Outcome) -> None:
        if isinstance(outcome, Timed):
            self._keys.setdefault(job.trial.id, set()).update(job.keys)
            self._time_of[job.trial.id] = outcome.time_ms
        whole = replace(
            outcome, compile_s=max(job.compile_s, outcome.compile_s), details={**job.details, **outcome.details}
        )
        self._news.append(Observed(self.now(), job.trial.id, whole, tuple(job.work)))


class _GpuQueue:
    """The jobs that wait for a GPU, and those that were handed to a GPU worker: each times one at a time, and has the
    next one already.

    ready: the jobs that can run, in the order in which they will. default_ms: the times of the default config, for a
    relative objective. report: told the outcome of each job.
    """

    def __init__(
        self,
        processes: Processes,
        rules: SessionRules,
        clock: WallClock,
        timeline: Timeline,
        past: Sequence[Event],
        report: Callable[[Job, Outcome], None],
    ) -> None:
        self.ready: deque[Job] = deque()
        self.default_ms = default_times(past, rules.names) if rules.objective.relative else None
        self._processes = processes
        self._rules = rules
        self._clock = clock
        self._timeline = timeline
        self._report = report
        self._running: dict[TritonWorker, deque[Job]] = {}

    @property
    def running(self) -> int:
        """How many jobs have been handed to a GPU worker."""
        return sum(map(len, self._running.values()))

    @property
    def wanted(self) -> bool:
        """Whether the search still waits for any job here."""
        return bool(self.ready) or any(not job.dropped for jobs in self._running.values() for job in jobs)

    def send_orders(self) -> None:
        """Hand out the jobs that can run: first to the GPUs that have nothing to do, then one ahead to each."""
        for i in range(len(self._processes.gpu_pools)):
            if not self.ready:
                if not any(self._processes.index_of(worker) == i for worker in self._running):
                    self._processes.release_gpu(i)
                continue
            worker = self._processes.gpu_worker(i, self.ready[0].fresh)
            if worker is not None:
                self._send(i, worker)
        for worker in self._running:
            at = self._processes.index_of(worker)
            if at is not None and self.ready and not self.ready[0].fresh and worker.following is None:
                self._send(at, worker)

    def receive(self, worker: TritonWorker, reply: messages.TritonReply | Lost) -> bool:
        """Take in a reply if it is to one of these jobs; whether it is."""
        if worker not in self._running:
            return False
        job = self._running[worker].popleft()
        self._note_run(worker, job, reply)
        if isinstance(reply, messages.Refused) and reply.spoilt:
            self.replace_worker(worker)
        if isinstance(reply, Lost) or self._processes.index_of(worker) is None:
            self.ready.extendleft(other for other in reversed(self._running[worker]) if not other.dropped)
            self._running[worker].clear()
        if not self._running[worker]:
            del self._running[worker]
        if not job.dropped:
            self._take_run(worker, job, reply)
        return True

    def replace_worker(self, worker: TritonWorker) -> None:
        """End a GPU worker that cannot be trusted, and start the next one."""
        i = self._processes.index_of(worker)
        if i is not None:
            self._processes.gpu_pools[i].kill(worker)
            self._processes.start_gpu_workers()

    def abandon(self) -> None:
        """Drop all jobs; a kernel that runs may go on for _PATIENCE_S."""
        self.ready.clear()
        for worker, jobs in self._running.items():
            worker.shorten_deadline(_PATIENCE_S)
            for job in jobs:
                job.dropped = True

    def _send(self, i: int, worker: TritonWorker) -> None:
        job = self.ready.popleft()
        job.used, job.gpu = worker.served > 0, i
        self._running.setdefault(worker, deque()).append(job)
        run_s = self._rules.run_timeout_s
        compile_s = 0.0 if job.compiled else self._rules.compile_timeout_s  # then the GPU worker compiles it
        order = messages.MeasureOrder(
            config=job.trial.config.to_json(),
            cutoff_ms=job.limits.cutoff_ms,
            budget_s=SAMPLING_SHARE * run_s,
            default_ms=self.default_ms,
            near_ms=job.limits.near_ms,
            launches=job.launches,
        )
        self._processes.gpu_pools[i].send(worker, order, run_s + compile_s)

    def _note_run(self, worker: TritonWorker, job: Job, reply: messages.TritonReply | Lost) -> None:
        """Note when the job ran, by the worker's own account: this process may have been busy when it was done."""
        now, own = self._clock(), time.monotonic()
        began = worker.deadline - worker.allowed_s
        if isinstance(reply, messages.MeasureReply | messages.Refused):
            began = reply.began
        start, took = now - (own - began), reply_seconds(reply)
        end = now if took is None else min(now, start + took)
        self._timeline.add_span(f"gpu {job.gpu}", "run", job.trial.id, start, end)
        job.add_work(f"gpu {job.gpu}", "run", start, end)

    def _take_run(self, worker: TritonWorker, job: Job, reply: messages.TritonReply | Lost) -> None:
        match reply:
            case messages.MeasureReply():
                job.keys.update(reply.keys)
                self._note_default(job, reply)
                self._report(job, timed_outcome(reply, self._rules, self.default_ms))
            case messages.Refused(suspect=True) if job.used:
                self._retry(job)
            case messages.Refused():
                self._report(job, reply.failed)
            case Lost("timeout", message):
                kind: FailureKind = "run_timeout"
                self._report(job, Failed(kind, f"running: {message}", run_s=worker.allowed_s))
            case Lost("crash", message) if job.used:
                self._retry(job)
            case Lost(_, message):
                self._report(job, Failed("crash", f"running: {message}"))
            case _:
                self._report(job, Failed("crash", "the process of the GPU answered something that was not asked"))

    def _retry(self, job: Job) -> None:
        """Run a job once more, in a fresh process: an earlier config may have harmed it."""
        job.fresh = True
        self.ready.appendleft(job)

    def _note_default(self, job: Job, measured: messages.MeasureReply) -> None:
        """Note the times of the default config, where the objective is relative to them."""
        is_default = job.trial.origin == "default" and self._rules.objective.relative and not measured.cut
        if is_default and all(measured.times_ms):
            self.default_ms = tuple(map(median, measured.times_ms))
