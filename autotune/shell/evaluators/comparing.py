"""One comparison: every trial built in a worker of its own and kept there, then a sample of each in every round."""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from msgspec.structs import replace

from autotune.core.outcomes import Failed, FailureKind, Outcome, Trial, timed_or_failed
from autotune.core.search.messages import Compare
from autotune.shell.evaluators import wire
from autotune.shell.evaluators.protocol import WallClock
from autotune.shell.evaluators.rounds import Rounds
from autotune.shell.evaluators.worker import Lost, Worker
from autotune.shell.evaluators.workers import Crew


@dataclass(eq=False)
class _Entry:
    trial: Trial
    place: int
    worker: Worker[wire.Reply] | None = None
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
        crew: Crew[wire.Reply],
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
        order = wire.Prepare() if entry.stage == "built" else wire.Verify() if self._sampled else wire.Sample()
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

    def hear(self, worker: Worker[wire.Reply], reply: wire.Reply | Lost) -> None:
        """Take in what one of our workers answered, or that it is gone."""
        entry = next((e for e in self._entries if e.worker is worker), None)
        if entry is None:
            return
        if self._acting is entry:
            self._acting = None
        match reply:
            case wire.Built(seconds):
                entry.stage, entry.compile_s = "built", seconds
            case wire.Done(seconds, None):
                entry.stage = "verified" if self._sampled else "prepared"
                entry.run_s += seconds
            case wire.Done(seconds, time_ms) if time_ms is not None:
                entry.times_ms.append(time_ms)
                entry.run_s += seconds
            case wire.Ended(Failed() as failed):
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
            self._crew.give(worker, wire.Build(entry.trial.config.to_json()), self._build_timeout_s)
        # Those for whom there is nobody yet start now, side by side, also where they will not build at once.
        for _ in range(len(waiting) - self._crew.starting - len(self._crew.idle()) + idle_unfit):
            self._crew.hire()
        if waiting:
            self._crew.resume()
        return bool(waiting) or building > 0

    def _drop(self, entry: _Entry, worker: Worker[wire.Reply], failed: Failed) -> None:
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
