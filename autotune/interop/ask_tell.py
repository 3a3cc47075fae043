"""The search behind an ask-and-tell interface, for tuners that keep the loop: they ask for trials and tell outcomes."""

from collections import deque
from collections.abc import Mapping
from math import inf, isfinite
from typing import Any

from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Failed, Outcome, Timed, Trial
from autotune.core.search.messages import Asked, Compare, Conclude, Finished, Measure, Observed, Wait
from autotune.core.search.request import request
from autotune.core.search.state import advance, start
from autotune.core.space import Space
from autotune.core.strategies.protocol import AnyStrategy
from autotune.shell.plans import make_plan

_SETTINGS: Mapping[str, Any] = {"restarts": 1_000, "simplify_rounds": 0, "verify_rounds": 0}
"""The other tuner decides how many evaluations there are, so a strategy that ends begins again."""


class AskTellSearch:
    """A search under way. Arguments as for `tune`. finished: there will be nothing more to try."""

    def __init__(
        self,
        space: Space,
        strategy: str | AnyStrategy,
        *,
        seed: int = 0,
        effort: str = "full",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        settings = {**_SETTINGS, **(settings or {})}
        self.search = start(make_plan(space, strategy, exact=True, effort=effort, seed=seed, settings=settings))
        self.finished = False
        self._queue: deque[Trial] = deque()

    def ask(self) -> Trial | None:
        """The next trial; None when there is none before an outcome is told, or, if `finished`, ever."""
        return self._queue.popleft() if self.has_next() else None

    def has_next(self) -> bool:
        """Whether there is a trial to ask for now; looks for one."""
        while not self._queue and not self.finished:
            todo = request(self.search)
            match todo:
                case Measure(trials=trials):
                    self.search = advance(self.search, Asked(0.0, 1, todo))
                    self._queue.extend(trials)
                case Conclude() | Compare():
                    self.search = advance(self.search, Asked(0.0, 1, todo))
                case Finished():
                    self.finished = True
                case Wait():
                    break
        return bool(self._queue)

    def ask_batch(self) -> list[Trial]:
        """All trials that the strategy wants at once; none when it is finished."""
        first = self.ask()
        if first is None:
            return []
        batch = [first, *self._queue]
        self._queue.clear()
        return batch

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        self.search = advance(self.search, Observed(0.0, trial.id, outcome))


def objective_outcome(value: float | None, maximize: bool = False) -> Outcome:
    """The outcome of an objective: a time to minimise, or a rate, such as GFLOP/s, to maximise.

    A rate counts as the time that one unit takes. None, NaN and infinity are failures. Raises EvaluatorError for a
    value that is neither a time nor a rate, because it is not above zero.
    """
    if value is None or not isfinite(value):
        return Failed("unknown", "no value" if value is None else f"the value {value}")
    time = value if not maximize else (1 / value if value > 0 else value)
    if not 0 < time < inf:
        raise EvaluatorError(f"the objective gave {value!r}; give a time or a rate, which is above zero")
    return Timed((time,))
