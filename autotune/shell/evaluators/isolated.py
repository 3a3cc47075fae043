"""A session whose configs are built and timed in worker processes: many may build, one at a time is timed.

One comparison: every trial built in a worker of its own and kept there, then a sample of each in every round.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, NamedTuple, Self

from msgspec.structs import replace

from autotune.core.outcomes import Failed, FailureKind, Outcome, Trial, timed_or_failed
from autotune.core.search.messages import Compare, Compared, Limits, Observed
from autotune.shell.evaluators.protocol import Rounds, WallClock
from autotune.shell.processes import messages
from autotune.shell.processes.pool import Crew, Lost, Worker


@dataclass(eq=False)
class _Entry:
    trial: Trial
    place: int
    worker: Worker[messages.Reply] | None = None
    fresh: bool = False
    stage: Literal["waiting", "building", "built", "prepared", "verified"] = "waiting"
    compile_s: float = 0.0
    run_s: float = 0.0
    times_ms: list[float] = field(default_factory=list)
    failed: Failed | None = None


class Comparison:
    """At most `builders` configs are built side by side; then checked, timed, and checked again, one at a time.

    The others are stopped meanwhile, unless `overlap`. The one that decides, "verify", is in workers that have served
    no config before.
    """

    def __init__(
        self,
        task: Compare,
        crew: Crew[messages.Reply],
        clock: WallClock,
        builders: int,
        overlap: bool,
        build_timeout_s: float,
        run_timeout_s: float,
    ) -> None:
        fresh = task.purpose == "verify"
        self._entries = [_Entry(trial, place, fresh=fresh) for place, trial in enumerate(task.trials)]
        self._rounds = Rounds(task, clock)
        self._crew = crew
        self._builders = builders
        self._overlap = overlap
        self._build_timeout_s = build_timeout_s
        self._run_timeout_s = run_timeout_s
        self._acting: _Entry | None = None
        self._sampled = False
        for worker in crew.idle() if fresh else ():
            if worker.served:
                crew.dismiss(worker)

    def advance(self) -> tuple[tuple[int, Outcome], ...] | None:
        """Give the next orders; the outcomes once there are none left, and None before."""
        if self._acting is not None or self._build_some():
            return None
        entry = self._next()
        if entry is None:
            return self._outcomes()
        assert entry.worker is not None, "only an entry without a worker is still to be built"
        self._acting = entry
        if not self._overlap:
            self._crew.run_alone(entry.worker)
        order = (
            messages.Prepare() if entry.stage == "built" else messages.Verify() if self._sampled else messages.Sample()
        )
        self._crew.give(entry.worker, order, self._run_timeout_s)
        return None

    def _next(self) -> _Entry | None:
        """The entry that is to do something; None once all rounds are over and all entries are verified."""
        alive = [entry for entry in self._entries if entry.failed is None]
        if not self._sampled:
            entry = min(alive, key=self._turn, default=None)
            begins = entry is not None and entry.stage == "prepared" and len({len(e.times_ms) for e in alive}) == 1
            if entry is None or not begins or not self._rounds.over(len(entry.times_ms)):
                return entry
            self._sampled = True
        return next((entry for entry in alive if entry.stage != "verified"), None)

    def _turn(self, entry: _Entry) -> tuple[bool, int, int]:
        """What is not prepared comes first; then round after round, and within one in its order."""
        done = len(entry.times_ms)
        return entry.stage == "prepared", done, self._rounds.order(done).index(entry.place)

    def hear(self, worker: Worker[messages.Reply], reply: messages.Reply | Lost) -> None:
        """Take in what one of our workers answered, or that it is gone."""
        entry = next((e for e in self._entries if e.worker is worker), None)
        if entry is None:
            return
        if self._acting is entry:
            self._acting = None
        match reply:
            case messages.Built(seconds):
                entry.stage, entry.compile_s = "built", seconds
            case messages.Done(seconds, None):
                entry.stage = "verified" if self._sampled else "prepared"
                entry.run_s += seconds
            case messages.Done(seconds, time_ms) if time_ms is not None:
                entry.times_ms.append(time_ms)
                entry.run_s += seconds
            case messages.Ended(Failed() as failed):
                self._drop(entry, worker, failed)
            case Lost("crash", message):
                self._drop(entry, worker, Failed("crash", message))
            case Lost("timeout", message):
                late: FailureKind = "compile_timeout" if entry.stage == "building" else "run_timeout"
                self._drop(entry, worker, Failed(late, message))
            case _:
                self._drop(entry, worker, Failed("crash", "the worker answered something that was not asked"))

    def _build_some(self) -> bool:
        """Order builds as far as there are workers for them; whether any build is still to come."""
        idle_unfit = 0
        waiting = deque(e for e in self._entries if e.stage == "waiting" and e.failed is None)
        building = sum(e.stage == "building" and e.failed is None for e in self._entries)
        while waiting and building < self._builders:
            entry = waiting[0]
            worker = next((w for w in self._crew.idle() if w.served == 0 or not entry.fresh), None)
            if worker is None:
                idle_unfit = len(self._crew.idle())
                break
            waiting.popleft()
            building += 1
            entry.worker, entry.stage, worker.held = worker, "building", True
            self._crew.give(worker, messages.Build(entry.trial.config.to_json()), self._build_timeout_s)
        # Those for whom there is nobody yet start now, side by side, also where they will not build at once.
        for _ in range(len(waiting) - self._crew.starting - len(self._crew.idle()) + idle_unfit):
            self._crew.hire()
        if waiting:
            self._crew.resume()
        return bool(waiting) or building > 0

    def _drop(self, entry: _Entry, worker: Worker[messages.Reply], failed: Failed) -> None:
        """The entry failed; what an earlier config of its worker may have caused gets a second try in a fresh one."""
        excusable = failed.kind in ("crash", "out_of_memory") and worker.served > 1 and not entry.times_ms
        self._crew.dismiss(worker)
        entry.worker = None
        if excusable:
            entry.stage, entry.fresh = "waiting", True
        else:
            entry.failed = replace(failed, compile_s=entry.compile_s, run_s=entry.run_s)

    def _outcomes(self) -> tuple[tuple[int, Outcome], ...]:
        self._crew.resume()
        for entry in self._entries:
            if entry.worker is not None:
                self._crew.release(entry.worker)
        return tuple((e.trial.id, e.failed or timed_or_failed(e.times_ms, e.compile_s, e.run_s)) for e in self._entries)


LONGEST_POLL_S = 0.25
SUSPECT: frozenset[FailureKind] = frozenset({"crash", "out_of_memory", "wrong_answer"})
"""Failures after which a worker's memory is not to be trusted."""
EXCUSABLE: frozenset[FailureKind] = frozenset({"crash", "out_of_memory"})
"""Failures that an earlier config of the same worker may have caused: they get a second chance in a fresh worker."""
SPARES = 6
SAMPLING_SHARE = 0.8


class Rules(NamedTuple):
    """workers: how many configs may be built or wait for their turn; overlap: builds go on while a kernel is timed."""

    workers: int
    overlap: bool
    build_timeout_s: float
    run_timeout_s: float


@dataclass(eq=False)
class _Job:
    trial: Trial
    limits: Limits
    fresh: bool = False
    stage: Literal["building", "built", "running"] = "building"
    compile_s: float = 0.0


class IsolatedSession:
    """See `CallableEvaluator`; the state is a queue, the job of each worker, and whose turn it is."""

    def __init__(self, crew: Crew[messages.Reply], rules: Rules, clock: WallClock) -> None:
        self._crew = crew
        self._rules = rules
        self._clock = clock
        self._queue: deque[_Job] = deque()
        self._jobs: dict[Worker[messages.Reply], _Job] = {}
        self._turn: Worker[messages.Reply] | None = None
        self._comparison: Comparison | None = None
        self._news: list[Observed | Compared] = []

    @property
    def room(self) -> int:
        """One more than there are workers, so that none idles while the next config is thought of; but with one worker
        no more than one, for then whoever thinks would disturb the timing and know less."""
        most = self._rules.workers + (self._rules.workers > 1)
        return 0 if self._comparison else max(0, most - len(self._queue) - len(self._jobs))

    @property
    def idle(self) -> bool:
        """Whether nothing is queued, running or waiting to be reported."""
        return not (self._under_way or self._news)

    def now(self) -> float:
        """Seconds since the search began."""
        return self._clock()

    def submit(self, trials: Sequence[Trial], limits: Limits) -> None:
        """Queue trials; building begins at once."""
        self._queue.extend(_Job(trial, limits) for trial in trials)
        self._dispatch()

    def compare(self, task: Compare) -> None:
        """Queue a comparison: every trial in a worker of its own, new for the last comparison; samples in turn."""
        rules = self._rules
        self._comparison = Comparison(
            task, self._crew, self._clock, rules.workers, rules.overlap, rules.build_timeout_s, rules.run_timeout_s
        )
        self._dispatch()

    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        """What has finished; raises EvaluatorError if the workload itself cannot be loaded."""
        until = self.now() + (LONGEST_POLL_S if timeout_s is None else min(timeout_s, LONGEST_POLL_S))
        while True:
            self._dispatch()
            left = until - self.now()
            news = self._crew.wait(0.0 if self._news else max(0.0, left)) if self._under_way else []
            for worker, reply in news:
                self._hear(worker, reply)
            if news:
                self._dispatch()
            if self._news or not self._under_way or left <= 0:
                found, self._news = self._news, []
                return found

    def abandon(self) -> None:
        """Drop all; workers that are in the middle of something are killed."""
        self._queue.clear()
        self._jobs.clear()
        self._news.clear()
        self._turn, self._comparison = None, None
        self._crew.dismiss_busy()
        self._crew.resume()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._crew.close()

    @property
    def _under_way(self) -> bool:
        return bool(self._queue or self._jobs or self._comparison)

    def _dispatch(self) -> None:
        """Give out all orders that can be given now."""
        if self._comparison is not None and not self._jobs and not self._queue:
            self._advance_comparison(self._comparison)
        else:
            self._give_turn()
            if self._turn is None or self._rules.overlap:
                self._give_builds()

    def _advance_comparison(self, comparison: Comparison) -> None:
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
            self._crew.run_alone(ready)
        self._crew.give(ready, messages.Run(job.limits.cutoff_ms, SAMPLING_SHARE * allowed), allowed)

    def _give_builds(self) -> None:
        while self._queue and len(self._jobs) < self._rules.workers:
            job = self._queue[0]
            worker = next((w for w in self._crew.idle() if w.served == 0 or not job.fresh), None)
            if worker is None:
                break
            self._queue.popleft()
            self._jobs[worker], worker.held = job, True
            limit = job.limits.compile_timeout_s
            allowed = self._rules.build_timeout_s if limit is None else min(limit, self._rules.build_timeout_s)
            self._crew.give(worker, messages.Build(job.trial.config.to_json()), allowed)
        for _ in range(min(len(self._queue), self._rules.workers - len(self._jobs)) - self._crew.starting):
            self._crew.hire()

    def _hear(self, worker: Worker[messages.Reply], reply: messages.Reply | Lost) -> None:
        job = self._jobs.get(worker)
        if job is None:
            if self._comparison is not None:
                self._comparison.hear(worker, reply)
            return
        match reply:
            case messages.Built(seconds):
                job.stage, job.compile_s = "built", max(0.0, seconds - worker.paused_s)
            case messages.Ended(outcome):
                paused = worker.paused_s if job.stage == "building" else 0.0
                compile_s = max(0.0, outcome.compile_s - paused) if job.stage == "building" else job.compile_s
                self._finish(worker, job, replace(outcome, compile_s=compile_s))
            case Lost(why, message):
                building = job.stage == "building"
                late: FailureKind = "compile_timeout" if building else "run_timeout"
                phase = "building" if building else "running"
                failed = Failed("crash" if why == "crash" else late, f"{phase}: {message}")
                spent = worker.allowed_s if why == "timeout" else 0.0
                times = {"compile_s": spent} if building else {"compile_s": job.compile_s, "run_s": spent}
                self._finish(worker, job, replace(failed, **times))
            case _:
                self._finish(worker, job, Failed("crash", "the worker answered something that was not asked"))

    def _finish(self, worker: Worker[messages.Reply], job: _Job, outcome: Outcome) -> None:
        del self._jobs[worker]
        if self._turn is worker:
            self._turn = None
            self._crew.resume()
        kind = outcome.kind if isinstance(outcome, Failed) else None
        self._crew.release(worker, suspect=kind in SUSPECT)
        for spare in self._crew.idle()[max(SPARES, self._rules.workers) :]:
            self._crew.dismiss(spare)
        if kind in EXCUSABLE and worker.served > 1:
            self._queue.appendleft(_Job(job.trial, job.limits, fresh=True))
        else:
            self._news.append(Observed(self.now(), job.trial.id, outcome))
