"""The parts of an evaluator: the protocol, the events that it reports, and a clock for them.

docs/reference/evaluators.md describes it.
"""

from autotune.core.outcomes import Failed, Outcome, Timed, Trial
from autotune.core.search.messages import Compare, Compared, Event, Limits, Observed
from autotune.core.search.rounds import order_of_round
from autotune.shell.evaluators.protocol import Evaluator, Session, WallClock, clock_after

__all__ = [
    "Compare",
    "Compared",
    "Evaluator",
    "Event",
    "Failed",
    "Limits",
    "Observed",
    "Outcome",
    "Session",
    "Timed",
    "Trial",
    "WallClock",
    "clock_after",
    "order_of_round",
]
