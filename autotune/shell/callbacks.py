"""A search for other programs: callbacks for each trial, and the logger "autotune".

The logger has a line (INFO) for each phase and each improvement, and a WARNING where the default or the first dozen
configs fail. Where the program has set up no logging, nothing is printed.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any

from autotune.core.arguments import argument_error
from autotune.core.errors import PlanError
from autotune.core.formatting import describe_error, format_milliseconds
from autotune.core.search.messages import Event, Observed, Told
from autotune.core.search.report import TrialRecord
from autotune.core.search.state import STRATEGY, Search
from autotune.shell.driver import Watch
from autotune.shell.progress_state import failure_notice, phase
from autotune.shell.warn import warn_user

OnTrial = Callable[[TrialRecord], object]
"""Called with each config once it is measured; what it returns is ignored."""

LOGGER = logging.getLogger("autotune")
LOGGER.addHandler(logging.NullHandler())  # else Python prints warnings where no logging is set up


def check_callbacks(callbacks: Any) -> tuple[OnTrial, ...]:
    """The callbacks as a tuple; raises PlanError for anything but functions."""
    if not isinstance(callbacks, Iterable) or not all(map(callable, found := tuple(callbacks))):
        raise argument_error("callbacks", callbacks, "a list of functions that take a trial's record", PlanError)
    return found


def watch_for(callbacks: tuple[OnTrial, ...]) -> Watch:
    """A watch that writes to the logger and calls the callbacks."""
    log, faulty = _SearchLog(), set[int]()

    def watch(search: Search, event: Event) -> None:
        log(search, event)
        if not callbacks or not isinstance(event, Observed | Told):
            return
        record = _record_of(search, event)
        for place, callback in enumerate(callbacks):
            try:
                callback(record)
            except Exception as error:
                if place not in faulty:
                    faulty.add(place)
                    warn_user(f"callbacks[{place}] failed at trial {record.trial}, and the search goes on without a "
                              f"further warning: {describe_error(error)}")  # fmt: skip

    return watch


def _record_of(search: Search, event: Observed | Told) -> TrialRecord:
    number = event.trial if isinstance(event, Observed) else event.trial.id
    trial = search.trials[number]
    batch = trial.generation if trial.origin == STRATEGY else None
    return TrialRecord.of(number, trial.config, event.outcome, trial.origin, batch)


class _SearchLog:
    """Writes the phases, the improvements and the failures of one search, each phase once."""

    def __init__(self) -> None:
        self._phases = set[str]()
        self._best_ms: float | None = None

    def __call__(self, search: Search, event: Event) -> None:
        if (notice := failure_notice(search, event)) is not None:
            LOGGER.warning("%s", notice)
        if not LOGGER.isEnabledFor(logging.INFO):
            return
        if (now := phase(search)) not in self._phases:
            self._phases.add(now)
            LOGGER.info("%s: %d evaluated", now, search.observed)
        if search.best_ms is not None and (self._best_ms is None or search.best_ms < self._best_ms):
            if self._best_ms is not None or isinstance(event, Observed | Told):
                config = f" with {search.trials[event.trial].config}" if isinstance(event, Observed) else ""
                LOGGER.info("first timing %s%s", format_milliseconds(search.best_ms), config)
            self._best_ms = search.best_ms
