"""The rounds of a comparison under way: in which order it runs, and when it is over.

It is over after all its rounds, or when the next one would not be done in time.
"""

from functools import cache

from autotune.core.search.messages import Compare
from autotune.core.search.rounds import order_of_round
from autotune.shell.evaluators.protocol import WallClock


class Rounds:
    """The rounds of one comparison, timed as they go by. Every evaluator that compares in turns keeps to them."""

    def __init__(self, task: Compare, clock: WallClock) -> None:
        self._rounds, self._until = task.rounds, task.until
        self._clock = clock
        self._began: float | None = None
        self._longest = 0.0
        self.order = cache(lambda number: order_of_round(task, number))
        """The order of round `number`, as positions in the task's trials."""

    def over(self, done: int) -> bool:
        """To be asked before each round: whether it is not to be begun, `done` of them being whole."""
        now = self._clock()
        if self._began is not None:
            self._longest = max(self._longest, now - self._began)
        self._began = now
        late = self._until is not None and now + self._longest > self._until
        return done >= self._rounds or (late and done > 0)
