"""An evaluator that answers trials from the cache if it can, and has the others measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from msgspec.structs import replace

from autotune.core.config import Config
from autotune.core.outcomes import Detail, Outcome, Trial
from autotune.core.search.messages import Asked, Compare, Compared, Event, Limits, Measure, Observed
from autotune.core.space import Space
from autotune.shell.cache.entries import CACHED
from autotune.shell.evaluators.protocol import Evaluator, Session


@dataclass(frozen=True)
class CachedEvaluator(Evaluator):
    """outcomes: by config, each with the detail that names the run that measured it. Comparisons are measured."""

    inner: Evaluator
    outcomes: Mapping[Config, Outcome]

    @property
    def exact(self) -> bool:
        return self.inner.exact

    @property
    def recovers(self) -> bool:
        return self.inner.recovers

    def describe(self) -> dict[str, Detail]:
        return self.inner.describe()

    def open(self, space: Space, past: Sequence[Event] = ()) -> Session:
        return _CachedSession(self.inner.open(space, drop_cached(past)), self.outcomes)


class _CachedSession(Session):
    """Trials whose outcome is known are reported at the next poll; the others go to the inner session."""

    def __init__(self, inner: Session, outcomes: Mapping[Config, Outcome]) -> None:
        self._inner = inner
        self._outcomes = outcomes
        self._known: list[Trial] = []

    @property
    def room(self) -> int:
        return self._inner.room

    @property
    def idle(self) -> bool:
        return not self._known and self._inner.idle

    def now(self) -> float:
        return self._inner.now()

    def submit(self, trials: Sequence[Trial], limits: Limits) -> None:
        self._known += [trial for trial in trials if trial.config in self._outcomes]
        rest = [trial for trial in trials if trial.config not in self._outcomes]
        if rest:
            self._inner.submit(rest, limits)

    def compare(self, task: Compare) -> None:
        self._inner.compare(task)

    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        if not self._known:
            return self._inner.poll(timeout_s)
        known, self._known = self._known, []
        return [Observed(self.now(), trial.id, self._outcomes[trial.config]) for trial in known]

    def abandon(self) -> None:
        self._known.clear()
        self._inner.abandon()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._inner.__exit__(*error)


def drop_cached(events: Sequence[Event]) -> tuple[Event, ...]:
    """The events that the inner session saw: without the trials that the cache answered."""
    cached = {e.trial for e in events if isinstance(e, Observed) and CACHED in e.outcome.details}
    if not cached:
        return tuple(events)
    return tuple(seen for event in events if (seen := _hide_cached(event, cached)) is not None)


def _hide_cached(event: Event, cached: set[int]) -> Event | None:
    match event:
        case Observed(trial=trial) if trial in cached and CACHED in event.outcome.details:
            return None
        case Asked(task=Measure() as task):
            rest = tuple(trial for trial in task.trials if trial.id not in cached)
            return replace(event, task=replace(task, trials=rest)) if rest else None
    return event
