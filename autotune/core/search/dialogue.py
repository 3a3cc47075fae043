"""A search that is led by asking and telling: which config a loop outside measures next, and what its answer means.

The machine asks for batches of new trials and for comparisons. A loop that asks and tells gets one config at a time:
the trials of a batch in order, and in a comparison each contender once a round, in the order of the round. So a loop
that measures whatever it is given also carries out the final comparison. All of this follows from the events alone, so
a loop that was killed, or another process, goes on where the journal ends.
"""

from collections import Counter
from collections.abc import Mapping
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from autotune.core.config import Config, Value
from autotune.core.errors import PlanError
from autotune.core.outcomes import Failed, Outcome, Timed, Trial
from autotune.core.search.limits import deadline, search_deadline
from autotune.core.search.messages import (
    Asked,
    Compare,
    Compared,
    Dispatched,
    Event,
    Finished,
    Interrupted,
    Measure,
    Observed,
    Reported,
    Resumed,
    Sampled,
    Ticked,
    Told,
    Wait,
)
from autotune.core.search.plan import Plan
from autotune.core.search.request import request
from autotune.core.search.rounds import order_of_round
from autotune.core.search.state import OTHER, SIMPLIFY, TOLD, Search, advance, start

SETTINGS: Mapping[str, int] = {
    "simplify_rounds": 0, "confirm_times": 0, "contenders": 3, "finalists": 3, "verify_rounds": 7,
}  # fmt: skip
"""Settings of the machine that differ for a loop that asks and tells, since each sample of a comparison may cost it a
build and a run: one comparison, at the end, of the three likeliest configs and the default. Seven rounds are the fewest
whose extremes enclose a median as often as `statistics.LEVEL` demands (1 - 2 / 2**7 is 0.984)."""


class Dialogue(Struct, frozen=True):
    """A search and the answers that it waits for.

    held: the trials that were handed out and not answered yet, the oldest first; in a comparison a trial may occur
    several times. samples: the answers to the comparison under way, in the order they arrived, by trial.
    """

    search: Search
    held: tuple[int, ...] = ()
    samples: tuple[tuple[int, Outcome], ...] = ()


def begin_dialogue(plan: Plan) -> Dialogue:
    """The dialogue before anything is measured."""
    return Dialogue(start(plan))


def follow(dialogue: Dialogue, event: Event) -> Dialogue:
    """The dialogue after an event; errors as of `advance`."""
    before = dialogue.search
    dialogue = replace(dialogue, search=advance(before, event))
    match event:
        case Dispatched(trial=trial) if before.comparing is None:  # handed out again, it becomes the latest
            return replace(dialogue, held=(*_without(dialogue.held, trial), trial))
        case Dispatched(trial=trial):
            return replace(dialogue, held=(*dialogue.held, trial))
        case Observed(trial=trial):
            return replace(dialogue, held=_without(dialogue.held, trial))
        case Sampled(trial=trial, outcome=outcome):
            held = list(dialogue.held)
            if trial in held:
                held.remove(trial)
            return replace(dialogue, held=tuple(held), samples=(*dialogue.samples, (trial, outcome)))
        case Asked(task=Measure()) | Told() | Ticked() | Reported():
            return dialogue
        case Asked() | Compared():  # a comparison begins or ends, or the strategy is over: nothing else is waited for
            return replace(dialogue, held=(), samples=())
        case Resumed() | Interrupted():  # nobody measures what another process had been given
            return replace(dialogue, held=())
    assert_never(event)


def _without(held: tuple[int, ...], trial: int) -> tuple[int, ...]:
    return tuple(other for other in held if other != trial)


def next_step(dialogue: Dialogue, room: int, now: float) -> Event | Trial | Wait | Finished:
    """What comes next: an event to record first, a trial to hand out, Wait, or Finished.

    Wait: nothing can be measured before one of the held trials is answered, or the clock reaches `until`. room: how
    many more trials the loop would take. now: seconds since the search began.
    """
    search = dialogue.search
    ends = search_deadline(search)
    if ends is not None and search.clock < ends <= now:
        return Ticked(now)
    last = deadline(search)
    if search.comparing is not None and (last is None or now < last):
        return _next_sample(dialogue, search.comparing, now)
    waiting = [trial for trial in _wanted(search) if trial.id not in dialogue.held]
    if waiting and (ends is None or search.clock < ends):
        return waiting[0]
    todo = request(search, room)
    if isinstance(todo, Finished):
        return todo
    if isinstance(todo, Wait):
        return Ticked(now) if todo.until is not None and search.clock < todo.until <= now else todo
    return Asked(now, room, todo)


def _wanted(search: Search) -> tuple[Trial, ...]:
    """The trials whose outcome the search still waits for; once the strategy is over, only those of simplification."""
    over = search.concluded is not None
    return tuple(trial for trial in search.pending if not over or trial.origin == SIMPLIFY)


def _next_sample(dialogue: Dialogue, task: Compare, now: float) -> Event | Trial | Wait:
    """The contender with the fewest samples, in the order of its round; `Compared` once all rounds are over."""
    failed = {trial for trial, outcome in dialogue.samples if isinstance(outcome, Failed)}
    alive = [place for place, trial in enumerate(task.trials) if trial.id not in failed]
    done = Counter(trial for trial, _ in dialogue.samples)
    rounds = min((done[task.trials[place].id] for place in alive), default=task.rounds)
    if rounds >= task.rounds or (rounds and task.until is not None and now >= task.until):
        return Compared(now, tuple((trial.id, _join(dialogue, trial.id, rounds)) for trial in task.trials))
    given = done + Counter(dialogue.held)
    number = min(given[task.trials[place].id] for place in alive)
    if number >= task.rounds:
        return Wait(task.until)
    behind = [place for place in alive if given[task.trials[place].id] == number]
    return task.trials[min(behind, key=order_of_round(task, number).index)]


def _join(dialogue: Dialogue, trial: int, rounds: int) -> Outcome:
    """One outcome from the answers for a contender: its first failure, or a sample for each round, the median of the
    samples that were told together."""
    answers = [outcome for other, outcome in dialogue.samples if other == trial]
    failure = next((answer for answer in answers if isinstance(answer, Failed)), None)
    if failure is not None:
        return failure
    timed = [answer for answer in answers if isinstance(answer, Timed)][:rounds]
    return replace(timed[-1], times_ms=tuple(answer.time_ms for answer in timed))


def answer(dialogue: Dialogue, config: Mapping[str, Value], outcome: Outcome, now: float) -> tuple[Event, ...]:
    """The events that record the outcome of a config.

    A config of the comparison under way gives one sample of it. Any other config that the search knows gives its
    outcome, and a second outcome replaces the first. A config that was not asked for is a known measurement: the
    strategy learns from it, it may be the pick, and it costs no evaluation of the budget.
    Raises ConfigError for a config outside of the space, and PlanError for an unknown one once the strategy is over.
    """
    search, events = dialogue.search, []
    row = search.plan.space.encode([search.plan.space.check(config)])
    if not len(search.trials) and isinstance(first := request(search, 1), Measure):  # the default is trial 0 if any
        events.append(Asked(now, 1, first))
        search = advance(search, events[0])
    known = int(search.points.places(row)[0])
    if known < 0:
        if search.concluded is not None or search.interrupted:
            raise PlanError(
                f"the search for new configs is over, and {Config(config)} was not asked for; "
                "tell of measurements of your own before the final comparison"
            )
        (canonical,) = search.plan.space.decode(row)
        return (*events, Told(now, Trial(len(search.trials), canonical, TOLD, generation=OTHER), outcome))
    if search.comparing is not None and known in [trial.id for trial in search.comparing.trials]:
        return (*events, Sampled(now, known, outcome))
    return (*events, Observed(now, known, outcome))
