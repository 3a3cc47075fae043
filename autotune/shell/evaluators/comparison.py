"""One comparison: which config is built, prepared, sampled or verified next. Every evaluator that compares follows it.

A config is built, then prepared (its first call, the check of its output, warm-up), then sampled once in each round,
and its output is checked again after its last sample. Each round has an order of its own. When rounds end, the core
decides (`core/search/rounds.py`); a config that fails drops out, and the others go on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from time import perf_counter
from typing import Generic, Literal, TypeVar

from msgspec.structs import replace

from autotune.core.outcomes import Failed, Outcome, timed_or_failed
from autotune.core.search.messages import Compare
from autotune.core.search.rounds import Rounds, next_round, order_of_round, rounds_of

Step = Literal["build", "prepare", "sample", "verify"]


@dataclass(eq=False, kw_only=True)
class Contender:
    """A config in a comparison and its measurements so far.

    place: its position in the task's trials. compile_s, run_s: seconds spent on building it, and on running it.
    times_ms: its samples in milliseconds, one for each round. failed: why it dropped out.
    """

    place: int
    stage: Literal["waiting", "building", "built", "prepared", "verified"] = "waiting"
    compile_s: float = 0.0
    run_s: float = 0.0
    times_ms: list[float] = field(default_factory=list)
    failed: Failed | None = None

    def finish(self, step: Step, seconds: float, time_ms: float = 0.0) -> None:
        """Record that a step went well and took so many seconds; time_ms: the sample, if it was one."""
        if step == "build":
            self.stage, self.compile_s = "built", seconds
            return
        self.run_s += seconds
        if step == "sample":
            self.times_ms.append(time_ms)
        else:
            self.stage = "prepared" if step == "prepare" else "verified"

    def fail(self, failed: Failed) -> None:
        """Drop out of the comparison."""
        self.failed = replace(failed, compile_s=self.compile_s or failed.compile_s, run_s=self.run_s)

    def outcome(self) -> Outcome:
        return self.failed or timed_or_failed(self.times_ms, self.compile_s, self.run_s)


C = TypeVar("C", bound=Contender)


class Comparison(Generic[C]):
    """The state of one comparison.

    order: the places of the contenders in the order of round `n`. clock: seconds, on the clock of `rounds.until`.
    """

    def __init__(
        self, contenders: Sequence[C], rounds: Rounds, order: Callable[[int], Sequence[int]], clock: Callable[[], float]
    ) -> None:
        self.contenders = list(contenders)
        self.sampled = False
        """Whether all rounds are over."""
        self._rounds = rounds
        self._order = cache(order)
        self._clock = clock

    @classmethod
    def of(
        cls, task: Compare, contenders: Sequence[C], clock: Callable[[], float], extend: bool = False
    ) -> "Comparison[C]":
        """The comparison that a search asks for; the contenders are its trials. extend: see `rounds_of`."""
        return cls(contenders, rounds_of(task, extend), lambda number: order_of_round(task, number), clock)

    @property
    def alive(self) -> list[C]:
        return [contender for contender in self.contenders if contender.failed is None]

    def next(self) -> tuple[C, Step] | None:
        """The contender whose turn it is, and its step; None once all rounds are over and all are verified.

        A contender that is not prepared comes first. To be asked when no contender is at work.
        """
        alive = self.alive
        if not self.sampled:
            contender = min(alive, key=self._turn, default=None)
            if contender is None:
                return None
            if contender.stage != "prepared":
                return contender, "build" if contender.stage == "waiting" else "prepare"
            whole = len({len(one.times_ms) for one in alive}) == 1
            if not whole or self._begins_round(alive):
                return contender, "sample"
            self.sampled = True
        return next(((one, "verify") for one in alive if one.stage != "verified"), None)

    def outcomes(self) -> list[Outcome]:
        return [contender.outcome() for contender in self.contenders]

    def _turn(self, contender: C) -> tuple[bool, int, int]:
        done = len(contender.times_ms)
        return contender.stage == "prepared", done, self._order(done).index(contender.place)

    def _begins_round(self, alive: Sequence[C]) -> bool:
        samples = [one.times_ms for one in alive]
        begun = next_round(self._rounds, len(samples[0]), self._clock(), samples)
        self._rounds = self._rounds if begun is None else begun
        return begun is not None


def take_turns(comparison: Comparison[C], act: Callable[[C, Step], float | Failed | None]) -> list[Outcome]:
    """Carry out a comparison in this process; the outcome of each contender.

    act: does one step of a contender, and returns its failure, the sample in milliseconds, or None for other steps.
    """
    while (turn := comparison.next()) is not None:
        contender, step = turn
        start = perf_counter()
        answer = act(contender, step)
        seconds = perf_counter() - start
        if isinstance(answer, Failed):
            contender.run_s += 0.0 if step == "build" else seconds
            contender.fail(answer)
        else:
            contender.finish(step, seconds, answer or 0.0)
    return comparison.outcomes()
