"""When an interleaved comparison is over: after all its rounds, or when the next would not be done in time."""

from autotune.core.search.messages import Compare
from autotune.shell.evaluators.protocol import WallClock


class Rounds:
    """The rounds of one comparison, timed as they go by."""

    def __init__(self, task: Compare, clock: WallClock) -> None:
        self._rounds, self._until = task.rounds, task.until
        self._clock = clock
        self._began: float | None = None
        self._longest = 0.0

    def over(self, done: int) -> bool:
        """To be asked before each round: whether it is not to be begun, `done` of them being whole."""
        now = self._clock()
        if self._began is not None:
            self._longest = max(self._longest, now - self._began)
        self._began = now
        late = self._until is not None and now + self._longest > self._until
        return done >= self._rounds or (late and done > 0)
