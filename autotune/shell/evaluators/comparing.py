"""One comparison: every trial built in a worker of its own and kept there, then one sample of each in turn."""

from dataclasses import dataclass, field
from typing import Literal

from msgspec.structs import replace

from autotune.core.outcomes import Failed, FailureKind, Outcome, Trial, timed_or_failed
from autotune.core.search.messages import Compare
from autotune.shell.evaluators import wire
from autotune.shell.evaluators.workers import Crew, Lost, Worker


@dataclass(eq=False)
class _Entry:
    trial: Trial
    worker: Worker | None = None
    fresh: bool = False
    stage: Literal["waiting", "building", "built", "prepared"] = "waiting"
    compile_s: float = 0.0
    run_s: float = 0.0
    times_ms: list[float] = field(default_factory=list)
    failed: Failed | None = None


class Comparison:
    """Whatever is built, checked or timed is done one after another; only the workers start side by side."""

    def __init__(self, task: Compare, crew: Crew, build_timeout_s: float, run_timeout_s: float) -> None:
        self._entries = [_Entry(trial) for trial in task.trials]
        self._rounds = task.rounds
        self._crew = crew
        self._build_timeout_s = build_timeout_s
        self._run_timeout_s = run_timeout_s
        self._acting: _Entry | None = None

    def advance(self) -> tuple[tuple[int, Outcome], ...] | None:
        """Give the next order; the outcomes once there is none left, and None before."""
        if self._acting is not None:
            return None
        alive = [entry for entry in self._entries if entry.failed is None]
        for stage in ("waiting", "built"):
            entry = next((e for e in alive if e.stage == stage), None)
            if entry is not None:
                self._begin(entry)
                return None
        # The fewest samples first, ties in the order of the task: that is round after round.
        entry = min(alive, key=lambda e: len(e.times_ms), default=None)
        if entry is not None and len(entry.times_ms) < self._rounds:
            self._give(entry, wire.Sample(), self._run_timeout_s)
            return None
        return self._outcomes()

    def hear(self, worker: Worker, reply: wire.Reply | Lost) -> None:
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
                entry.stage, entry.run_s = "prepared", entry.run_s + seconds
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

    def _begin(self, entry: _Entry) -> None:
        """Prepare what is built, or build what waits, if a worker is there for it."""
        if entry.stage == "built":
            self._give(entry, wire.Prepare(), self._run_timeout_s)
            return
        worker = next((w for w in self._crew.idle() if w.served == 0 or not entry.fresh), None)
        if worker is not None:
            entry.worker, entry.stage, worker.held = worker, "building", True
            self._give(entry, wire.Build(entry.trial.config.to_json()), self._build_timeout_s)
            return
        for _ in range(sum(e.stage == "waiting" and e.failed is None for e in self._entries) - self._crew.starting):
            self._crew.hire()

    def _give(self, entry: _Entry, order: wire.Order, timeout_s: float) -> None:
        assert entry.worker is not None, "only an entry that has a worker acts"
        self._acting = entry
        self._crew.give(entry.worker, order, timeout_s)

    def _drop(self, entry: _Entry, worker: Worker, failed: Failed) -> None:
        """The entry failed; what an earlier config of its worker may have caused gets a second try in a fresh one."""
        excusable = failed.kind in ("crash", "out_of_memory") and worker.served > 1 and not entry.times_ms
        self._crew.dismiss(worker)
        entry.worker = None
        if excusable:
            entry.stage, entry.fresh = "waiting", True
        else:
            entry.failed = replace(failed, compile_s=entry.compile_s, run_s=entry.run_s)

    def _outcomes(self) -> tuple[tuple[int, Outcome], ...]:
        for entry in self._entries:
            if entry.worker is not None:
                self._crew.release(entry.worker)
        return tuple((e.trial.id, e.failed or timed_or_failed(e.times_ms, e.compile_s, e.run_s)) for e in self._entries)
