"""A session whose configs are built and timed in worker processes: many may build, one at a time is timed."""

import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from msgspec.structs import replace

from autotune.core.outcomes import Failed, FailureKind, Outcome, Trial
from autotune.core.search.messages import Compare, Compared, Limits, Observed
from autotune.shell.evaluators import messages
from autotune.shell.evaluators.comparison import Comparison, Contender, Step
from autotune.shell.evaluators.protocol import SAMPLING_SHARE, WorkerSession
from autotune.shell.evaluators.workload import Workload, pack
from autotune.shell.processes.os_process import Process, boot, unnamed_file
from autotune.shell.processes.pool import Lost, Worker, WorkerPool

SUSPECT: frozenset[FailureKind] = frozenset({"crash", "out_of_memory", "wrong_answer"})
"""Failures after which a worker's memory is not to be trusted."""

EXCUSABLE: frozenset[FailureKind] = frozenset({"crash", "out_of_memory"})
"""Failures that an earlier config of the same worker may have caused: they get a second chance in a fresh worker."""

SPARES = 6
"""Idle workers that are kept at least: as many as a verification compares by default, which wants them all at once."""


class WorkerRules(NamedTuple):
    """workers: how many configs may be built or wait for their turn; overlap: builds go on while a kernel is timed.

    apart: kernels run in processes of their own, so that a failure tells nothing of the worker.
    """

    workers: int
    overlap: bool
    build_timeout_s: float
    run_timeout_s: float
    apart: bool = False


def pool_of(work: Workload, memory_limit_mb: int | None) -> WorkerPool[messages.Reply]:
    """A pool whose workers load this workload; raises EvaluatorError where it cannot be sent to them."""
    payload = unnamed_file(pack(work))

    def start(sock: socket.socket, stderr: int) -> Process:
        settings, files = {"memory_limit_mb": memory_limit_mb}, {"payload": payload.fileno()}
        return boot("autotune.shell.evaluators.worker_main", settings, sock, files, stderr)

    return WorkerPool(start, messages.decode_reply, memory_limit_mb=memory_limit_mb, files=(payload,))


@dataclass(eq=False, kw_only=True)
class _Contender(Contender):
    """fresh: it needs a worker that has served no config before."""

    trial: Trial
    worker: Worker[messages.Reply] | None = None
    fresh: bool = False


class _WorkerComparison:
    """A comparison in workers: every trial is built in a worker of its own and stays there.

    At most `rules.workers` configs are built side by side; then they are prepared, sampled and verified one at a time,
    while the other workers are stopped, unless `rules.overlap`. A verification takes workers that have served no
    config before.
    """

    def __init__(
        self, task: Compare, pool: WorkerPool[messages.Reply], rules: WorkerRules, clock: Callable[[], float]
    ) -> None:
        fresh = task.purpose == "verify"
        contenders = [_Contender(trial=trial, place=place, fresh=fresh) for place, trial in enumerate(task.trials)]
        self._task = task
        self._state = Comparison.of(task, contenders, clock)
        self._pool = pool
        self._rules = rules
        self._acting: tuple[_Contender, Step] | None = None
        for worker in pool.idle() if fresh else ():
            if worker.served:
                pool.kill(worker)

    def advance(self) -> tuple[tuple[int, Outcome], ...] | None:
        """Give the next orders; the outcomes once there are none left, and None before."""
        if self._acting is not None or self._build_some():
            return None
        self._acting = self._state.next()
        if self._acting is None:
            return self._outcomes()
        contender, step = self._acting
        assert contender.worker is not None, "only a contender without a worker is still to be built"
        if not self._rules.overlap:
            self._pool.run_alone(contender.worker)
        self._pool.send(contender.worker, _ORDERS[step], self._rules.run_timeout_s)
        return None

    def receive(self, worker: Worker[messages.Reply], reply: messages.Reply | Lost) -> None:
        """Take in the answer of a worker, or its end."""
        contender = next((one for one in self._state.contenders if one.worker is worker), None)
        if contender is None:
            return
        step: Step = "build"
        if self._acting is not None and self._acting[0] is contender:
            (_, step), self._acting = self._acting, None
        match reply:
            case messages.Built(seconds):
                contender.finish("build", seconds)
            case messages.StepDone(seconds, time_ms):
                contender.finish(step, seconds, time_ms or 0.0)
            case messages.Ended(Failed() as failed):
                self._drop(contender, worker, failed)
            case Lost("crash", message):
                self._drop(contender, worker, Failed("crash", message))
            case Lost("timeout", message):
                self._drop(contender, worker, Failed("compile_timeout" if step == "build" else "run_timeout", message))
            case _:
                self._drop(contender, worker, Failed("crash", "the worker answered something that was not asked"))

    def _build_some(self) -> bool:
        """Order builds as far as there are workers for them; whether any build is still to come."""
        idle_unfit = 0
        alive = self._state.alive
        waiting = deque(one for one in alive if one.stage == "waiting")
        building = sum(one.stage == "building" for one in alive)
        while waiting and building < self._rules.workers:
            contender = waiting[0]
            worker = next((w for w in self._pool.idle() if w.served == 0 or not contender.fresh), None)
            if worker is None:
                idle_unfit = len(self._pool.idle())
                break
            waiting.popleft()
            building += 1
            contender.worker, contender.stage, worker.held = worker, "building", True
            self._pool.send(worker, messages.Build(contender.trial.config.to_json()), self._rules.build_timeout_s)
        # Workers for configs that still wait start now, side by side, also where they will not build at once.
        for _ in range(len(waiting) - self._pool.starting - len(self._pool.idle()) + idle_unfit):
            self._pool.spawn()
        if waiting:
            self._pool.resume()
        return bool(waiting) or building > 0

    def _drop(self, contender: _Contender, worker: Worker[messages.Reply], failed: Failed) -> None:
        """A failure that an earlier config of the worker may have caused gets a second try in a fresh one."""
        excusable = failed.kind in EXCUSABLE and worker.served > 1 and not contender.times_ms and not self._rules.apart
        self._pool.kill(worker)
        contender.worker = None
        if excusable:
            contender.stage, contender.fresh = "waiting", True
        else:
            contender.fail(failed)

    def _outcomes(self) -> tuple[tuple[int, Outcome], ...]:
        self._pool.resume()
        for contender in self._state.contenders:
            if contender.worker is not None:
                self._pool.release(contender.worker)
        return tuple((t.id, one) for t, one in zip(self._task.trials, self._state.outcomes(), strict=True))


_ORDERS: dict[Step, messages.Order] = {
    "prepare": messages.Prepare(),
    "sample": messages.Sample(),
    "verify": messages.Verify(),
}


@dataclass(eq=False)
class _Job:
    trial: Trial
    limits: Limits
    fresh: bool = False
    stage: Literal["building", "built", "running"] = "building"
    compile_s: float = 0.0


class IsolatedSession(WorkerSession):
    """See `CallableEvaluator`. Its state: a queue, the job of each worker, and the worker whose turn it is to run."""

    def __init__(self, pool: WorkerPool[messages.Reply], rules: WorkerRules, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._pool = pool
        self._rules = rules
        self._queue: deque[_Job] = deque()
        self._jobs: dict[Worker[messages.Reply], _Job] = {}
        self._turn: Worker[messages.Reply] | None = None
        self._comparison: _WorkerComparison | None = None

    @property
    def room(self) -> int:
        """One more than there are workers, so that none idles while the search thinks of the next config; but with one
        worker no more than one, for then the search would disturb the timing while it thinks, and know less."""
        most = self._rules.workers + (self._rules.workers > 1)
        return 0 if self._comparison else max(0, most - len(self._queue) - len(self._jobs))

    def submit(self, trials: Sequence[Trial], limits: Limits) -> None:
        self._queue.extend(_Job(trial, limits) for trial in trials)
        self._dispatch()

    def compare(self, task: Compare) -> None:
        self._comparison = _WorkerComparison(task, self._pool, self._rules, self._clock)
        self._dispatch()

    def abandon(self) -> None:
        """Drop all; workers that are in the middle of something are killed."""
        self._queue.clear()
        self._jobs.clear()
        self._news.clear()
        self._turn, self._comparison = None, None
        self._pool.kill_busy()
        self._pool.resume()

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    @property
    def _busy(self) -> bool:
        return bool(self._queue or self._jobs or self._comparison)

    def _dispatch(self) -> None:
        if self._comparison is not None and not self._jobs and not self._queue:
            self._advance_comparison(self._comparison)
        else:
            self._give_turn()
            if self._turn is None or self._rules.overlap:
                self._give_builds()

    def _advance_comparison(self, comparison: _WorkerComparison) -> None:
        outcomes = comparison.advance()
        if outcomes is not None:
            self._comparison = None
            self._news.append(Compared(self.now(), outcomes))

    def _give_turn(self) -> None:
        ready = next((worker for worker, job in self._jobs.items() if job.stage == "built"), None)
        if self._turn is not None or ready is None:
            return
        job, allowed = self._jobs[ready], self._rules.run_timeout_s
        job.stage, self._turn = "running", ready
        if not self._rules.overlap:
            self._pool.run_alone(ready)
        self._pool.send(ready, messages.RunBuilt(job.limits.cutoff_ms, SAMPLING_SHARE * allowed), allowed)

    def _give_builds(self) -> None:
        while self._queue and len(self._jobs) < self._rules.workers:
            job = self._queue[0]
            worker = next((w for w in self._pool.idle() if w.served == 0 or not job.fresh), None)
            if worker is None:
                break
            self._queue.popleft()
            self._jobs[worker], worker.held = job, True
            allowed = job.limits.compile_seconds(self._rules.build_timeout_s)
            self._pool.send(worker, messages.Build(job.trial.config.to_json()), allowed)
        for _ in range(min(len(self._queue), self._rules.workers - len(self._jobs)) - self._pool.starting):
            self._pool.spawn()

    def _receive(self, seconds: float) -> bool:
        answers = self._pool.wait(seconds)
        for worker, reply in answers:
            self._take_in(worker, reply)
        return bool(answers)

    def _take_in(self, worker: Worker[messages.Reply], reply: messages.Reply | Lost) -> None:
        job = self._jobs.get(worker)
        if job is None:
            if self._comparison is not None:
                self._comparison.receive(worker, reply)
            return
        building = job.stage == "building"
        match reply:
            case messages.Built(seconds):
                job.stage, job.compile_s = "built", max(0.0, seconds - worker.paused_s)
            case messages.Ended(outcome):
                compile_s = max(0.0, outcome.compile_s - worker.paused_s) if building else job.compile_s
                self._finish(worker, job, replace(outcome, compile_s=compile_s))
            case Lost("crash", message) if building:
                self._finish(worker, job, Failed("crash", f"building: {message}"))
            case Lost("crash", message):
                self._finish(worker, job, Failed("crash", f"running: {message}", job.compile_s))
            case Lost("timeout", message) if building:
                self._finish(worker, job, Failed("compile_timeout", f"building: {message}", worker.allowed_s))
            case Lost("timeout", message):
                failed = Failed("run_timeout", f"running: {message}", job.compile_s, worker.allowed_s)
                self._finish(worker, job, failed)
            case _:
                self._finish(worker, job, Failed("crash", "the worker answered something that was not asked"))

    def _finish(self, worker: Worker[messages.Reply], job: _Job, outcome: Outcome) -> None:
        del self._jobs[worker]
        if self._turn is worker:
            self._turn = None
            self._pool.resume()
        kind = outcome.kind if isinstance(outcome, Failed) else None
        apart = self._rules.apart
        self._pool.release(worker, suspect=kind in SUSPECT and not apart)
        for spare in self._pool.idle()[max(SPARES, self._rules.workers) :]:
            self._pool.kill(spare)
        if kind in EXCUSABLE and worker.served > 1 and not apart:
            self._queue.appendleft(_Job(job.trial, job.limits, fresh=True))
        else:
            self._news.append(Observed(self.now(), job.trial.id, outcome))
